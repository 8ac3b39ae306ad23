"""`orderly relay`: one command for each message broker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

import runtime

if TYPE_CHECKING:
    from outbound.relay.broker import Broker
    from settings import RelaySettings

app = typer.Typer(help="Publish every event to a message broker.", no_args_is_help=True)


@app.command()
def nats() -> None:
    """Publish every event to NATS JetStream, at NATS_URL."""
    from outbound.relay.nats import NatsBroker
    from settings import NatsSettings, from_environment

    settings = runtime.load_settings(lambda: from_environment(NatsSettings))
    _serve(settings, NatsBroker(settings))


def _serve(relay_settings: RelaySettings, broker: Broker) -> None:
    from admin.server import AddressInUse
    from outbound.relay.process import run
    from settings import Settings, from_environment

    async def publish(settings: Settings) -> None:
        await run(settings, relay_settings, broker, runtime.stop_event())

    failures: runtime.Failures = {AddressInUse: runtime.EXIT_USAGE}
    runtime.serve(lambda: from_environment(Settings), publish, "orderly-relay", failures)
