"""Server time of each request that the console's pages send, among a million orders."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
from rich.console import Console

from dev.bench import machine
from dev.bench.datasets import START, create_dataset
from dev.bench.http_connection import ConnectionPool
from dev.bench.open_loop import send_line
from dev.bench.report import (
    Json,
    describe_machine,
    numeric_table,
    percentiles_ms,
    positive_integer,
)
from dev.bench.servers import postgres
from eventlog import log
from eventlog.envelope import Envelope, Metadata
from eventlog.postgres import connect
from orders import events as e

GOAL_MS = 300.0
WARM_UPS = 6
BATCH = 1_000
COLUMNS = ("first", "p50", "p99")
METHOD = (
    "Requests over a kept-alive connection to one API process, one after the other; no tracing, no"
    " authentication, no Temporal. 1 % of the orders need attention, 0.5 % each are held and await"
    " the customer. Postgres has memory for all orders. The order has as many events as it says."
    " The first request of each kind finds nothing that the API remembers."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--orders", type=positive_integer, default=1_000_000)
    parser.add_argument("--events", type=positive_integer, default=5_000, help="of the order")
    parser.add_argument("--lines", type=positive_integer, default=500, help="of the order")
    parser.add_argument("--samples", type=positive_integer, default=30, help="of each request")


async def measure(options: argparse.Namespace, console: Console) -> Json:
    """Creates the orders, and sends each request of each page."""
    memory_mb = 128 + options.orders // 250  # All orders fit into it.
    async with postgres(f"shared_buffers={memory_mb}MB") as server:
        console.print(f"creating {options.orders:,} orders …")
        dataset = await create_dataset(server, "console", options.orders)
        dsn = server.dsn.replace("/postgres?", "/console?")
        connection = await connect(dsn)
        order_id = await _write_history(connection, options.lines, options.events)
        await connection.close()
        results = [
            {"page": page, "request": path.replace(order_id, "ORDER"), **found}
            for page, path in _requests(order_id, options.events)
            for found in [await _measure(dataset.api, path, options.samples)]
        ]
    slowest_ms = {one["request"]: max(one["ms"]["first"], one["ms"]["p50"]) for one in results}
    return {
        "orders": options.orders,
        "events": options.events,
        "lines": options.lines,
        "samples": options.samples,
        "requests": results,
        "failures": [
            f"{request} takes {ms:,.0f} ms: more than {GOAL_MS:g}"
            for request, ms in slowest_ms.items()
            if ms > GOAL_MS
        ],
        "machine": machine.description(),
    }


def _requests(order_id: str, events: int) -> list[tuple[str, str]]:
    """The requests of each page, as `api/console/static/views` sends them."""
    order, soon = f"/v1/orders/{order_id}", (START + timedelta(days=700)).isoformat()
    filters = ("", "&status=on_hold", "&needs_attention=true", "&payment_status=declined")
    since = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    day = (datetime.now(UTC) - timedelta(days=30)).date()
    return [
        ("inbox", "/v1/inbox?limit=500"),
        ("inbox", "/v1/webhook-endpoints"),
        *(("orders", f"/v1/orders?limit=50{each}") for each in filters),
        ("orders", f"/v1/orders?limit=50&placed_from={soon.replace('+', '%2B')}"),
        *(("search", f"/v1/orders?limit=2&search={term}") for term in (order_id, "customer-7")),
        ("search", "/v1/orders?limit=2&search=sku-3"),
        ("one order", order),
        ("one order", f"{order}/waiting"),
        ("one order", f"{order}/history?cursor={max(events - 100, 0)}&limit=100"),
        ("one order", f"{order}/transactions"),
        ("one order", f"{order}/commands"),
        ("one order", f"{order}?version={events}"),
        ("one order", f"{order}?version={max(events // 2, 1)}"),
        ("live feed", f"/v1/events?from={since}&include=sentences"),
        ("live feed", "/v1/schemas"),
        ("read models", "/v1/projections"),
        ("services", f"/v1/services?from={day}"),
        ("services", "/v1/callbacks?limit=50"),
        ("numbers", "/v1/stats/statuses"),
        ("numbers", f"/v1/stats/orders?from={day}"),
        ("numbers", f"/v1/stats/lead-times?from={day}"),
    ]


async def _measure(api: ConnectionPool, path: str, samples: int) -> dict[str, Any]:
    latencies_s = []
    for _ in range(WARM_UPS + samples):
        result = await send_line(api, f"GET {path}")
        if result.status != 200:
            raise RuntimeError(f"GET {path}: {result.status} {result.order_id_or_code}")
        latencies_s.append(result.latency_s)
    first_ms = round(1000 * latencies_s[0], 3)
    return {"ms": {"first": first_ms, **percentiles_ms(latencies_s[WARM_UPS:])}}


async def _write_history(connection: asyncpg.Connection[Any], lines: int, events: int) -> str:
    """Gives one order of the read model a history; returns its id."""
    order_id = str(await connection.fetchval("SELECT min(order_id) FROM order_view.orders"))
    about = Metadata(actor="anonymous", command="c", command_id="c", payload_hash="")
    happened: list[e.OrderEvent] = [e.OrderOpened(customer_id="900", currency="USD")]
    for number in range(min(lines, events - 1)):
        text = f"{number}"
        happened.append(
            e.ItemAdded(
                line_id=text, sku=text, title=text, quantity=1, unit_price=100, discount=0, tax=0
            )
        )
    for number in range(events - len(happened)):
        changed = e.ItemQuantityChanged(line_id=str(number % lines), quantity=1 + number % 9)
        happened.append(changed)
    envelopes = [Envelope.of(each, v, START, about) for v, each in enumerate(happened, 1)]
    for first in range(0, len(envelopes), BATCH):
        await log.append(connection, order_id, envelopes[first : first + BATCH])
    return order_id


def show(console: Console, result: Json) -> None:
    """Prints each request."""
    table = numeric_table("page", "request", *COLUMNS)
    for one in result["requests"]:
        times = (f"{one['ms'][column]:,.1f}" for column in COLUMNS)
        table.add_row(one["page"], one["request"], *times)
    console.print(table)
    console.print(
        f"Milliseconds, among {result['orders']:,} orders; ORDER has {result['events']:,} events"
        f" and {result['lines']:,} lines.\n{describe_machine(result['machine'])}.\n{METHOD}\n"
    )
