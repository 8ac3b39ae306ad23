"""How soon callers get pages of 10,000 and of 1,000,000 orders, for each filter and sort."""

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

from api.reads import orders as queries
from dev.bench import machine
from dev.bench.datasets import BEGAN, DAYS, SKUS, Shelf, stocked
from dev.bench.report import Json, columns, counted, percentiles_ms, place
from dev.bench.servers import postgres
from readside.order_view.queries import Filter, Row

WARM_UPS = 6  # After so many, Postgres has made up its mind about a statement's plan.
SECONDS_MAX = 1.0  # Of one size in a round of one kind of page: what is slow is sampled less.
RATIO_MAX = 1.5
SECOND_LOOK = 3
METHOD = (
    "GET /v1/orders, 25 orders, over a connection that is kept, from an API process for each size;"
    " no tracing, no authentication. What is asked for is drawn anew each time, at random like the"
    " orders themselves; the sizes take turns. Deep is the middle of all orders by that sort, where"
    " a cursor would continue. Postgres has room for all of them in its memory. Numbers are medians"
    f" of rounds; a kind that is not under {RATIO_MAX} gets {SECOND_LOOK} times as many rounds, and"
    " all count."
)


Wanted = Callable[[Random, Shelf], dict[str, Any]]
"""Draws the values of a filter."""


def _customer(dice: Random, shelf: Shelf) -> dict[str, Any]:
    return {"customer_id": f"customer-{int(shelf.customers * dice.random() ** 3)}"}


def _sku(dice: Random, _: Shelf) -> dict[str, Any]:
    return {"sku": f"sku-{int(SKUS * dice.random() ** 4)}"}


def _reference(dice: Random, shelf: Shelf) -> dict[str, Any]:
    return {"external_reference": f"reference-{5 * dice.randint(1, max(shelf.orders // 5, 1))}"}


def _status(*statuses: str) -> Wanted:
    return lambda _dice, _shelf: {"status": statuses}


def _placed(days: int) -> Wanted:
    middle, half = BEGAN + timedelta(days=DAYS / 2), timedelta(days=days / 2)
    between = {"placed_from": middle - half, "placed_until": middle + half}
    return lambda _dice, _shelf: between


def _both(one: Wanted, other: Wanted) -> Wanted:
    return lambda dice, shelf: one(dice, shelf) | other(dice, shelf)


FILTERS: dict[str, Wanted] = {
    "all": lambda _dice, _shelf: {},
    "customer": _customer,
    "status, of most": _status("completed"),
    "status, of few": _status("on_hold"),
    "two statuses": _status("confirmed", "cancelled"),
    "needs attention": lambda _dice, _shelf: {"needs_attention": True},
    "SKU": _sku,
    "external reference": _reference,
    "placed in a month": _placed(30),
    "placed in a year": _placed(365),
    "total from": lambda _dice, _shelf: {"total_from": 1_000},
    "total between": lambda _dice, _shelf: {"total_from": 1_000, "total_until": 1_200},
    "customer, status": _both(_customer, _status("completed")),
    "SKU, status": _both(_sku, _status("confirmed")),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--few", type=counted, default=10_000, help="orders")
    parser.add_argument("--many", type=counted, default=1_000_000, help="orders")
    parser.add_argument("--samples", type=counted, default=300, help="of a kind of page in a round")
    parser.add_argument("--rounds", type=counted, default=5, help="at least, of each kind")


async def measured(options: argparse.Namespace, console: Console) -> Json:
    """Makes the orders, and asks for pages of them."""
    dice = Random(5)
    # Postgres' manual advises a quarter of the memory; here all orders are in it, of 3 kB each.
    memory_mb = 128 + options.many // 250
    async with postgres(f"shared_buffers={memory_mb}MB") as server:
        shelves = []
        for name in ("few", "many"):
            orders = getattr(options, name)
            console.print(f"making {orders:,} orders …")
            shelves.append(await stocked(server, name, orders))
        pages = _pages(dice, shelves[0])
        console.print(f"asking for {len(pages)} kinds of pages …")
        measured = []
        for before, page in pairwise([("", "", False), *pages]):
            if page[0] != before[0]:
                console.print(f"  {page[0]} …")
            await _timed(shelves, *page, WARM_UPS, dice)
            rounds: list[list[dict[str, float]]] = []
            for most in (options.rounds, SECOND_LOOK * options.rounds):
                while len(rounds) < most:
                    rounds.append(await _timed(shelves, *page, options.samples, dice))
                compared = _compared(*page, rounds)
                if compared["ratio"] < RATIO_MAX:
                    break
            measured.append(compared)
    measured.sort(key=lambda page: -page["ratio"])
    return {
        "orders": [shelf.orders for shelf in shelves],
        "samples": options.samples,
        "worst_ratio": measured[0]["ratio"],
        "pages": measured,
        "machine": machine.description(),
    }


def _pages(dice: Random, shelf: Shelf) -> list[tuple[str, str, bool]]:
    """Each filter with each sort that an index serves for it, first page and deep inside."""
    sorts = {name: Filter(**draw(dice, shelf)).sorts for name, draw in FILTERS.items()}
    return [
        (name, sign + sort, deep)
        for name, of_it in sorts.items()
        for sort, sign, deep in product(of_it, ("-", ""), (False, True))
    ]


async def _timed(
    shelves: list[Shelf], filter: str, sort: str, deep: bool, samples: int, dice: Random
) -> list[dict[str, float]]:
    """For each shelf, percentiles of what such pages took; the shelves take turns."""
    took: list[list[float]] = [[] for _ in shelves]
    for _ in range(samples):
        for shelf, so_far in zip(shelves, took, strict=True):
            if sum(so_far) > SECONDS_MAX:
                continue
            wanted = FILTERS[filter](dice, shelf)
            middle = dice.choice(shelf.middles[sort.removeprefix("-")])
            path = _path(wanted, sort, middle if deep else None)
            outcome = await shelf.front.ask(f"GET {path}")
            if outcome.status != 200:
                raise RuntimeError(f"GET {path}: {outcome.status} {outcome.said}")
            so_far.append(outcome.latency_s)
    return [percentiles_ms(of_one) for of_one in took]


def _path(wanted: dict[str, Any], sort: str, middle: datetime | int | None) -> str:
    """Where the API has a page: the first, or one that begins in the middle."""
    cursor = queries.cursor_after(Row("8", 1, "", middle), sort) if middle is not None else None
    asked = {**wanted, "sort": sort, "cursor": cursor}
    words = {name: str(v).lower() if isinstance(v, bool) else v for name, v in asked.items() if v}
    return f"/v1/orders?{urlencode(words, doseq=True)}"


def _compared(filter: str, sort: str, deep: bool, rounds: list[list[dict[str, float]]]) -> Json:
    few, many = (
        {p: round(median(one[p] for one in of_shelf), 3) for p in ("p50", "p99")}
        for of_shelf in zip(*rounds, strict=True)
    )
    return {
        "filter": filter,
        "sort": sort,
        "page": "deep" if deep else "first",
        "few_ms": few,
        "many_ms": many,
        "ratio": round(many["p99"] / few["p99"], 2),
        "ratio_p50": round(many["p50"] / few["p50"], 2),
    }


def show(console: Console, result: Json) -> None:
    """Prints the worst page of each filter."""
    few, many = (f"{orders:,}" for orders in result["orders"])
    table = columns("orders", *[f"{p} {n}" for p in ("p50", "p99") for n in (few, many)], "ratio")
    worst = {page["filter"]: page for page in reversed(result["pages"])}
    for page in sorted(worst.values(), key=lambda page: -page["ratio"]):
        times = [page[size][p] for p in ("p50", "p99") for size in ("few_ms", "many_ms")]
        label = f"{page['filter']}; {page['sort']}; {page['page']}"
        table.add_row(label, *[f"{ms:,.2f}" for ms in times], f"{page['ratio']:,}")
    console.print(table)
    under = sum(page["ratio"] < RATIO_MAX for page in result["pages"])
    console.print(
        "The worst page of each filter, in milliseconds. The p99 grows less than"
        f" {RATIO_MAX} times for {under} of all {len(result['pages'])} kinds of pages.\n"
        f"{place(result['machine'])}.\n{METHOD}\n"
    )
