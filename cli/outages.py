"""Operator's commands for outages: `status`, `doctor`, and `retry-steps` afterwards."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import operations
from cli.info_file import DEFAULT, InfoFile, NoRunningStack, addresses, use_running_stack
from cli.operations import operate_on_both
from runtime import EXIT_FAILED, EXIT_USAGE, fail, load_settings, run

if TYPE_CHECKING:
    import asyncpg
    from temporalio.client import Client

DEFAULT_URL = "http://127.0.0.1:8081"

app = typer.Typer()


@app.command(rich_help_panel="Operations, on a running API")
def status(
    url: Annotated[
        str | None,
        typer.Option(
            help="Admin URL of an API process.", show_default=f"of `orderly up`, {DEFAULT_URL}"
        ),
    ] = None,
    info_file: InfoFile = DEFAULT,
) -> None:
    """Say what works, what does not, and what to do; the exit code is 1 if anything is wrong."""
    from cli.status import NoAnswer, fetch, findings

    async def ask() -> int:
        found = list(findings(await fetch(url or _api_of(info_file))))
        print("\n".join(map(str, found)))
        return EXIT_FAILED if any(finding.remedy for finding in found) else 0

    run(ask(), {NoAnswer: EXIT_FAILED})


@app.command(rich_help_panel=operations.PANEL)
def doctor() -> None:
    """Examine settings, servers and workers, and say what to do; the exit code is 1 if anything."""
    from cli.doctor import examine
    from settings import Settings, from_environment

    use_running_stack()
    settings = load_settings(lambda: from_environment(Settings))

    async def report() -> int:
        is_well = True
        async for finding in examine(settings):
            print(finding, flush=True)
            is_well = is_well and not finding.remedy
        return 0 if is_well else EXIT_FAILED

    run(report())


@app.command("retry-steps", rich_help_panel=operations.PANEL)
def retry_steps(
    service: Annotated[
        str | None, typer.Option(help="Only steps at payments, stock or shipping.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it, nothing changes.")] = False,
) -> None:
    """Retry the stuck steps of all orders now, such as when an external service is back."""
    from rich.console import Console

    from cli.retry_steps import Interrupted, retry, stuck_orders, summary
    from orders.steps import SERVICE_OF_STEP

    if service is not None and service not in SERVICE_OF_STEP.values():
        known = ", ".join(dict.fromkeys(SERVICE_OF_STEP.values()))
        fail(f"There is no service {service}; there are: {known}.", EXIT_USAGE)

    async def perform(pool: asyncpg.Pool, client: Client, task_queue: str) -> None:
        orders = await stuck_orders(pool, service)
        print(summary(orders))
        if not orders:
            return
        if not yes:
            print("`orderly retry-steps --yes` retries them.")
            return
        retried = skipped = 0
        try:
            with Console(stderr=True).status("retrying …") as progress:
                async for was_stuck in retry(client, pool, task_queue, orders):
                    retried, skipped = retried + was_stuck, skipped + (not was_stuck)
                    progress.update(f"{retried + skipped:,} of {len(orders):,} orders")
        except Interrupted as error:
            fail(f"{retried:,} orders were retried, then {error}. Run it again.", EXIT_FAILED)
        print(f"{retried:,} orders are retried, {skipped:,} had changed meanwhile.")

    operate_on_both(perform)


def _api_of(info_file: Path) -> str:
    """The admin URL of the API of a running stack, or else the default one."""
    with suppress(NoRunningStack, LookupError, TypeError):
        return str(addresses(info_file)["admin_urls"]["api"])
    return DEFAULT_URL
