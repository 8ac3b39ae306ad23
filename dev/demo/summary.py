"""Prints the result of a replay: whether the amounts agree, the speed, and where to look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from dev.api_client import ORDERS
from dev.demo.checkout import CheckoutStats, PlacedOrder
from dev.demo.expected import Difference, Totals, amounts, count
from dev.demo.leaving import LeftOrders
from dev.demo.ledger_totals import MONEY, PIECES
from dev.demo.reconciliation import Reconciliation
from dev.demo.webhooks import WebhookCheck

if TYPE_CHECKING:
    from dev.stack.programs import Addresses

EXAMPLE_LINES = 5  # An order with about this many lines has a short and telling history.


@dataclass(frozen=True)
class ReplayResult:
    """The result of a replay: placed orders by the file (`expected`) and by the API (`found`)."""

    baskets: int
    stats: CheckoutStats
    requests: int
    retries: int
    took_s: float
    expected: Totals
    found: Totals
    expected_rejections: int
    order_differences: list[Difference]
    reconciliation: Reconciliation
    webhooks: WebhookCheck | None = None

    @property
    def differences(self) -> list[Difference]:
        return [
            *self.order_differences,
            *self.reconciliation.differences,
            *self._webhook_differences(),
        ]

    def _webhook_differences(self) -> list[Difference]:
        sent = self.webhooks
        if sent is None or sent.delivered == sent.in_feed:
            return []
        feed, received = (f"{one.count:,} events, {one}" for one in (sent.in_feed, sent.delivered))
        missing = [Difference(event_id, "a webhook", "none") for event_id in sent.missing]
        return [Difference("webhooks", feed, received), *missing]


def show(console: Console, result: ReplayResult) -> None:
    """Prints the whole result, then all differences."""
    console.print()
    console.print(
        Panel(
            Group(_orders(result), "", _ledgers(result.reconciliation), "", _facts(result)),
            title=f"[bold]{_verdict(result)}[/]",
            title_align="left",
            border_style="red" if result.differences else "green",
            padding=(1, 2),
            expand=False,
        )
    )
    if result.differences:
        console.print(_differences(result.differences))


def show_left(console: Console, left: LeftOrders) -> None:
    """Prints which orders were left unfinished, and what they wait for."""
    orders = count(left.by_scenario.total(), "order")
    console.print(f"\n  {orders} more left waiting, in none of the figures above:\n")
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, times in left.by_scenario.items():
        table.add_row("   ", f"{times} × {name}", f"wait for {left.waits[name]}")
    console.print(table)
    for problem in left.problems:
        console.print(f"    [red]not left waiting: {escape(problem)}[/]")


def show_links(console: Console, result: ReplayResult, stack: Addresses) -> None:
    """Prints where to see one of the orders."""
    if not result.stats.placed:
        return
    order_id = _example(result.stats.placed).order_id
    workflows = f"{stack.temporal_ui_url}/namespaces/{stack.temporal_namespace}/workflows"
    console.print(
        "\n  One of the orders:\n"
        f"\n  In the console  {stack.console_url}orders/{order_id}"
        f"\n  In Temporal     {workflows}/{order_id}"
        f"\n  Its history     curl {stack.api_url}{ORDERS}/{order_id}/history",
        markup=False,
        soft_wrap=True,
    )


def _verdict(result: ReplayResult) -> str:
    if result.differences:
        return f"{count(len(result.differences), 'difference')} found, listed below"
    return f"{count(result.baskets, 'basket')} replayed, every cent and piece accounted for"


def _orders(result: ReplayResult) -> Table:
    """The placed orders, by the file and by the API."""
    expected, found = result.expected, result.found
    rejected = result.stats.rejected_lines.total()
    return _side_by_side(
        ("placed", "the file says", "the API says"),
        ("orders", f"{expected.orders:,}", f"{found.orders:,}"),
        ("lines", f"{expected.lines:,}", f"{found.lines:,}"),
        ("lines rejected", f"{result.expected_rejections:,}", f"{rejected:,}"),
        ("money", amounts(expected.money), amounts(found.money)),
    )


def _ledgers(reconciliation: Reconciliation) -> Table:
    """The final amounts, by the services' ledgers and by the orders."""
    services, orders = reconciliation.services_ledger, reconciliation.orders_ledger
    return _side_by_side(
        ("in the end", "payments and stock say", "the orders say"),
        *((kind, services.total(kind), orders.total(kind)) for kind in (*MONEY, *PIECES)),
    )


def _side_by_side(head: tuple[str, str, str], *rows: tuple[str, str, str]) -> Table:
    table = Table.grid(padding=(0, 3, 0, 0))
    for justify in ("left", "right", "right", "left"):
        table.add_column(justify=justify)
    table.add_row(*(f"[dim]{it}[/]" for it in head), "")
    for name, one, other in rows:
        mark = "[green]✓[/]" if one == other else "[red]✗[/]"
        table.add_row(name, one, f"[bold]{other}[/]", mark)
    return table


def _facts(result: ReplayResult) -> Table:
    """How orders ended, rejections by reason, and speed."""
    table = Table.grid(padding=(0, 3, 0, 0))
    for label, text in (*_ends(result), *_speed(result)):
        table.add_row(label, text)
    return table


def _ends(result: ReplayResult) -> list[tuple[str, str]]:
    stats, ended = result.stats, result.reconciliation
    rows = [("ended", ", ".join(f"{n:,} {end}" for end, n in ended.ends.most_common()))]
    for index, (name, times) in enumerate(ended.scenarios.most_common()):
        rows.append(("" if index else "of them", f"{times:,} × {name}"))
    for reason, times in stats.rejections.most_common():
        why = f"{times:,} × {reason.field}: {reason.detail} ({reason.code})"
        rows.append(("rejections", escape(why)))
    if stats.not_placed:
        rows.append(("not placed", count(stats.not_placed, "basket")))
    return rows


def _speed(result: ReplayResult) -> list[tuple[str, str]]:
    stats, took_s, after = result.stats, result.took_s, result.reconciliation
    rate = f"[bold]{stats.commands / took_s:,.0f} commands/s[/]"
    requests = count(result.requests, "request")
    rows = [
        ("speed", f"{rate}  ({stats.commands:,} in {requests}, {took_s:.1f} s)"),
        ("", f"{len(stats.placed) / took_s:.1f} orders/s"),
        ("", f"{after.scenarios.total():,} scenarios in {after.took_s:.1f} s more"),
    ]
    if stats.freshness_s:
        p50, p99 = (_percentile_ms(stats.freshness_s, share) for share in (0.50, 0.99))
        rows.append(("freshness", f"p50 {p50:,.0f} ms, p99 {p99:,.0f} ms until a read shows it"))
    if result.webhooks is not None:
        delivered, in_feed = result.webhooks.delivered, result.webhooks.in_feed
        rows += [
            (
                "webhooks",
                f"{delivered.count:,} of the {in_feed.count:,} events in the feed received",
            ),
            ("", f"digest {delivered}, that of the feed is {in_feed}"),
        ]
    if result.retries:
        rows.append(("retries", f"{result.retries:,}, each under the key of its request"))
    return rows


def _differences(differences: list[Difference]) -> Table:
    """All of them: the search for a missing cent starts here."""
    table = Table("subject", "expected", "found", box=None, padding=(0, 3, 0, 2))
    for it in differences:
        table.add_row(escape(it.subject), escape(it.expected), f"[red]{escape(it.found)}[/]")
    return table


def _example(placed: Sequence[PlacedOrder]) -> PlacedOrder:
    """An order worth a look: made line by line, with about EXAMPLE_LINES lines."""
    return min(placed, key=lambda p: (not p.is_line_by_line, abs(p.lines - EXAMPLE_LINES)))


def _percentile_ms(seconds: Sequence[float], share: float) -> float:
    """The time that `share` of them did not exceed, in milliseconds."""
    return 1000 * sorted(seconds)[ceil(share * len(seconds)) - 1]
