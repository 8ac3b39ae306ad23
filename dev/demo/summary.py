"""What a person sees at the end: whether the books agree, how fast it was, and where to look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from dev.demo.checkout import Placed, Tally
from dev.demo.expected import Difference, Sums, amounts, count
from dev.demo.ledger_totals import MONEY, PIECES
from dev.demo.order_session import ORDERS
from dev.demo.reconciliation import Aftermath

if TYPE_CHECKING:
    from dev.stack.programs import Addresses

TELLING_LINES = 5  # An order of about so many lines shows how it came about at a glance.


@dataclass(frozen=True)
class Outcome:
    """How a replay went: `expected` is the file's word, `found` the API's, of what was placed."""

    baskets: int
    tally: Tally
    requests: int
    repetitions: int
    took_s: float
    expected: Sums
    found: Sums
    refusals_expected: int
    baskets_differ: list[Difference]
    aftermath: Aftermath

    @property
    def differences(self) -> list[Difference]:
        return [*self.baskets_differ, *self.aftermath.differences]


def show(console: Console, outcome: Outcome, stack: Addresses) -> None:
    """Prints all of it, differences last but for where to look."""
    agreed = not outcome.differences
    console.print()
    console.print(
        Panel(
            Group(_books(outcome), "", _ledgers(outcome.aftermath), "", _facts(outcome)),
            title=f"[bold]{_verdict(outcome)}[/]",
            title_align="left",
            border_style="green" if agreed else "red",
            padding=(1, 2),
            expand=False,
        )
    )
    if not agreed:
        console.print(_differences(outcome.differences))
    if outcome.tally.placed:
        _show_links(console, stack, _telling(outcome.tally.placed).order_id)


def _verdict(outcome: Outcome) -> str:
    if outcome.differences:
        return f"The books differ: {count(len(outcome.differences), 'difference')}, listed below"
    return f"{count(outcome.baskets, 'basket')} replayed, every cent and piece accounted for"


def _books(outcome: Outcome) -> Table:
    """What was placed, as the file and the API have it."""
    expected, found = outcome.expected, outcome.found
    refused = outcome.tally.refused_lines.total()
    return _side_by_side(
        ("placed", "the file says", "the API says"),
        ("orders", f"{expected.orders:,}", f"{found.orders:,}"),
        ("lines", f"{expected.lines:,}", f"{found.lines:,}"),
        ("lines refused", f"{outcome.refusals_expected:,}", f"{refused:,}"),
        ("money", amounts(expected.money), amounts(found.money)),
    )


def _ledgers(aftermath: Aftermath) -> Table:
    """What has become of it, as the orders and the services behind them have it."""
    return _side_by_side(
        ("in the end", "payments and stock say", "the orders say"),
        *(
            (kind, aftermath.theirs.told(kind), aftermath.ours.told(kind))
            for kind in (*MONEY, *PIECES)
        ),
    )


def _side_by_side(head: tuple[str, str, str], *rows: tuple[str, str, str]) -> Table:
    table = Table.grid(padding=(0, 3, 0, 0))
    for justify in ("left", "right", "right", "left"):
        table.add_column(justify=justify)
    table.add_row(*(f"[dim]{it}[/]" for it in head), "")
    for name, ours, theirs in rows:
        mark = "[green]✓[/]" if ours == theirs else "[red]✗[/]"
        table.add_row(name, ours, f"[bold]{theirs}[/]", mark)
    return table


def _facts(outcome: Outcome) -> Table:
    """What happened to orders, refusals by reason, and how fast it all was."""
    tally, took_s, after = outcome.tally, outcome.took_s, outcome.aftermath
    table = Table.grid(padding=(0, 3, 0, 0))
    table.add_row("ended", ", ".join(f"{n:,} {end}" for end, n in after.ends.most_common()))
    for place, (name, times) in enumerate(after.lives.most_common()):
        table.add_row("" if place else "of them", f"{times:,} × {name}")
    for reason, times in tally.reasons.most_common():
        why = f"{times:,} × {reason.field}: {reason.detail} ({reason.code})"
        table.add_row("refusals", escape(why))
    if tally.not_placed:
        table.add_row("not placed", count(tally.not_placed, "basket"))
    table.add_row(
        "speed",
        f"[bold]{tally.commands / took_s:,.0f} commands/s[/]"
        f"  ({tally.commands:,} in {count(outcome.requests, 'request')}, {took_s:.1f} s)",
    )
    table.add_row("", f"{len(tally.placed) / took_s:.1f} orders/s")
    table.add_row("", f"{after.lives.total():,} of them to their end in {after.took_s:.1f} s more")
    if tally.freshness_s:
        p50, p99 = (_percentile_ms(tally.freshness_s, share) for share in (0.50, 0.99))
        table.add_row("freshness", f"p50 {p50:,.0f} ms, p99 {p99:,.0f} ms until a read shows it")
    if outcome.repetitions:
        table.add_row("retries", f"{outcome.repetitions:,}, each under the key of its request")
    return table


def _differences(differences: list[Difference]) -> Table:
    """Every one of them: whoever looks for a cent needs to see where it went."""
    table = Table("where", "expected", "found", box=None, padding=(0, 3, 0, 2))
    for it in differences:
        table.add_row(escape(it.where), escape(it.expected), f"[red]{escape(it.found)}[/]")
    return table


def _show_links(console: Console, stack: Addresses, order_id: str) -> None:
    workflows = f"{stack.temporal_ui_url}/namespaces/{stack.temporal_namespace}/workflows"
    console.print(
        "\n  Where to look, while the stack runs (--keep leaves it running):\n"
        f"\n  The API      {stack.api_url}/docs"
        f"\n  One order    {workflows}/{order_id}"
        f"\n  Its history  curl {stack.api_url}{ORDERS}/{order_id}/history\n",
        markup=False,
        soft_wrap=True,
    )


def _telling(placed: Sequence[Placed]) -> Placed:
    """An order worth looking at: made step by step, and not too long."""
    return min(placed, key=lambda p: (not p.in_steps, abs(p.lines - TELLING_LINES)))


def _percentile_ms(seconds: Sequence[float], share: float) -> float:
    """The time that `share` of them did not exceed, in milliseconds."""
    return 1000 * sorted(seconds)[ceil(share * len(seconds)) - 1]
