"""The customers' keys: a port that a key service can stand behind, and Postgres behind it."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import asyncpg

KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class CustomerKey:
    """What a customer's personal data is sealed under."""

    key_id: str
    customer_id: str
    secret: bytes = field(repr=False)


class CustomerKeys(Protocol):
    """The store of keys. Keys are not cached beyond a request: erasure acts at once."""

    async def current(self, customer_id: str) -> CustomerKey:
        """The customer's key, made on first use; of two first uses at once, the same for both."""

    async def find(self, key_ids: Collection[str]) -> Mapping[str, CustomerKey | None]:
        """Keys by their ids; None for one that was erased, and no entry for an unknown one."""

    async def erase(self, customer_id: str) -> int:
        """Deletes all keys of a customer, for ever; returns how many there were to delete."""


class PostgresKeys:
    """The keys in a table beside the log."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def current(self, customer_id: str) -> CustomerKey:
        while True:
            row = await self._pool.fetchrow(
                """
                SELECT key_id, customer_id, secret FROM customer_keys
                WHERE customer_id = $1 AND erased_at IS NULL
                """,
                customer_id,
            )
            if row:
                return CustomerKey(**row)
            # The loser of this race finds the winner's key on the next read.
            await self._pool.execute(
                """
                INSERT INTO customer_keys (key_id, customer_id, secret) VALUES ($1, $2, $3)
                ON CONFLICT (customer_id) WHERE erased_at IS NULL DO NOTHING
                """,
                secrets.token_urlsafe(12),
                customer_id,
                secrets.token_bytes(KEY_BYTES),
            )

    async def find(self, key_ids: Collection[str]) -> Mapping[str, CustomerKey | None]:
        rows = await self._pool.fetch(
            "SELECT key_id, customer_id, secret FROM customer_keys WHERE key_id = ANY($1)",
            list(key_ids),
        )
        return {row["key_id"]: CustomerKey(**row) if row["secret"] else None for row in rows}

    async def erase(self, customer_id: str) -> int:
        # The rows stay, without their keys: so "erased" differs from "unknown".
        erased = await self._pool.fetch(
            """
            UPDATE customer_keys SET secret = NULL, erased_at = now()
            WHERE customer_id = $1 AND erased_at IS NULL RETURNING key_id
            """,
            customer_id,
        )
        return len(erased)
