"""Open-loop load: requests arrive at their own rate, whether or not earlier ones were answered.

``python -m dev.bench.open_loop URL RATE`` reads requests from standard input, one per line (a
method, a path and, for a POST, a body), and sends RATE of them per second on average, at random
moments. It prints a JSON list with a ``RequestResult`` for each.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from contextlib import suppress
from random import Random
from time import perf_counter
from typing import NamedTuple

import uvloop

from dev.bench.http_connection import ConnectionPool, parse_response

TIMEOUT_S = 30.0


class RequestResult(NamedTuple):
    """One request and its response."""

    at_s: float
    """When it arrived, by this machine's clock."""
    latency_s: float
    """From its arrival to the end of the response."""
    late_s: float
    """How much later than planned it was sent, because the load generator was too busy."""
    status: int
    """0: no response."""
    retry_after: str | None
    order_id_or_code: str | None
    """The order's id, or the problem's code."""


class _Timed(NamedTuple):
    """A response that was not parsed yet: parsing would delay the next requests."""

    began: float
    latency_s: float
    late_s: float
    response: bytes

    def parse(self) -> RequestResult:
        response = parse_response(self.response)
        body = response.json()
        return RequestResult(
            self.began,
            self.latency_s,
            self.late_s,
            response.status,
            response.retry_after,
            body.get("code") or body.get("order_id"),
        )


async def send_line(pool: ConnectionPool, line: str) -> RequestResult:
    """Sends one request now."""
    return (await _send(pool, line, perf_counter())).parse()


async def _send(pool: ConnectionPool, line: str, due: float) -> _Timed:
    began, response = perf_counter(), b""
    method, path, *body = line.split(" ", 2)
    with suppress(TimeoutError):
        async with asyncio.timeout(TIMEOUT_S):
            response = await pool.exchange(pool.encode(method, path, *body))
    return _Timed(began, perf_counter() - began, began - due, response)


async def run_load(url: str, rate: float, lines: list[str]) -> list[RequestResult]:
    """Sends the requests at random moments, at this rate on average."""
    pool, dice, sending = ConnectionPool(url), Random(1), []
    due = perf_counter()
    for line in lines:
        due += dice.expovariate(rate)
        await asyncio.sleep(max(due - perf_counter(), 0))
        sending.append(asyncio.create_task(_send(pool, line, due)))
    return [timed.parse() for timed in await asyncio.gather(*sending)]


if __name__ == "__main__":
    url, rate = sys.argv[1:]
    gc.disable()  # Its pauses would count as latency of the server.
    load = run_load(url, float(rate), sys.stdin.read().splitlines())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(load)))
