"""One rehearsal from the log to the report."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from eventlog.postgres import connect_pool
from rehearsal.expectation import Expectation, check_types
from rehearsal.process import Rules
from rehearsal.recorded import Selection, count_orders, end_of_log, read_recorded
from rehearsal.redecide import was_left_alone
from rehearsal.report import Report

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
                if "differs_at_its_end" in outcome and was_left_alone(order.events, until):
                    report.add_left_alone(order, outcome)
                else:
                    report.add(order, outcome)
                progress(report.orders, total)
    finally:
        await rules.stop()
    report.seconds, report.cpu_seconds = time.monotonic() - began, rules.cpu_seconds
    return report
