"""Commands for a machine of one's own: the whole stack, its demo, scenarios, tokens."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from cli.info_file import DEFAULT, InfoFile, NoRunningStack, addresses
from runtime import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    Failures,
    fail,
    is_interactive,
    load_settings,
    run,
    until_signal,
)

PANEL = "Development"

ServiceUrl = Annotated[
    str | None, typer.Option(help="Use this service instead of its simulator.", metavar="URL")
]

app = typer.Typer()


@app.command(rich_help_panel=PANEL)
def up(
    data_dir: Annotated[
        Path, typer.Option(help="Directory for state and logs; the next `up` continues there.")
    ] = Path(".orderly"),
    api_port: Annotated[
        int, typer.Option(help="Port of the API; 0 picks a free one, here and below.")
    ] = 8080,
    temporal_port: Annotated[int, typer.Option(help="Port of Temporal.")] = 7233,
    ui_port: Annotated[int, typer.Option(help="Port of the Temporal Web UI.")] = 8233,
    simulators_port: Annotated[
        int, typer.Option(help="Port of the payment, stock and shipping simulators.")
    ] = 0,
    info_file: Annotated[
        Path | None,
        typer.Option(help="JSON file with addresses and process ids; exists while all run."),
    ] = None,
    observability: Annotated[
        bool,
        typer.Option("--observability", help="Run Prometheus with the alerts, if it is installed."),
    ] = False,
    prometheus_port: Annotated[int, typer.Option(help="Port of Prometheus.")] = 9090,
    payments_url: ServiceUrl = None,
    stock_url: ServiceUrl = None,
    shipping_url: ServiceUrl = None,
    servers_only: Annotated[
        bool,
        typer.Option("--servers-only", help="Only Postgres and Temporal, for `orderly restore`."),
    ] = False,
    durable: Annotated[
        bool,
        typer.Option(
            "--durable/--not-durable",
            help="Whether acknowledged commands survive a power cut; if not, they are faster.",
        ),
    ] = True,
    versioned: Annotated[
        bool,
        typer.Option("--versioned", help="Run versioned workers, and make this version current."),
    ] = False,
    worker_of: Annotated[
        list[Path] | None,
        typer.Option(
            help="With --versioned: also run the workers of this other checkout.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
) -> None:
    """Run the whole stack until Ctrl-C, with simulated payments, stock and shipping."""
    from dev.stack import ProgressDisplay, StackOptions, run_stack

    if worker_of and not versioned:
        fail("--worker-of runs versioned workers: add --versioned.", EXIT_USAGE)
    urls = _given(payments=payments_url, stock=stock_url, shipping=shipping_url)

    async def serve() -> None:
        display = ProgressDisplay()
        ports = (api_port, temporal_port, ui_port)
        options = StackOptions(
            data_dir,
            *ports,
            info_file,
            simulators_port,
            durable,
            is_versioned=versioned,
            worker_roots=worker_of or (),
            servers_only=servers_only,
            service_urls=urls,
            has_prometheus=observability,
            prometheus_port=prometheus_port,
        )
        async with run_stack(options, display.report) as stack:
            if servers_only:
                display.welcome_to_servers(stack)
            else:
                farewell = "Ctrl-C stops it; the next `orderly up` continues from here."
                display.welcome(stack, farewell, has_prometheus=observability)
            await asyncio.Event().wait()

    run(until_signal(serve()), _stack_failures())


@app.command(rich_help_panel=PANEL)
def demo(
    keep: Annotated[
        bool | None,
        typer.Option(
            "--keep/--no-keep",
            help="Keep the stack running afterwards, until Ctrl-C, with orders that wait.",
            show_default="keep on a terminal",
        ),
    ] = None,
    baskets: Annotated[
        Path | None,
        typer.Option(
            help="File with one basket per line, as JSON.",
            exists=True,
            dir_okay=False,
            show_default="the packaged ones",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Replay only this many baskets.")] = None,
) -> None:
    """Replay 1,000 real baskets as orders, and reconcile every cent and piece."""
    from dev.demo import replay
    from dev.demo.baskets import PACKAGED_BASKETS, BasketsError, read_baskets
    from dev.stack import ProgressDisplay, StackOptions, run_stack

    async def perform(data_dir: str) -> int:
        display = ProgressDisplay()
        # A directory and ports of its own, so that an `orderly up` may run beside it.
        options = StackOptions(Path(data_dir), 0, 0, 0)
        async with run_stack(options, display.report) as stack:
            code = await replay.run(stack, wanted, is_kept=stays)
            if stays:
                display.welcome(stack, "Ctrl-C stops it and deletes its data.")
                with suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
            return code

    try:
        wanted = read_baskets(baskets or PACKAGED_BASKETS, limit)
    except BasketsError as error:
        fail(error, EXIT_USAGE)
    stays = is_interactive() if keep is None else keep
    with tempfile.TemporaryDirectory(prefix="orderly-demo-") as data_dir:
        run(until_signal(perform(data_dir), EXIT_INTERRUPTED), _stack_failures())


@app.command(rich_help_panel=PANEL)
def scenario(
    name: Annotated[
        str | None, typer.Argument(help="The scenario; without it, all are listed.")
    ] = None,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Leave the order where it waits, for a person.")
    ] = False,
    info_file: InfoFile = DEFAULT,
) -> None:
    """Play one named scenario of an order against a running stack, and print its events."""
    from dev.scenarios.play import play
    from dev.scenarios.scenarios import SCENARIOS
    from dev.scenarios.session import ScenarioError

    if name is None:
        print("\n".join(f"{known:<16} {one.__doc__}" for known, one in SCENARIOS.items()))
        return
    if name not in SCENARIOS:
        fail(f"There is no scenario {name}; there are: {', '.join(SCENARIOS)}.", EXIT_USAGE)

    async def perform(known: str) -> None:
        stack = addresses(info_file)
        await play(known, stack, lambda line: print(line, flush=True), is_unfinished=unfinished)

    failures: Failures = {ScenarioError: EXIT_FAILED, NoRunningStack: EXIT_FAILED}
    run(until_signal(perform(name), EXIT_INTERRUPTED), failures)


@app.command(rich_help_panel=PANEL)
def token(
    sub: Annotated[str, typer.Option(help="Subject: a customer id or the name of an operator.")],
    scope: Annotated[
        list[str], typer.Option(help="Scopes: orders:read, orders:write, orders:operate.")
    ],
    expires_in: Annotated[int, typer.Option(min=1, help="Lifetime in seconds.")] = 3600,
) -> None:
    """Print a token for development, signed with ORDERLY_TOKEN_SECRET."""
    from api.auth.authentication import identity_of
    from api.auth.permissions import SCOPES
    from api.auth.tokens import InvalidToken, Token, issue_token
    from settings import TokenSettings, from_environment

    wanted = " ".join(scope).split()
    if unknown := [word for word in wanted if word not in SCOPES]:
        fail(f"There is no scope {unknown[0]}; there are: {', '.join(SCOPES)}.", EXIT_USAGE)
    rules = load_settings(lambda: from_environment(TokenSettings)).tokens
    if rules is None or rules.secret is None:
        fail("Set ORDERLY_TOKEN_SECRET to the secret of the API.", EXIT_USAGE)
    try:
        identity_of(Token(sub, frozenset(wanted), expires_at=expires_in))
    except InvalidToken as invalid:
        fail(f"The API would reject this token: {invalid}.", EXIT_USAGE)
    print(issue_token(rules, sub, " ".join(wanted), expires_in))


def _given(**urls: str | None) -> dict[str, str]:
    """The URLs that were given, by service; exits if one is none."""
    given = {name: url for name, url in urls.items() if url is not None}
    for name, url in given.items():
        if not url.startswith(("http://", "https://")):
            example = f"https://{name}.internal"
            fail(f"--{name}-url must be a URL such as {example}, not {url!r}.", EXIT_USAGE)
    return given


def _stack_failures() -> Failures:
    from dev.stack import ResourceInUse, StackError
    from settings import SettingsError

    return {ResourceInUse: EXIT_USAGE, SettingsError: EXIT_USAGE, StackError: EXIT_FAILED}
