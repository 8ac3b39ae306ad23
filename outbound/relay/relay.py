"""The relay process: publishes the events of the log to a message broker, in order within an order.

One process at a time owns a relay. If it ends, another one continues from the cursor.
"""

from __future__ import annotations

import asyncio
import logging

from admin.readiness import Pulse
from background import wait_at_most
from eventlog import announcements
from eventlog.postgres import OTHER_TABLES, UNAVAILABLE, Connection, connect, listening
from outbound.relay import cursors
from outbound.relay.broker import Broker
from outbound.relay.publishing import Pace, Publishing

# A relay speaks every few seconds. One that is frozen loses its cursor after this time.
IDLE_SECONDS_MAX = 12
STATEMENT_SECONDS_MAX = 10
RETRY_SECONDS = 0.5

logger = logging.getLogger("orderly.relay")


class Relay:
    """Publishes to one broker whenever this process owns its cursor."""

    def __init__(self, dsn: str, broker: Broker, public_url: str, pace: Pace | None = None) -> None:
        self._dsn = dsn
        self._broker = broker
        self._public_url = public_url
        self._pace = pace or Pace()
        self.pulse = Pulse()
        self._publishing: Publishing | None = None

    async def run(self, stopped: asyncio.Event) -> None:
        """Publishes until `stopped`, then ends what has begun."""
        try:
            async with listening(self._dsn, announcements.CHANNEL, lambda _: self._wake()):
                while not stopped.is_set():
                    try:
                        await self._serve(stopped)
                    except (*UNAVAILABLE, *OTHER_TABLES) as error:
                        self.pulse.fail(f"Postgres is unavailable or not migrated: {error!r}")
                        logger.warning("Postgres is unavailable or not migrated: %r", error)
                        await wait_at_most(RETRY_SECONDS, stopped)
        finally:
            await self._broker.close()

    async def _serve(self, stopped: asyncio.Event) -> None:
        """Publishes while one connection owns the cursor, which also reads the log and moves it.

        So a process that has lost the cursor moves nothing.
        """
        connection = await connect(self._dsn, STATEMENT_SECONDS_MAX, IDLE_SECONDS_MAX)
        try:
            if await self._acquire(connection, stopped):
                at = await cursors.load(connection, self._broker.name)
                logger.info("relay %s publishes", self._broker.name)
                self._publishing = Publishing(
                    connection, self._broker, self._public_url, at, self._pace, self.pulse
                )
                await self._publishing.run(stopped)
        finally:
            self._publishing = None
            connection.terminate()

    async def _acquire(self, connection: Connection, stopped: asyncio.Event) -> bool:
        """Waits until the connection owns the cursor; returns False if it is to stop before."""
        while not await cursors.acquire(connection, self._broker.name):
            self.pulse.beat()
            await wait_at_most(self._pace.standby_seconds, stopped)
            if stopped.is_set():
                return False
        return True

    def _wake(self) -> None:
        if self._publishing is not None:
            self._publishing.wake()
