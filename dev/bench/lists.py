"""Latency of pages of 10,000 and of 1,000,000 orders, for each filter and sort."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise, product
from random import Random
from statistics import median
from typing import Any
from urllib.parse import urlencode

from rich.console import Console

from api.reads.cursor import encode_cursor
from dev.bench import machine
from dev.bench.datasets import DAYS, SKUS, START, Dataset, create_dataset
from dev.bench.open_loop import send_line
from dev.bench.report import (
    Json,
    describe_machine,
    numeric_table,
    percentiles_ms,
    positive_integer,
)
from dev.bench.servers import postgres
from readside.order_view.list_query import OrderFilter

WARM_UPS = 6  # After five executions, Postgres may switch to a generic plan.
SECONDS_MAX = 1.0  # Of one dataset in a round of one kind of page: slow pages are sampled less.
RATIO_MAX = 1.5
MORE_ROUNDS = 3
METHOD = (
    "GET /v1/orders, 25 orders, over a kept-alive connection, from one API process per dataset; no"
    " tracing, no authentication. Filter values are random, distributed like the orders; the"
    " datasets alternate. A deep page continues from a cursor in the middle of all orders by that"
    " sort. Postgres has memory for all orders. Numbers are medians of rounds; a kind with a ratio"
    f" of {RATIO_MAX} or more gets {MORE_ROUNDS} times as many rounds, and all count."
)


PageKind = tuple[str, str, bool]
"""A filter, a sort, and whether it is a deep page."""

FilterDraw = Callable[[Random, Dataset], dict[str, Any]]
"""Draws random values of a filter."""


def _customer(dice: Random, dataset: Dataset) -> dict[str, Any]:
    return {"customer_id": f"customer-{int(dataset.customers * dice.random() ** 3)}"}


def _sku(dice: Random, _: Dataset) -> dict[str, Any]:
    return {"sku": f"sku-{int(SKUS * dice.random() ** 4)}"}


def _reference(dice: Random, dataset: Dataset) -> dict[str, Any]:
    return {"external_reference": f"reference-{5 * dice.randint(1, max(dataset.orders // 5, 1))}"}


def _status(*statuses: str) -> FilterDraw:
    return lambda _dice, _dataset: {"status": statuses}


def _placed(days: int) -> FilterDraw:
    middle, half = START + timedelta(days=DAYS / 2), timedelta(days=days / 2)
    between = {"placed_from": middle - half, "placed_until": middle + half}
    return lambda _dice, _dataset: between


def _both(one: FilterDraw, other: FilterDraw) -> FilterDraw:
    return lambda dice, dataset: one(dice, dataset) | other(dice, dataset)


FILTERS: dict[str, FilterDraw] = {
    "all": lambda _dice, _dataset: {},
    "customer": _customer,
    "status, of most": _status("completed"),
    "status, of few": _status("on_hold"),
    "two statuses": _status("confirmed", "cancelled"),
    "needs attention": lambda _dice, _dataset: {"needs_attention": True},
    "SKU": _sku,
    "external reference": _reference,
    "placed in a month": _placed(30),
    "placed in a year": _placed(365),
    "total from": lambda _dice, _dataset: {"total_from": 1_000},
    "total between": lambda _dice, _dataset: {"total_from": 1_000, "total_until": 1_200},
    "customer, status": _both(_customer, _status("completed")),
    "SKU, status": _both(_sku, _status("confirmed")),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--few", type=positive_integer, default=10_000, help="orders")
    parser.add_argument("--many", type=positive_integer, default=1_000_000, help="orders")
    parser.add_argument(
        "--samples", type=positive_integer, default=300, help="of each kind of page in a round"
    )
    parser.add_argument("--rounds", type=positive_integer, default=5, help="of each kind, at least")


async def measure(options: argparse.Namespace, console: Console) -> Json:
    """Creates the datasets, and requests pages of them."""
    dice = Random(5)
    # All orders fit into it, at 3 kB each; Postgres' manual advises a quarter of the memory.
    memory_mb = 128 + options.many // 250
    async with postgres(f"shared_buffers={memory_mb}MB") as server:
        datasets = []
        for name in ("few", "many"):
            orders = getattr(options, name)
            console.print(f"creating {orders:,} orders …")
            datasets.append(await create_dataset(server, name, orders))
        pages = _pages(dice, datasets[0])
        console.print(f"requesting {len(pages)} kinds of pages …")
        results = []
        for before, page in pairwise([("", "", False), *pages]):
            if page[0] != before[0]:
                console.print(f"  {page[0]} …")
            results.append(await _measure_page(datasets, page, options, dice))
    results.sort(key=lambda page: -page["ratio"])
    return {
        "orders": [dataset.orders for dataset in datasets],
        "samples": options.samples,
        "worst_ratio": results[0]["ratio"],
        "pages": results,
        "machine": machine.description(),
    }


def _pages(dice: Random, dataset: Dataset) -> list[PageKind]:
    """Each filter with each sort that an index supports for it, first page and deep page."""
    sorts = {name: OrderFilter(**draw(dice, dataset)).sorts for name, draw in FILTERS.items()}
    return [
        (name, sign + sort, is_deep)
        for name, of_filter in sorts.items()
        for sort, sign, is_deep in product(of_filter, ("-", ""), (False, True))
    ]


async def _measure_page(
    datasets: list[Dataset], page: PageKind, options: argparse.Namespace, dice: Random
) -> Json:
    await _request(datasets, page, WARM_UPS, dice)
    rounds: list[list[dict[str, float]]] = []
    for count in (options.rounds, MORE_ROUNDS * options.rounds):
        while len(rounds) < count:
            rounds.append(await _request(datasets, page, options.samples, dice))
        result = _compare(page, rounds)
        if result["ratio"] < RATIO_MAX:
            break
    return result


async def _request(
    datasets: list[Dataset], page: PageKind, samples: int, dice: Random
) -> list[dict[str, float]]:
    """Latency percentiles of such pages, for each dataset; the datasets alternate."""
    filter, sort, is_deep = page
    latencies_s: list[list[float]] = [[] for _ in datasets]
    for _ in range(samples):
        for dataset, so_far in zip(datasets, latencies_s, strict=True):
            if sum(so_far) > SECONDS_MAX:
                continue
            values = FILTERS[filter](dice, dataset)
            middle = dice.choice(dataset.middle_values[sort.removeprefix("-")])
            path = _path(values, sort, middle if is_deep else None)
            result = await send_line(dataset.api, f"GET {path}")
            if result.status != 200:
                raise RuntimeError(f"GET {path}: {result.status} {result.order_id_or_code}")
            so_far.append(result.latency_s)
    return [percentiles_ms(of_dataset) for of_dataset in latencies_s]


def _path(values: dict[str, Any], sort: str, middle: datetime | int | None) -> str:
    """The path of the first page, or of one that begins in the middle."""
    cursor = encode_cursor(sort, middle, "8") if middle is not None else None
    params = {**values, "sort": sort, "cursor": cursor}
    texts = {name: str(v).lower() if isinstance(v, bool) else v for name, v in params.items() if v}
    return f"/v1/orders?{urlencode(texts, doseq=True)}"


def _compare(page: PageKind, rounds: list[list[dict[str, float]]]) -> Json:
    filter, sort, is_deep = page
    few, many = (
        {p: round(median(one[p] for one in of_dataset), 3) for p in ("p50", "p99")}
        for of_dataset in zip(*rounds, strict=True)
    )
    return {
        "filter": filter,
        "sort": sort,
        "page": "deep" if is_deep else "first",
        "few_ms": few,
        "many_ms": many,
        "ratio": round(many["p99"] / few["p99"], 2),
        "ratio_p50": round(many["p50"] / few["p50"], 2),
    }


def show(console: Console, result: Json) -> None:
    """Prints the worst page of each filter."""
    few, many = (f"{orders:,}" for orders in result["orders"])
    table = numeric_table(
        "orders", *[f"{p} {n}" for p in ("p50", "p99") for n in (few, many)], "ratio"
    )
    worst = {page["filter"]: page for page in reversed(result["pages"])}
    for page in sorted(worst.values(), key=lambda page: -page["ratio"]):
        times = [page[size][p] for p in ("p50", "p99") for size in ("few_ms", "many_ms")]
        label = f"{page['filter']}; {page['sort']}; {page['page']}"
        table.add_row(label, *[f"{ms:,.2f}" for ms in times], f"{page['ratio']:,}")
    console.print(table)
    under = sum(page["ratio"] < RATIO_MAX for page in result["pages"])
    console.print(
        "The worst page of each filter, in milliseconds. The ratio of the p99s is under"
        f" {RATIO_MAX} for {under} of all {len(result['pages'])} kinds of pages.\n"
        f"{describe_machine(result['machine'])}.\n{METHOD}\n"
    )
