"""One rehearsal from the log to the report."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from eventlog.postgres import connect_pool
from rehearsal.process import Rules
from rehearsal.recorded import Selection, count_orders, end_of_log, read_recorded
from rehearsal.report import Report

Progress = Callable[[int, int], None]
"""Takes the number of orders so far, and that of all."""


async def rehearse(
    dsn: str,
    directory: Path,
    selection: Selection,
    progress: Progress = lambda done, total: None,
    expected_events: frozenset[str] = frozenset(),
) -> Report:
    """Decides the selected orders again by the rules in a directory; raises CheckoutError."""
    report, began = Report(expected_events=expected_events), time.monotonic()
    rules = await Rules.start(directory)
    async with await connect_pool(dsn) as pool:
        until = await end_of_log(pool)
        if until is None:
            await rules.stop()
            return report
        total = await count_orders(pool, selection)
        async for order, outcome in rules.rehearse(read_recorded(pool, selection), until):
            report.add(order, outcome)
            progress(report.orders, total)
    report.seconds, report.cpu_seconds = time.monotonic() - began, rules.cpu_seconds
    return report
