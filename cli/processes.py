"""Commands that run one process of orderly until SIGTERM or Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import runtime

if TYPE_CHECKING:
    from settings import Settings, SimulatorSettings

PANEL = "Processes, each configured by ORDERLY_* environment variables"

app = typer.Typer()


@app.command(rich_help_panel=PANEL)
def api() -> None:
    """Serve the REST API on ORDERLY_API_HOST and ORDERLY_API_PORT."""
    from settings import api_from_environment

    settings = runtime.load_settings(api_from_environment)
    from admin.server import AddressInUse
    from api.app import serve  # It takes seconds: a wrong setting is reported at once.
    from workflows.restore_guard import RestoreNoticed

    failures: runtime.Failures = {
        AddressInUse: runtime.EXIT_USAGE,
        ConnectionError: runtime.EXIT_FAILED,
        RestoreNoticed: runtime.EXIT_FAILED,
    }
    runtime.serve(lambda: settings, serve, "orderly-api", failures)


@app.command(rich_help_panel=PANEL)
def worker() -> None:
    """Run the Temporal worker that executes orders."""
    import worker

    worker.main()


@app.command(rich_help_panel=PANEL)
def projector() -> None:
    """Keep the read models and the digests up to date with the event log."""
    from admin.server import AddressInUse, Process, serving
    from background import in_background
    from eventlog import digest_blocks
    from readside.engine.projector import SERVES, pulses_of, read_readiness, run
    from readside.registry import PROJECTIONS
    from settings import Settings, from_environment

    async def project(settings: Settings) -> None:
        stopped, pulses = runtime.stop_event(), pulses_of(PROJECTIONS)
        process = Process(
            "projector",
            SERVES,
            lambda: read_readiness(pulses),
            is_stopping=stopped.is_set,
            pulses=pulses,
        )
        digests = digest_blocks.run(settings.postgres_dsn, stopped)
        async with serving(settings, process), in_background(digests):
            await run(settings.postgres_dsn, PROJECTIONS, stopped, pulses)

    failures: runtime.Failures = {AddressInUse: runtime.EXIT_USAGE}
    runtime.serve(lambda: from_environment(Settings), project, "orderly-projector", failures)


@app.command(rich_help_panel=PANEL)
def deliverer() -> None:
    """Post the events of the log to webhook endpoints."""
    from admin.server import AddressInUse
    from outbound.webhooks.process import KeyMissing, run
    from settings import Settings, from_environment

    failures: runtime.Failures = {
        AddressInUse: runtime.EXIT_USAGE,
        KeyMissing: runtime.EXIT_USAGE,
    }

    async def deliver(settings: Settings) -> None:
        await run(settings, runtime.stop_event())

    runtime.serve(lambda: from_environment(Settings), deliver, "orderly-deliverer", failures)


@app.command(rich_help_panel=PANEL)
def simulators(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8070,
    database: Annotated[
        Path, typer.Option(help="SQLite file with their state; created if it does not exist.")
    ] = Path("simulators.db"),
) -> None:
    """Serve simulators of the payment, stock and shipping services.

    They send signed webhooks to ORDERLY_CALLBACK_URL if ORDERLY_WEBHOOK_SECRET is set too.
    """
    import sqlite3

    from dev.simulators.app import SimulatorOptions
    from dev.simulators.server import serve
    from settings import SimulatorSettings, from_environment

    async def simulate(settings: SimulatorSettings) -> None:
        options = SimulatorOptions(database, settings.callback_url, settings.webhook_secret)
        try:
            await serve(options, host, port)
        except sqlite3.Error as error:
            runtime.fail(f"{database} cannot be used: {error}.", runtime.EXIT_USAGE)

    runtime.serve(lambda: from_environment(SimulatorSettings), simulate)
