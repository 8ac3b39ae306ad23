"""`orderly rehearse`: what the rules of another checkout would have decided on recorded orders."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.operations import EXIT_DIFFERENT, EXIT_NOT_COMPARED, PANEL, operate, write_json
from runtime import EXIT_INTERRUPTED, EXIT_USAGE, fail, until_signal

if TYPE_CHECKING:
    from rehearsal.expectation import Expectation
    from rehearsal.recorded import Selection
    from rehearsal.report import Report

app = typer.Typer()


def instant_of(text: str) -> datetime:
    """An ISO 8601 date or date-time, in UTC if it names no zone."""
    try:
        instant = datetime.fromisoformat(text)
        return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is no date or time of ISO 8601, such as 2026-03-01 or 2026-03-01T12:00:00Z."
        ) from None


@app.command(rich_help_panel=PANEL)
def rehearse(
    directory: Annotated[
        Path, typer.Option("--with", help="A checkout of orderly, with the rules to try.")
    ],
    since: Annotated[
        datetime | None,
        typer.Option(
            parser=instant_of,
            metavar="TIME",
            help="Only orders opened since then: ISO 8601, in UTC without a zone.",
        ),
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
    """Decide recorded orders again by other rules, and print what would differ; 1 if any does.

    The exit code is 2 if no order was rehearsed.
    """
    from rehearsal.expectation import ExpectationError, read_expectation, violations
    from rehearsal.process import CheckoutError
    from rehearsal.recorded import Selection
    from rehearsal.report_text import sentences

    try:
        expected = read_expectation(expect) if expect else None
    except ExpectationError as error:
        fail(error, EXIT_USAGE)
    selection = Selection(since, sample)

    async def perform(dsn: str) -> int:
        write_json(json_file, None)  # Instead of the last report: this one may not come.
        try:
            report = await _rehearse(dsn, directory, selection, expected)
        except (CheckoutError, ExpectationError) as error:
            fail(error, EXIT_USAGE)
        found = [*violations(expected, report)] if expected else []
        write_json(json_file, report.as_json() | {"violations": found})
        if not report.orders:
            then = f" that was opened since {since:%Y-%m-%d %H:%M:%S} UTC" if since else ""
            fail(f"No order was rehearsed: the log has none{then}.", EXIT_NOT_COMPARED)
        print("\n".join(sentences(report, str(directory))))
        if expected is not None:
            print("\n" + ("\n".join(found) or f"All of it is as declared: {expected.because}"))
            return EXIT_USAGE if found else 0
        return EXIT_DIFFERENT if report.differing or report.not_rehearsed else 0

    operate(lambda dsn: until_signal(perform(dsn), EXIT_INTERRUPTED), exit_failed=EXIT_NOT_COMPARED)


async def _rehearse(
    dsn: str, directory: Path, selection: Selection, expected: Expectation | None
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

        return await rehearse(dsn, directory, selection, advance, expected)
