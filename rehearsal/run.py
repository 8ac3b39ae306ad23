"""One rehearsal from the log to the report."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from eventlog.postgres import connect_pool
from rehearsal.expectation import Expectation, check_types
from rehearsal.process import Rules
from rehearsal.recorded import (
    RecordedOrder,
    Selection,
    count_orders,
    end_of_log,
    read_recorded,
)
from rehearsal.redecide import missed_deadline
from rehearsal.report import Json, Report

Progress = Callable[[int, int], None]
"""Takes the number of orders so far, and that of all."""


async def rehearse(
    dsn: str,
    directory: Path,
    selection: Selection,
    progress: Progress = lambda done, total: None,
    expected: Expectation | None = None,
) -> Report:
    """Decides the selected orders again by the rules in a directory.

    Raises CheckoutError, or ExpectationError for what those rules and ours do not know.
    """
    events = expected.orders.with_event if expected else frozenset[str]()
    report, began = Report(expected_events=events), time.monotonic()
    rules = await Rules.start(directory)
    try:
        if expected is not None:
            check_types(expected, rules.types)
        async with await connect_pool(dsn) as pool:
            total = await count_orders(pool, selection)
            if (until := await end_of_log(pool)) is None:
                return report
            async for order, outcome in rules.rehearse(read_recorded(pool, selection), until):
                add(report, order, outcome, until)
                progress(report.orders, total)
    finally:
        await rules.stop()
    report.seconds, report.cpu_seconds = time.monotonic() - began, rules.cpu_seconds
    return report


def add(report: Report, order: RecordedOrder, outcome: Json, until: datetime) -> None:
    """Counts one order; as it was recorded, if all that differs is that no worker has run it."""
    if outcome.get("differs_only_at_end") and missed_deadline(order.events, until):
        report.without_worker += 1
        recorded = outcome["money"]["recorded"]
        money = {"recorded": recorded, "imagined": recorded}
        outcome = {"decisions": outcome["decisions"], "money": money}
    report.add(order, outcome)
