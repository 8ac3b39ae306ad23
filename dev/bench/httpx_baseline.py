"""The baseline of webhook deliveries: httpx in a loop, which posts the same bodies.

`python -m dev.bench.httpx_baseline DSN URL EVENTS CONCURRENCY` prints the seconds.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from time import perf_counter

import asyncpg
import httpx

from eventlog import feed
from eventlog.feed import EventFilter
from eventlog.log import START
from eventlog.postgres import connect_pool
from outbound.cloudevents import MEDIA_TYPE
from outbound.rendering import render
from outbound.webhooks.log_reader import PAGE_EVENTS_MAX
from privacy.keys import PostgresKeys


async def _bodies(pool: asyncpg.Pool, events: int) -> list[bytes]:
    """The first webhooks of a log."""
    bodies, after = list[bytes](), START
    while len(bodies) < events:
        page = await feed.read(pool, after, EventFilter(), PAGE_EVENTS_MAX)
        if page.end == after:
            break
        bodies += [w.body for w in await render(page.events, "http://bench/", PostgresKeys(pool))]
        after = page.end
    return bodies[:events]


async def _post(http: httpx.AsyncClient, url: str, bodies: Iterator[bytes]) -> None:
    for body in bodies:
        response = await http.post(url, content=body, headers={"Content-Type": MEDIA_TYPE})
        response.raise_for_status()


async def main(dsn: str, url: str, events: int, concurrency: int) -> float:
    """The seconds in which all bodies are posted."""
    async with await connect_pool(dsn) as pool:
        bodies = await _bodies(pool, events)
    limits = httpx.Limits(max_connections=concurrency)
    async with httpx.AsyncClient(limits=limits, trust_env=False) as http:
        waiting, began = iter(bodies), perf_counter()
        await asyncio.gather(*(_post(http, url, waiting) for _ in range(concurrency)))
        return perf_counter() - began


if __name__ == "__main__":
    import uvloop

    dsn, url, events, concurrency = sys.argv[1:]
    print(uvloop.run(main(dsn, url, int(events), int(concurrency))))
