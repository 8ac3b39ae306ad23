"""The `orderly` command: the whole stack on one machine, or one of its processes alone."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from cli import operations
from runtime import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    STOP_SIGNALS,
    fail,
    finish,
    settings,
    until_signal,
)

# What a command needs is imported inside it: `orderly --help` answers at once.
if TYPE_CHECKING:
    from settings import Settings

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Every order a durable workflow: run the whole service here, or one process of it.",
)
app.add_typer(operations.app)


@app.command()
def up(
    data_dir: Annotated[
        Path, typer.Option(help="Where state and logs are kept; the next `up` continues there.")
    ] = Path(".orderly"),
    api_port: Annotated[int, typer.Option(help="Where the API listens; 0 picks a port.")] = 8080,
    temporal_port: Annotated[int, typer.Option(help="The same for Temporal.")] = 7233,
    ui_port: Annotated[int, typer.Option(help="The same for Temporal's Web UI.")] = 8233,
    simulators_port: Annotated[
        int, typer.Option(help="The same for the simulators of payments, stock and shipping.")
    ] = 0,
    info_file: Annotated[
        Path | None, typer.Option(help="Is kept true while all runs: addresses and pids as JSON.")
    ] = None,
) -> None:
    """Run everything here until Ctrl-C, with simulated payments, stock and shipping."""
    from dev.stack import Screen, StackOptions, running_stack

    async def serve() -> None:
        screen = Screen()
        ports = (api_port, temporal_port, ui_port)
        options = StackOptions(data_dir, *ports, info_file, simulators_port)
        async with running_stack(options, screen.report) as stack:
            screen.welcome(stack, "Ctrl-C stops it all; the next `orderly up` continues from here.")
            await asyncio.Event().wait()

    finish(until_signal(serve()))


@app.command()
def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave it all running until Ctrl-C.")
    ] = False,
    baskets: Annotated[
        Path | None,
        typer.Option(
            help="One basket a line, as JSON.",
            exists=True,
            dir_okay=False,
            show_default="the packaged ones",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
) -> None:
    """Replay 1,000 real baskets, let orders live on, and check every cent and piece."""
    from dev.demo import replay
    from dev.demo.baskets import PACKAGED_BASKETS, BasketsError, read_baskets
    from dev.stack import Screen, StackOptions, running_stack

    async def perform(data_dir: str) -> int:
        screen = Screen()
        # A place and ports of its own: it neither needs nor disturbs an `orderly up`.
        options = StackOptions(Path(data_dir), 0, 0, 0)
        async with running_stack(options, screen.report) as stack:
            code = await replay.run(stack, wanted)
            if keep:
                screen.welcome(stack, "Ctrl-C stops it all, and throws it away.")
                with suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
            return code

    try:
        wanted = read_baskets(baskets or PACKAGED_BASKETS, limit)
    except BasketsError as error:
        fail(error, EXIT_USAGE)
    with tempfile.TemporaryDirectory(prefix="orderly-demo-") as data_dir:
        finish(until_signal(perform(data_dir), EXIT_INTERRUPTED))


@app.command()
def scenario(
    name: Annotated[
        str | None, typer.Argument(help="Which one; without it they are listed.")
    ] = None,
    info_file: Annotated[
        Path, typer.Option(help="Where the running stack says its addresses.")
    ] = Path(".orderly") / "stack.json",
) -> None:
    """Play one named scenario of an order against a running stack, and print its events."""
    from dev.scenarios.play import addresses, play
    from dev.scenarios.scenarios import SCENARIOS
    from dev.scenarios.session import ScenarioError

    if name is None:
        print("\n".join(f"{known:<16} {one.__doc__}" for known, one in SCENARIOS.items()))
        return
    if name not in SCENARIOS:
        fail(f"There is no scenario {name}; there are: {', '.join(SCENARIOS)}.", EXIT_USAGE)

    async def run(known: str) -> None:
        await play(known, addresses(info_file), lambda line: print(line, flush=True))

    try:
        finish(until_signal(run(name), EXIT_INTERRUPTED))
    except ScenarioError as error:
        fail(error, EXIT_FAILED)


@app.command()
def token(
    sub: Annotated[str, typer.Option(help="Whose: a customer's id, or an operator's name.")],
    scope: Annotated[
        list[str], typer.Option(help="What it allows: orders:read, orders:write, orders:operate.")
    ],
    expires_in: Annotated[int, typer.Option(min=1, help="After so many seconds.")] = 3600,
) -> None:
    """Print a token for development, signed with ORDERLY_TOKEN_SECRET."""
    from api.auth.authentication import identity_of
    from api.auth.permissions import SCOPES
    from api.auth.tokens import InvalidToken, Token, issue_token
    from settings import SettingsError, TokenSettings, from_environment

    wanted = " ".join(scope).split()
    if unknown := [word for word in wanted if word not in SCOPES]:
        fail(f"There is no scope {unknown[0]}; there are: {', '.join(SCOPES)}.", EXIT_USAGE)
    try:
        rules = from_environment(TokenSettings).tokens
    except SettingsError as error:
        fail(error, EXIT_USAGE)
    if rules is None or rules.secret is None:
        fail("Set ORDERLY_TOKEN_SECRET to the secret that the API has.", EXIT_USAGE)
    try:
        identity_of(Token(sub, frozenset(wanted), expires_at=expires_in))
    except InvalidToken as bad:
        fail(f"Nobody would believe this token: {bad}.", EXIT_USAGE)
    print(issue_token(rules, sub, " ".join(wanted), expires_in))


@app.command()
def projector() -> None:
    """Turn the event log into read models, as it grows."""
    from readside.engine.projector import run
    from readside.registry import PROJECTIONS

    serve_traced("orderly-projector", lambda settings: run(settings.postgres_dsn, PROJECTIONS))


@app.command()
def worker() -> None:
    """Run the Temporal worker; the same as `python worker.py`."""
    import worker

    raise typer.Exit(worker.main())


@app.command()
def api() -> None:
    """Serve the REST API on ORDERLY_API_HOST and ORDERLY_API_PORT."""
    from api.app import serve
    from settings import api_from_environment

    serve_traced("orderly-api", serve, api_from_environment)


def serve_traced(
    name: str,
    serve: Callable[[Settings], Coroutine[Any, Any, None]],
    read: Callable[[], Settings] | None = None,
) -> None:
    """Runs one of our processes with logs, and with traces if the environment asks for them."""
    import uvloop

    import telemetry

    gc.freeze()  # What was imported stays: no pause to look at it again.
    telemetry.start_logging()
    known = settings(read)
    flush_traces = telemetry.start_tracing(name)
    # They handle these signals themselves; uvicorn raises them once more when it has finished.
    for signum in STOP_SIGNALS:
        signal.signal(signum, lambda *_: sys.exit(0))
    try:
        finish(serve(known), uvloop.new_event_loop)
    finally:
        flush_traces()


def main() -> NoReturn:
    """The entry point; leaves without tearing the interpreter down."""
    code = EXIT_FAILED
    try:
        app()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else EXIT_FAILED
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
    os._exit(code)  # The SDK's threads can crash an interpreter that tears itself down.
