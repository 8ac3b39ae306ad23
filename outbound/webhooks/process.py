"""Runs a deliverer with the settings of the environment."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from admin import server as admin
from admin.readiness import Readiness, reasons_of
from admin.server import Process
from eventlog.postgres import connect_pool
from outbound.webhooks.addresses import AllowedNetworks
from outbound.webhooks.deliverer import Deliverer
from outbound.webhooks.health import Pace
from outbound.webhooks.secrets import SecretBox
from settings import Settings

CONNECTIONS_MAX = 10
# A statement takes milliseconds. After this time its connection must have gone silent.
STATEMENT_SECONDS_MAX = 10
# What a crash of Postgres loses of the progress is delivered again.
UNSAFE_COMMITS = {"synchronous_commit": "off"}

logger = logging.getLogger("orderly.deliverer")


class KeyMissing(Exception):
    """The deliverer cannot sign anything."""


async def run(settings: Settings, stopped: asyncio.Event, pace: Pace | None = None) -> None:
    """Delivers until `stopped`, then ends the attempts that have begun; raises KeyMissing."""
    if settings.endpoint_key is None:
        raise KeyMissing(
            "Set ORDERLY_ENDPOINT_KEY to the base64 of 32 random bytes, the same for the API and"
            " the deliverer."
        )
    pool = await connect_pool(
        settings.postgres_dsn, CONNECTIONS_MAX, STATEMENT_SECONDS_MAX, UNSAFE_COMMITS
    )
    async with pool:
        deliverer = Deliverer(
            pool,
            settings.postgres_dsn,
            SecretBox(settings.endpoint_key),
            AllowedNetworks(settings.endpoint_networks),
            timedelta(days=settings.endpoint_deliveries_days),
            pace or Pace(),
        )
        pulse = deliverer.pulse

        async def read_readiness() -> Readiness:
            states = {"delivery": pulse.state}
            return Readiness({"webhooks": reasons_of(states)}, states)

        process = Process(
            "deliverer",
            ("webhooks",),
            read_readiness,
            is_stopping=stopped.is_set,
            pulses={"delivery": pulse},
        )
        async with admin.serving(settings, process):
            logger.info("deliverer starts")
            await deliverer.run(stopped)
            logger.info("deliverer stops")
