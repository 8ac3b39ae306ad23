"""The delay from an event's commit until readers in other processes have it, on an idle system."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from secrets import token_hex
from time import perf_counter

import asyncpg
import httpx
from rich.console import Console

from dev.bench import orderly_projector
from dev.bench.events import generate_order
from dev.bench.report import Json, percentiles_ms
from dev.bench.servers import PostgresServer
from eventlog import log
from eventlog.announcements import Announcer
from eventlog.postgres import connect_pool

# Longer than a projector pauses after a batch.
PAUSE_S = (0.05, 0.1)
WARM_UP = 20
HEARD_S_MAX = 30.0


async def measure_hearing(server: PostgresServer, samples: int, console: Console) -> Json:
    """Percentiles of the delays of a stream and of order_view."""
    console.print("one event at a time …")
    dsn = await server.database("hearing")
    url, _ = await server.start_api(dsn)
    await server.start_orderly("projector", dsn)
    dice, delays_s = Random(1), []
    async with (
        await connect_pool(dsn, 2) as pool,
        _stream(url) as stream,
        _projected(dsn) as projected,
        asyncio.timeout((WARM_UP + samples) * max(PAUSE_S) + HEARD_S_MAX),
    ):
        announcer = Announcer(pool)
        for _ in range(WARM_UP + samples):
            delays_s.append(await _sample(pool, announcer, stream, projected))
            await asyncio.sleep(dice.uniform(*PAUSE_S))
    streamed, seen = zip(*delays_s[WARM_UP:], strict=True)
    return {"on a stream": percentiles_ms(streamed), "in order_view": percentiles_ms(seen)}


async def _sample(
    pool: asyncpg.Pool,
    announcer: Announcer,
    stream: AsyncIterator[str],
    projected: asyncio.Queue[None],
) -> tuple[float, float]:
    """The seconds until one event is on the stream, and until it is in order_view."""
    order_id = token_hex(13)
    async with pool.acquire() as connection:
        await log.append(connection, order_id, generate_order()[:1])
    committed_at = perf_counter()
    announcer.announce_soon()

    async def streamed_s() -> float:
        async for line in stream:
            if line.startswith("data: ") and order_id in line:
                break
        return perf_counter() - committed_at

    async def projected_s() -> float:
        query = "SELECT FROM order_view.orders WHERE order_id = $1"
        while await pool.fetchrow(query, order_id) is None:
            await projected.get()
        return perf_counter() - committed_at

    return await asyncio.gather(streamed_s(), projected_s())


@asynccontextmanager
async def _stream(url: str) -> AsyncIterator[AsyncIterator[str]]:
    """The lines of a stream of all events."""
    headers = {"Accept": "text/event-stream"}
    async with (
        httpx.AsyncClient(base_url=url, timeout=HEARD_S_MAX) as http,
        http.stream("GET", "/v1/events", headers=headers) as response,
    ):
        response.raise_for_status()
        yield response.aiter_lines()


@asynccontextmanager
async def _projected(dsn: str) -> AsyncIterator[asyncio.Queue[None]]:
    """Receives something whenever a projector announces a commit."""
    announced: asyncio.Queue[None] = asyncio.Queue()
    connection = await asyncpg.connect(dsn)
    try:
        await connection.add_listener(
            orderly_projector.ANNOUNCED, lambda *_: announced.put_nowait(None)
        )
        yield announced
    finally:
        await connection.close()
