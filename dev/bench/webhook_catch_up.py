"""A backlog for one endpoint, beside httpx that posts the same bodies in a loop."""

from __future__ import annotations

import argparse
import asyncio

import psutil  # type: ignore[import-untyped]
from rich.console import Console

from dev.bench.events import write_log
from dev.bench.report import Json
from dev.bench.servers import postgres, run_python
from dev.bench.webhook_endpoints import SETTINGS, register
from dev.webhook_receiver import Receiver, serving
from eventlog.postgres import connect_pool
from outbound.webhooks.health import Pace

SAMPLE_S = 0.2
CATCH_UP_S_MAX = 1_200.0


async def measure(options: argparse.Namespace, console: Console) -> Json:
    """The rates of both, and the resident megabytes of the deliverer."""
    receiver, megabytes = Receiver(), list[float]()
    async with postgres() as server, serving(receiver) as url:
        dsn = await server.database("catch_up")
        console.print(f"writing a log of {options.backlog:,} events …")
        await write_log(dsn, options.backlog)
        async with await connect_pool(dsn, 1) as pool:
            await register(pool, f"{url}/backlog")
        console.print("catching up …")
        deliverer = await server.start_orderly("deliverer", dsn, settings=SETTINGS)
        process = psutil.Process(deliverer.pid)
        async with asyncio.timeout(CATCH_UP_S_MAX):
            while receiver.accepted < options.backlog:
                await asyncio.sleep(SAMPLE_S)
                megabytes.append(process.memory_info().rss / 2**20)
        await deliverer.stop()
        arrivals = receiver.arrivals["/backlog"]
        seconds = arrivals[-1].at - arrivals[0].at
        console.print("httpx in a loop …")
        count = min(options.baseline_events, options.backlog)
        arguments = (dsn, f"{url}/httpx", str(count), str(Pace.concurrent_max))
        baseline_s = float((await run_python("-m", "dev.bench.httpx_baseline", *arguments)).output)
    rate, baseline = options.backlog / seconds, count / baseline_s
    return {
        "events": options.backlog,
        "lost": options.backlog - len({one.event_id for one in arrivals}),
        "per_second": round(rate),
        "httpx_per_second": round(baseline),
        "ratio": round(rate / baseline, 3),
        "resident_mb": [
            round(megabytes[(len(megabytes) - 1) * quarter // 4], 1) for quarter in (1, 2, 3, 4)
        ],
    }
