"""Runs a relay with the settings of the environment."""

from __future__ import annotations

import asyncio

from admin import server as admin
from admin.readiness import Readiness, reasons_of
from admin.server import Process
from outbound.relay.broker import Broker
from outbound.relay.relay import Relay
from settings import RelaySettings, Settings


async def run(
    settings: Settings, relay_settings: RelaySettings, broker: Broker, stopped: asyncio.Event
) -> None:
    """Publishes until `stopped`, then ends what has begun."""
    relay = Relay(settings.postgres_dsn, broker, relay_settings.public_url)

    async def read_readiness() -> Readiness:
        states = {broker.name: relay.pulse.state}
        return Readiness({"events": reasons_of(states)}, states)

    process = Process(
        "relay",
        ("events",),
        read_readiness,
        is_stopping=stopped.is_set,
        pulses={broker.name: relay.pulse},
    )
    async with admin.serving(settings, process):
        await relay.run(stopped)
