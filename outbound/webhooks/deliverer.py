"""The deliverer process: posts the events of the log to webhook endpoints.

Several processes share the endpoints. If one dies, the others continue from its cursors.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta

import asyncpg

from admin.readiness import Pulse
from background import in_background, wait_at_most
from eventlog import announcements
from eventlog.epochs import Epochs, read_epochs
from eventlog.postgres import OTHER_TABLES, UNAVAILABLE, Connection, connect, listening
from outbound.webhooks import cursors, deliveries, endpoints
from outbound.webhooks.addresses import AllowedNetworks
from outbound.webhooks.channel import Channel
from outbound.webhooks.clock import PostgresClock
from outbound.webhooks.cursors import Cursor, CursorLost
from outbound.webhooks.delivery import Delivery
from outbound.webhooks.endpoints import Endpoint
from outbound.webhooks.health import Pace
from outbound.webhooks.log_reader import LogReader
from outbound.webhooks.ownership import EndpointLocks
from outbound.webhooks.secrets import SecretBox
from outbound.webhooks.tail import Tail, TailPage
from privacy.keys import PostgresKeys

# A deliverer speaks every half second. One that is frozen loses its endpoints after this time.
IDLE_SECONDS_MAX = 12
STATEMENT_SECONDS_MAX = 10
RETRY_SECONDS = 0.5
PURGE_SECONDS = 60.0
STORE_SKIPPED_SECONDS = 5.0
STOP_SECONDS_MAX = 5.0

logger = logging.getLogger("orderly.deliverer")


@dataclass
class Running:
    """The deliveries of one endpoint, by cursor id."""

    channel: Channel
    target: tuple[object, ...]
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    is_stopping: bool = False

    def stop(self) -> None:
        self.is_stopping = True
        for delivery in self.deliveries.values():
            delivery.stop()

    def discard_ended(self) -> None:
        for cursor_id in [id for id, task in self.tasks.items() if task.done()]:
            _log_end(self.channel.endpoint.endpoint_id, self.tasks.pop(cursor_id))
            del self.deliveries[cursor_id]


class Deliverer:
    """Runs the deliveries of the endpoints that this process owns."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        dsn: str,
        box: SecretBox,
        networks: AllowedNetworks,
        kept: timedelta,
        pace: Pace,
    ) -> None:
        self._pool = pool
        self._dsn = dsn
        self._box = box
        self._networks = networks
        self._kept = kept
        self._pace = pace
        self._log = LogReader(pool, PostgresKeys(pool))
        self._tail = Tail(pool, self._offer)
        self._clock = PostgresClock()
        self._running: dict[str, Running] = {}
        self._purge_at = self._store_skipped_at = 0.0
        self.pulse = Pulse()

    async def run(self, stopped: asyncio.Event) -> None:
        """Delivers until `stopped`, then ends the attempts that have begun."""
        async with listening(self._dsn, announcements.CHANNEL, lambda _: self._tail.wake()):
            while not stopped.is_set():
                try:
                    await self._serve(stopped)
                except (*UNAVAILABLE, *OTHER_TABLES) as error:
                    self.pulse.fail(f"Postgres is unavailable or not migrated: {error!r}")
                    logger.warning("Postgres is unavailable or not migrated, retrying: %r", error)
                    await wait_at_most(RETRY_SECONDS, stopped)

    async def _serve(self, stopped: asyncio.Event) -> None:
        """Owns endpoints by the locks of one connection, until that ends or `stopped`."""
        connection = await connect(self._dsn, STATEMENT_SECONDS_MAX, IDLE_SECONDS_MAX)
        self._tail = Tail(self._pool, self._offer)
        try:
            locks = EndpointLocks(connection)
            async with in_background(self._tail.follow()):
                while not stopped.is_set():
                    await self._reload(connection, locks)
                    await self._store_skipped(connection)
                    await self._purge()
                    self.pulse.beat()
                    await wait_at_most(self._pace.reload_seconds, stopped)
                await self._stop_all()
        finally:
            await self._abandon_all()
            connection.terminate()

    async def _reload(self, connection: Connection, locks: EndpointLocks) -> None:
        """Starts and stops deliveries, so that they are those of the endpoints that it owns."""
        self._tail.forget()
        await self._clock.synchronise(connection)
        known = {one.endpoint_id: one for one in await endpoints.find_all(connection)}
        surplus = await locks.acquire(known)
        for endpoint_id in sorted(locks.owned)[:surplus]:
            known.pop(endpoint_id, None)  # For another process, once it has stopped.
        epochs = await read_epochs(connection)
        wanted = {
            id: known[id] for id in locks.owned & known.keys() if known[id].status == "active"
        }
        self._tail.want(bool(wanted))
        for endpoint_id, running in list(self._running.items()):
            running.discard_ended()
            if endpoint_id not in wanted or running.target != wanted[endpoint_id].target:
                running.stop()
            if running.is_stopping and not running.tasks:
                await running.channel.close()
                del self._running[endpoint_id]
        for cursor in await cursors.load(connection, wanted):
            await self._start(cursor, wanted[cursor.endpoint_id], epochs)
        for endpoint_id in locks.owned - known.keys() - self._running.keys():
            await locks.release(endpoint_id)
        self._renew(wanted)

    def _renew(self, wanted: dict[str, Endpoint]) -> None:
        """Passes changes of endpoints on to their deliveries."""
        for endpoint_id, running in self._running.items():
            if endpoint_id not in wanted or running.is_stopping:
                continue
            if running.channel.renew(wanted[endpoint_id]):
                for delivery in running.deliveries.values():
                    delivery.retry_now()

    async def _start(self, cursor: Cursor, endpoint: Endpoint, epochs: Epochs) -> None:
        """Starts the delivery of a cursor, if it is not running."""
        running = self._running.get(endpoint.endpoint_id)
        if running is None:
            health = await cursors.load_health(self._pool, endpoint.endpoint_id)
            channel = Channel(endpoint, health, self._box, self._networks, self._pace, self._clock)
            running = self._running[endpoint.endpoint_id] = Running(channel, endpoint.target)
        if running.is_stopping or cursor.cursor_id in running.tasks:
            return
        parked = await cursors.load_parked(self._pool, cursor.cursor_id)
        valid = in_epoch(cursor, epochs)
        delivery = Delivery(self._pool, self._log, self._tail, running.channel, valid, parked)
        running.deliveries[cursor.cursor_id] = delivery
        running.tasks[cursor.cursor_id] = asyncio.create_task(delivery.run())

    def _offer(self, page: TailPage) -> None:
        for delivery in self._deliveries():
            delivery.offer(page)

    async def _store_skipped(self, connection: Connection) -> None:
        """Stores from time to time where the cursors are that have only skipped events."""
        now = asyncio.get_running_loop().time()
        if now < self._store_skipped_at:
            return
        self._store_skipped_at = now + STORE_SKIPPED_SECONDS
        found = (delivery.skipped_to() for delivery in self._deliveries())
        if skipped := [one for one in found if one is not None]:
            await cursors.store_skipped(connection, skipped)

    async def _purge(self) -> None:
        """Deletes old deliveries now and then."""
        now = asyncio.get_running_loop().time()
        if now < self._purge_at:
            return
        if not await deliveries.purge(self._pool, self._kept):
            self._purge_at = now + PURGE_SECONDS

    async def _stop_all(self) -> None:
        """Ends all deliveries after the attempts that are under way."""
        for running in self._running.values():
            running.stop()
        if tasks := self._tasks():
            await asyncio.wait(tasks, timeout=self._pace.attempt_seconds_max + STOP_SECONDS_MAX)

    async def _abandon_all(self) -> None:
        """Ends all deliveries at once: the endpoints may belong to another process now."""
        for running in self._running.values():
            running.stop()  # A library may swallow the cancellation.
        tasks = self._tasks()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_SECONDS_MAX)
        for running in self._running.values():
            running.discard_ended()
            with suppress(Exception):  # Of connections that are broken anyway.
                await running.channel.close()
        self._running = {}

    def _deliveries(self) -> Iterator[Delivery]:
        for running in self._running.values():
            yield from running.deliveries.values()

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [task for running in self._running.values() for task in running.tasks.values()]


def in_epoch(cursor: Cursor, epochs: Epochs) -> Cursor:
    """The cursor in the current epoch: after a restore, at most at the last event that survived."""
    survived = epochs.last_valid(cursor.epoch)
    if survived is not None and cursor.at > survived:
        logger.warning("webhook cursor %s goes back: the log was restored", cursor.cursor_id)
        return replace(cursor, epoch=epochs.current, at=survived)
    return replace(cursor, epoch=epochs.current)


def _log_end(endpoint_id: str, task: asyncio.Task[None]) -> None:
    if task.cancelled() or (error := task.exception()) is None:
        return
    if isinstance(error, (CursorLost, *UNAVAILABLE)):
        logger.warning("delivery to %s starts again: %r", endpoint_id, error)
    else:
        logger.error("delivery to %s failed", endpoint_id, exc_info=error)
