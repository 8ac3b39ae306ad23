"""The customers' keys: an interface that a key service can implement, and Postgres keys."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import asyncpg

KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class CustomerKey:
    """The key under which a customer's personal data is sealed."""

    key_id: str
    customer_id: str
    secret: bytes = field(repr=False)


def new_key(customer_id: str) -> CustomerKey:
    """A random key, which is stored nowhere."""
    return CustomerKey(secrets.token_urlsafe(12), customer_id, secrets.token_bytes(KEY_BYTES))


class ReadableKeys(Protocol):
    """What is needed to read addresses."""

    async def find(self, key_ids: Collection[str]) -> Mapping[str, CustomerKey | None]:
        """Keys by their ids; None for an erased one, no entry for an unknown one."""


class CustomerKeys(ReadableKeys, Protocol):
    """A store of keys. No caller keeps a key longer than a request, so erasure acts at once."""

    async def known(self, customer_id: str) -> CustomerKey | None:
        """The customer's key; None before its first use."""

    async def current(self, customer_id: str) -> CustomerKey:
        """The customer's key, created on first use; concurrent first uses get the same."""

    async def erase(self, customer_id: str) -> int:
        """Deletes all keys of a customer irrevocably; returns how many there were."""


class PostgresKeys:
    """Keys in a Postgres table."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def known(self, customer_id: str) -> CustomerKey | None:
        row = await self._pool.fetchrow(
            """
            SELECT key_id, customer_id, secret FROM customer_keys
            WHERE customer_id = $1 AND erased_at IS NULL
            """,
            customer_id,
        )
        return CustomerKey(**row) if row else None

    async def current(self, customer_id: str) -> CustomerKey:
        while True:
            if (key := await self.known(customer_id)) is not None:
                return key
            # The loser of a race finds the winner's key in the next round.
            fresh = new_key(customer_id)
            await self._pool.execute(
                """
                INSERT INTO customer_keys (key_id, customer_id, secret) VALUES ($1, $2, $3)
                ON CONFLICT (customer_id) WHERE erased_at IS NULL DO NOTHING
                """,
                fresh.key_id,
                customer_id,
                fresh.secret,
            )

    async def find(self, key_ids: Collection[str]) -> Mapping[str, CustomerKey | None]:
        rows = await self._pool.fetch(
            "SELECT key_id, customer_id, secret FROM customer_keys WHERE key_id = ANY($1)",
            list(key_ids),
        )
        return {row["key_id"]: CustomerKey(**row) if row["secret"] else None for row in rows}

    async def forget(self, key_id: str) -> bool:
        """Marks a key that was lost as erased; returns False if it is known."""
        marked = await self._pool.fetchval(
            """
            INSERT INTO customer_keys (key_id, customer_id, secret, erased_at)
            VALUES ($1, '', NULL, now()) ON CONFLICT (key_id) DO NOTHING RETURNING key_id
            """,
            key_id,
        )
        return marked is not None

    async def erase(self, customer_id: str) -> int:
        # The rows stay without their keys, so that an erased key differs from an unknown one.
        erased = await self._pool.fetch(
            """
            UPDATE customer_keys SET secret = NULL, erased_at = now()
            WHERE customer_id = $1 AND erased_at IS NULL RETURNING key_id
            """,
            customer_id,
        )
        return len(erased)


class UnstoredKeys:
    """Other keys, to which it adds none: a customer's first key is known only here."""

    def __init__(self, stored: CustomerKeys) -> None:
        self._stored = stored
        self._fresh: dict[str, CustomerKey] = {}
        """By key id."""

    async def known(self, customer_id: str) -> CustomerKey | None:
        return await self._stored.known(customer_id)

    async def current(self, customer_id: str) -> CustomerKey:
        if (known := await self.known(customer_id)) is not None:
            return known
        fresh = new_key(customer_id)
        self._fresh[fresh.key_id] = fresh
        return fresh

    async def find(self, key_ids: Collection[str]) -> Mapping[str, CustomerKey | None]:
        return {**await self._stored.find(key_ids), **self._fresh}

    async def erase(self, customer_id: str) -> int:
        raise NotImplementedError("nothing is stored, and nothing is erased")
