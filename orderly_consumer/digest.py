"""Digests: how many events there are, and which, in a few characters."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

MODULUS = 2**64


@dataclass(frozen=True, slots=True)
class Digest:
    """A number of events, and the sum of the hashes of their ids. Count each event once."""

    count: int = 0
    sum: int = 0

    @classmethod
    def of(cls, *event_ids: str) -> Digest:
        return cls(len(event_ids), sum(map(event_hash, event_ids)) % MODULUS)

    @classmethod
    def parse(cls, count: int, digest: str) -> Digest:
        """From the response of a service."""
        return cls(count, int(digest, 16))

    def __add__(self, other: Digest) -> Digest:
        return Digest(self.count + other.count, (self.sum + other.sum) % MODULUS)

    def __str__(self) -> str:
        return f"{self.sum:016x}"


def event_hash(event_id: str) -> int:
    """The first 8 bytes of the SHA-256."""
    return int.from_bytes(sha256(event_id.encode()).digest()[:8])


def order_hash(order_id: str) -> str:
    """The hexadecimal digits with which the names of an order's slices begin."""
    return sha256(order_id.encode()).hexdigest()
