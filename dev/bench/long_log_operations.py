"""The operations that `long-log` measures; those of milliseconds are prepared, and then timed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from time import perf_counter

import asyncpg
import httpx

from dev.bench import orderly_projector
from dev.bench.events import generate_order
from dev.bench.long_log_data import BLOCK_EVENTS, EVENTS_PER_ORDER, LongLog
from dev.bench.servers import PostgresServer, run_python
from eventlog import digests, feed, log
from eventlog.feed import EventFilter
from eventlog.log import START, Checkpoint
from readside.engine.monitoring import read_metrics
from readside.order_view import queries
from readside.order_view.row import order_row
from readside.order_view.view import OrderView, fold_view
from readside.registry import PROJECTIONS

PAGE_EVENTS = 100
VACUUM_S_MAX = 600.0
NOTE = generate_order()[7]


@dataclass
class Subject:
    """One of the logs, with connections to it."""

    server: PostgresServer
    data: LongLog
    pool: asyncpg.Pool
    appended: dict[str, int] = field(default_factory=dict)
    """By order id, how many events the benchmark has appended."""

    async def random_place(self, dice: Random) -> Checkpoint:
        """A position anywhere in the log."""
        order_id, _ = self.data.random_order(dice)
        row = await self.pool.fetchrow(
            "SELECT transaction_id, position FROM order_events"
            " WHERE order_id = $1 AND version = $2",
            order_id,
            dice.randint(1, EVENTS_PER_ORDER),
        )
        return _checkpoint(row)

    async def count_wrong_rows(self, dice: Random, samples: int) -> int:
        """How many of some orders in order_view are not what orderly would have projected."""
        wrong = 0
        for _ in range(samples):
            order_id, _customer_id = self.data.random_order(dice)
            view = fold_view(OrderView(order_id), await log.read_order(self.pool, order_id, 0))
            wrong += order_row(view) != await queries.find(self.pool, order_id)
        return wrong


Timed = Callable[[], Awaitable[object]]
Prepare = Callable[[Subject, Random], Awaitable[Timed]]


async def _append(subject: Subject, dice: Random) -> Timed:
    order_id, _ = subject.data.random_order(dice)
    subject.appended[order_id] = appended = subject.appended.get(order_id, 0) + 1
    note = NOTE.model_copy(update={"version": EVENTS_PER_ORDER + appended})

    async def append() -> None:
        async with subject.pool.acquire() as connection:
            await log.append(connection, order_id, [note])

    return append


async def _read_stream(subject: Subject, dice: Random) -> Timed:
    order_id, _ = subject.data.random_order(dice)
    return lambda: log.read_stream(subject.pool, order_id)


async def _page_at_the_end(subject: Subject, dice: Random) -> Timed:
    row = await subject.pool.fetchrow(
        "SELECT transaction_id, position FROM order_events"
        " ORDER BY transaction_id DESC, position DESC OFFSET $1 LIMIT 1",
        PAGE_EVENTS,
    )
    return _page(subject, _checkpoint(row), EventFilter())


async def _deep_page(subject: Subject, dice: Random) -> Timed:
    return _page(subject, await subject.random_place(dice), EventFilter())


async def _page_of_a_type(subject: Subject, dice: Random) -> Timed:
    place = await subject.random_place(dice)
    return _page(subject, place, EventFilter(types=("order-placed",)))


async def _page_of_an_order(subject: Subject, dice: Random) -> Timed:
    order_id, _ = subject.data.random_order(dice)
    return _page(subject, START, EventFilter(order_id=order_id))


async def _page_of_a_customer(subject: Subject, dice: Random) -> Timed:
    _, customer_id = subject.data.random_order(dice)
    return _page(subject, START, EventFilter(customer_id=customer_id))


async def _digest(subject: Subject, dice: Random) -> Timed:
    return await _digest_of(subject, "")


async def _digest_of_a_slice(subject: Subject, dice: Random) -> Timed:
    return await _digest_of(subject, f"{dice.randrange(16):x}")


async def _digest_of(subject: Subject, slice: str) -> Timed:
    head = await log.settled_head(subject.pool)
    return lambda: digests.read(subject.pool, START, head, EventFilter(), slice)


def _page(subject: Subject, after: Checkpoint, filter: EventFilter) -> Timed:
    return lambda: feed.read(subject.pool, after, filter, PAGE_EVENTS)


def _checkpoint(row: asyncpg.Record | None) -> Checkpoint:
    assert row is not None
    return Checkpoint(row["transaction_id"], row["position"])


async def _metrics(subject: Subject, dice: Random) -> Timed:
    return lambda: read_metrics(subject.pool, [projection.name for projection in PROJECTIONS])


SHORT: dict[str, Prepare] = {
    "append of one event": _append,
    "read of an order's stream": _read_stream,
    "feed page at the end": _page_at_the_end,
    "feed page deep inside": _deep_page,
    "feed page of a type": _page_of_a_type,
    "feed page of an order": _page_of_an_order,
    "feed page of a customer": _page_of_a_customer,
    "digest of all events": _digest,
    "digest of a sixteenth": _digest_of_a_slice,
    "metrics of the projections": _metrics,
}
"""Operations of milliseconds."""


async def time_s(operation: Timed) -> float:
    """The seconds that an operation takes."""
    began = perf_counter()
    await operation()
    return perf_counter() - began


async def catch_up_s(subject: Subject) -> float:
    """The seconds of projecting a thousand events of new orders."""
    await orderly_projector.catch_up(subject.data.dsn)
    await subject.data.add_block()
    run = await run_python("-m", "dev.bench.orderly_projector", "catch_up", subject.data.dsn)
    return float(run.output) * 1_000 / BLOCK_EVENTS


async def vacuum_s(subject: Subject) -> float:
    """The seconds of a vacuum after BLOCK_EVENTS more events."""
    await subject.data.add_block()
    return await time_s(lambda: subject.pool.execute("VACUUM order_events", timeout=VACUUM_S_MAX))


async def start_api_s(subject: Subject) -> float:
    """The seconds until a new API process has served a page of the feed."""
    began = perf_counter()
    url, process = await subject.server.start_api(subject.data.dsn)
    async with httpx.AsyncClient(base_url=url) as http:
        (await http.get("/v1/events", params={"limit": 1})).raise_for_status()
    seconds = perf_counter() - began
    await process.stop()
    return seconds


async def start_projector_s(subject: Subject) -> float:
    """The seconds until a new projector process has announced how far it has come."""
    announced = asyncio.Event()
    connection = await asyncpg.connect(subject.data.dsn)
    try:
        await connection.add_listener(orderly_projector.ANNOUNCED, lambda *_: announced.set())
        began = perf_counter()
        process = await subject.server.start_orderly("projector", subject.data.dsn)
        await announced.wait()
        seconds = perf_counter() - began
        await process.stop()
    finally:
        await connection.close()
    return seconds


LONG: dict[str, Callable[[Subject], Awaitable[float]]] = {
    "catching up, 1,000 events": catch_up_s,
    "start of the API": start_api_s,
    "start of the projector": start_projector_s,
    "vacuum after 20,000 events": vacuum_s,
}
"""Operations of seconds."""
