"""Keeps what became of each callback, for people who ask why an order does not move.

It never delays or fails a callback: entries wait in memory and are written afterwards. Those for
which there is no room are left out, and logged.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import asyncpg

from background import BatchWriter
from eventlog import callback_log
from eventlog.callback_log import Callback
from eventlog.postgres import UNAVAILABLE

log = logging.getLogger("orderly.api")

PURGE_SECONDS = 60
UNVERIFIED_SECONDS = 10


class CallbackRecorder:
    """Entries of one process that wait to be written."""

    def __init__(self, pool: asyncpg.Pool, clock: Callable[[], float] = time.monotonic) -> None:
        self._pool = pool
        self._clock = clock
        self._writer = BatchWriter(self._write, self._drop)
        self._purged_at = clock()
        self._unverified_at: dict[str, float] = {}

    def add(self, callback: Callback) -> None:
        """Leaves a callback to be written.

        Anyone can send one that is not signed: of those, one in UNVERIFIED_SECONDS and service.
        """
        if callback.message_id is None and not self._is_due(callback.service):
            return
        if self._writer.is_full:
            log.warning("a callback of %s is not recorded: too many wait", callback.service)
            return
        self._writer.add(callback)

    def running(self) -> AbstractAsyncContextManager[None]:
        """Writes entries in the background; at the end, those that still wait, if that is fast."""
        return self._writer.running()

    def _is_due(self, service: str) -> bool:
        now, before = self._clock(), self._unverified_at.get(service)
        if before is not None and now - before < UNVERIFIED_SECONDS:
            return False
        self._unverified_at[service] = now
        return True

    async def _write(self, callbacks: list[Callback]) -> None:
        try:
            await callback_log.append(self._pool, callbacks)
            if self._clock() - self._purged_at >= PURGE_SECONDS:
                self._purged_at = self._clock()
                await callback_log.purge(self._pool)
        except (*UNAVAILABLE, asyncpg.PostgresError) as error:
            self._drop(len(callbacks), type(error).__name__)

    def _drop(self, count: int, reason: str) -> None:
        log.warning("%d callbacks are not recorded: %s", count, reason)
