"""`orderly rehearse`: what the rules of another checkout would have decided on recorded orders."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.operations import EXIT_DIFFERENT, PANEL, operate, write_json
from runtime import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, fail, until_signal

if TYPE_CHECKING:
    from rehearsal.recorded import Selection
    from rehearsal.report import Report

app = typer.Typer()


@app.command(rich_help_panel=PANEL)
def rehearse(
    directory: Annotated[
        Path, typer.Option("--with", help="A checkout of orderly, with the rules to try.")
    ],
    since: Annotated[
        datetime | None, typer.Option(help="Only orders opened since then (UTC).")
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Only this many orders, picked at random.")
    ] = None,
    expect: Annotated[
        Path | None,
        typer.Option(help="TOML file that declares what may change; 2 if more does."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="JSON file for the whole report.")
    ] = None,
) -> None:
    """Decide recorded orders again by other rules, and print what would differ; 1 if any does."""
    from datetime import UTC

    from rehearsal.expectation import Expectation, ExpectationError, read_expectation, violations
    from rehearsal.process import CheckoutError
    from rehearsal.recorded import Selection
    from rehearsal.report_text import sentences

    expected: Expectation | None = None
    try:
        expected = read_expectation(expect) if expect else None
    except ExpectationError as error:
        fail(error, EXIT_USAGE)
    selection = Selection(since and since.replace(tzinfo=UTC), sample)

    async def perform(dsn: str) -> int:
        write_json(json_file, None)  # Instead of the last report: this one may not come.
        try:
            events = expected.orders.with_event if expected else frozenset[str]()
            report = await _rehearse(dsn, directory, selection, events)
        except CheckoutError as error:
            fail(error, EXIT_USAGE)
        found = [*violations(expected, report)] if expected else []
        write_json(json_file, report.as_json() | {"violations": found})
        print("\n".join(sentences(report, str(directory))))
        if expected is not None:
            print("\n" + ("\n".join(found) or f"All of it is as declared: {expected.because}"))
            return EXIT_USAGE if found else 0
        if report.unreadable or report.failures:
            return EXIT_FAILED
        return EXIT_DIFFERENT if report.differing else 0

    operate(lambda dsn: until_signal(perform(dsn), EXIT_INTERRUPTED))


async def _rehearse(
    dsn: str, directory: Path, selection: Selection, events: frozenset[str]
) -> Report:
    """The report, with a progress bar; raises CheckoutError."""
    from rich.console import Console
    from rich.progress import Progress

    from rehearsal.run import rehearse

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("orders", total=None, visible=False)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, visible=True)

        return await rehearse(dsn, directory, selection, advance, events)
