"""Events appended to the log directly, and events that tests wait for."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import asyncpg

from eventlog import log
from eventlog.announcements import announce
from eventlog.envelope import Envelope, Metadata
from eventlog.postgres import Reader
from orders.events import NoteAdded, OrderEvent, OrderOpened

AT = datetime(2017, 1, 1, 11, 53, 26, 123456, tzinfo=UTC)
WAIT_SECONDS = 60.0
ABOUT = Metadata(
    actor="somebody", command="add-note", command_id="c", payload_hash="h", request_id="r"
)


def opened(customer_id: str) -> Envelope:
    """The first event of an order."""
    return Envelope.of(OrderOpened(customer_id=customer_id, currency="USD"), 1, AT, ABOUT)


def note(version: int, text: str = "hi") -> Envelope:
    event: OrderEvent = NoteAdded(note_id=str(version), text=text)
    return Envelope.of(event, version, AT, ABOUT)


async def append(pool: asyncpg.Pool, order_id: str, *events: Envelope) -> None:
    """Returns once readers of the log see the events."""
    await append_unsettled(pool, order_id, *events)
    await settled(pool)


async def append_unsettled(pool: asyncpg.Pool, order_id: str, *events: Envelope) -> None:
    """For tests that hold an older transaction open, so that readers do not see the events yet."""
    await append_unannounced(pool, order_id, *events)
    await announce(pool)


async def settled(connection: Reader) -> None:
    """Waits until readers of the log see all that is committed.

    Any open transaction of the server that writes hides it, also one of another database.
    """
    unsettled = (
        "SELECT EXISTS (SELECT FROM order_events"
        " WHERE transaction_id >= pg_snapshot_xmin(pg_current_snapshot()))"
    )
    async with asyncio.timeout(WAIT_SECONDS):
        while await connection.fetchval(unsettled):
            await asyncio.sleep(0.01)


async def append_unannounced(pool: asyncpg.Pool, order_id: str, *events: Envelope) -> None:
    """As by a process that dies after the commit, or whose notification is lost."""
    async with pool.acquire() as connection:
        await log.append(connection, order_id, events)


async def log_has(pool: asyncpg.Pool, order_id: str, event_type: str) -> None:
    """Waits until an order has an event of a type in the log."""
    async with asyncio.timeout(WAIT_SECONDS):
        while event_type not in {e.type for e in await log.read_stream(pool, order_id)}:
            await asyncio.sleep(0.05)
