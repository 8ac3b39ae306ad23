"""Keeps in the intent journal what only the API knows: rejections, and no-ops of ended orders.

It never delays or fails a request: entries wait in memory and are written afterwards, and those for
which there is no room are dropped and counted.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime

import asyncpg

from api.gateway.command_message import CommandMessage
from background import BatchWriter
from eventlog.envelope import Ineffective
from eventlog.journal import append_ineffective
from workflows.command_handler import ineffective
from workflows.messages import Rejection

log = logging.getLogger("orderly.api")


class IntentRecorder:
    """Entries of one process that wait to be written."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.dropped = 0
        """How many had no room, or could not be written."""
        self._pool = pool
        self._writer = BatchWriter(self._write, self._drop)

    def add(
        self, message: CommandMessage, version: int, rejection: Rejection | None = None
    ) -> None:
        """Leaves a batch that an order of this version rejected, or on which it did nothing."""
        if self._writer.is_full:
            self.dropped += 1
            return
        now = datetime.now(UTC)
        entry = ineffective(message.batch, message.command_id, version, now, rejection)
        self._writer.add((message.order_id, entry))

    def running(self) -> AbstractAsyncContextManager[None]:
        """Writes entries in the background; at the end, those that still wait, if that is fast."""
        return self._writer.running()

    async def _write(self, entries: list[tuple[str, Ineffective]]) -> None:
        by_order = defaultdict[str, list[Ineffective]](list)
        for order_id, entry in entries:
            by_order[order_id].append(entry)
        for order_id, intents in by_order.items():
            try:
                async with self._pool.acquire() as connection:
                    await append_ineffective(connection, order_id, intents)
            except Exception as error:  # One order must not keep others from it.
                self._drop(len(intents), type(error).__name__)

    def _drop(self, count: int, reason: str) -> None:
        self.dropped += count
        log.warning("%d rejections are not kept: %s", count, reason)
