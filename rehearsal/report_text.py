"""The report of a rehearsal in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from orders.money import format_amount
from rehearsal.report import Json, Report, kind_of

SHOWN_MAX = 5
"""The number of examples."""
ROWS_MAX = 10
"""Of one kind."""


def sentences(report: Report, directory: str) -> Iterator[str]:
    """The report in words, line by line."""
    rate = report.decisions / report.cpu_seconds if report.cpu_seconds else 0
    yield (
        f"{count_of(report.orders)} rehearsed with {directory}: {report.decisions:,} decisions in"
        f" {report.seconds:.1f} s, {rate:,.0f} a second and core."
    )
    same = report.orders - report.differing - report.not_rehearsed
    yield f"{differ(report.differing)}, and {same:,} as before."
    yield from _problems(report)
    yield from _gaps(report)
    yield from _section("First difference of each order", report.first_differences)
    money = list(report.money_changes())
    if money:
        yield ""
        yield "Money"
        for kind, currency, was, now in money:
            change = f"{100 * (now - was) / was:+.2f} %" if was else "from nothing"
            yield (
                f"  {kind:<11}{format_amount(was, currency):>18} →"
                f" {format_amount(now, currency):>18}  {change}"
            )
    yield from _section("Statuses", report.flows)
    yield from _section("Commands", report.changes)
    yield from _imagination(report)
    yield from _examples(report)


def count_of(orders: int) -> str:
    return "1 order" if orders == 1 else f"{orders:,} orders"


def differ(orders: int) -> str:
    return f"{count_of(orders)} {'differs' if orders == 1 else 'differ'}"


def _problems(report: Report) -> Iterator[str]:
    if report.problems:
        shown = len(report.problems)
        first = f", of which these are the first {shown}" if report.not_rehearsed > shown else ""
        yield f"{count_of(report.not_rehearsed)} could not be rehearsed{first}:"
    yield from (f"  {problem}" for problem in report.problems)


def _gaps(report: Report) -> Iterator[str]:
    if report.without_journal:
        yield (
            f"Inputs that the journal lacks are taken as they happened, in"
            f" {count_of(report.without_journal)}."
        )
    if report.without_worker:
        yield (
            f"No worker has run {count_of(report.without_worker)} since a deadline passed: taken as"
            " they are (see `orderly stuck` and `orderly verify`)."
        )
    if report.damaged:
        yield f"Damaged entries of the journal: {report.damaged:,}."


def _section(title: str, counts: Counter[str]) -> Iterator[str]:
    if not counts:
        return
    yield ""
    yield title
    for text, count in counts.most_common(ROWS_MAX):
        yield f"  {count:,} × {text}"
    if len(counts) > ROWS_MAX:
        yield f"  and {len(counts) - ROWS_MAX:,} more kinds"


def _imagination(report: Report) -> Iterator[str]:
    if not report.imagined_events:
        return
    yield ""
    yield "What is factual, and what is imagined"
    yield (
        f"  Of the orders that differ, {report.factual_events:,} events are as they happened, and"
        f" {report.imagined_events:,} are imagined."
    )
    yield f"  Recorded answers that fitted: {_listed(report.matched)}."
    yield f"  Answers by the simulators' rules: {_listed(report.simulated)}."
    if report.unclaimed:
        yield f"  Recorded answers that nothing asked for: {report.unclaimed:,}."


def _listed(counts: Counter[str]) -> str:
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common())
    return f"{counts.total():,} ({kinds})" if kinds else "none"


def _examples(report: Report) -> Iterator[str]:
    if report.examples:
        yield ""
        yield "Examples; GET /v1/orders/ID/history?include=intents shows what happened"
    for first in report.examples[:SHOWN_MAX]:
        yield (
            f"  {first['order_id']} after version {first['after_version']}:"
            f" {kind_of(first)}{_detail(first)}"
        )


def _detail(first: Json) -> str:
    """The first field of the first event that differs."""
    pairs = zip(first["recorded"]["events"], first["imagined"]["events"], strict=False)
    for (was, _, before), (now, _, after) in pairs:
        if was == now and before != after:
            names = (n for n in [*before, *after] if before.get(n) != after.get(n))
            name = next(names)
            return f"; {name} of {now} is {_short(after.get(name))}, was {_short(before.get(name))}"
        if was != now:
            return ""
    return ""


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
