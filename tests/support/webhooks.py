"""Endpoints and deliverers in the process of a test, with short pauses."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg

from admin.readiness import Pulse
from eventlog.epochs import FIRST
from eventlog.log import START, Checkpoint
from eventlog.postgres import connect_pool
from outbound.webhooks import deliveries, endpoints
from outbound.webhooks.addresses import AllowedNetworks
from outbound.webhooks.deliverer import Deliverer
from outbound.webhooks.deliveries import EndpointHealth, RecordedDelivery
from outbound.webhooks.endpoints import Endpoint, NewEndpoint
from outbound.webhooks.health import Pace
from outbound.webhooks.secrets import SecretBox, new_secret
from tests.support.webhook_receiver import until

KEY = base64.b64encode(secrets.token_bytes(32)).decode()
BOX = SecretBox(KEY)
LOOPBACK_NETWORKS = "127.0.0.0/8,::1/128"
BASE_URL = "https://orders.example/"
QUICK = Pace(
    attempt_seconds_max=30.0,
    first_pause_seconds=0.05,
    pause_seconds_max=0.2,
    commit_seconds=0.02,
    reload_seconds=0.05,
)
# For receivers that do not answer. Others may take longer on a busy machine, and would then get an
# event twice.
IMPATIENT = replace(QUICK, attempt_seconds_max=2.0)


async def register(
    pool: asyncpg.Pool,
    url: str,
    secret: str | None = None,
    start: Checkpoint = START,
    **changes: Any,
) -> Endpoint:
    """Registers an endpoint without asking the API."""
    endpoint_id = endpoints.new_endpoint_id()
    fields: dict[str, Any] = {
        "url": url,
        "event_types": None,
        "customer_id": None,
        "description": None,
        "base_url": BASE_URL,
        **changes,
    }
    sealed = BOX.seal(secret or new_secret(), endpoint_id)
    new = NewEndpoint(endpoint_id=endpoint_id, secret=sealed, **fields)
    async with pool.acquire() as connection:
        return await endpoints.register(connection, new, start, FIRST)


class Reloads(Pulse):
    """Counts how often a deliverer has looked for changed endpoints."""

    def __init__(self) -> None:
        super().__init__()
        self._count = 0

    def beat(self) -> None:
        super().beat()
        self._count += 1

    async def notice(self) -> None:
        """Waits until it has noticed what is committed now."""
        later = self._count + 2  # One may have begun.
        await until(lambda: self._count >= later)


@asynccontextmanager
async def delivering(
    dsn: str, pace: Pace = QUICK, networks: str | None = LOOPBACK_NETWORKS, box: SecretBox = BOX
) -> AsyncIterator[Reloads]:
    """A deliverer; at the end it finishes the attempts that are under way."""
    stopped = asyncio.Event()
    async with await connect_pool(dsn) as pool:
        deliverer = Deliverer(pool, dsn, box, AllowedNetworks(networks), timedelta(days=7), pace)
        deliverer.pulse = reloads = Reloads()
        running = asyncio.create_task(deliverer.run(stopped))
        try:
            yield reloads
        finally:
            stopped.set()
            await running


async def attempts(pool: asyncpg.Pool, endpoint: Endpoint) -> list[RecordedDelivery]:
    """The recorded attempts at an endpoint, the oldest first."""
    found = await deliveries.find_page(pool, endpoint.endpoint_id, None, None, 1_000)
    return found[::-1]


async def health(pool: asyncpg.Pool, endpoint: Endpoint) -> EndpointHealth:
    found = await deliveries.read_health(pool, [endpoint.endpoint_id])
    return found[endpoint.endpoint_id]
