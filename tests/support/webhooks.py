"""Endpoints and deliverers in the process of a test, with short pauses."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import asyncpg

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

KEY = base64.b64encode(secrets.token_bytes(32)).decode()
BOX = SecretBox(KEY)
LOOPBACK_NETWORKS = "127.0.0.0/8,::1/128"
BASE_URL = "https://orders.example/"
QUICK = Pace(
    attempt_seconds_max=2.0,
    first_pause_seconds=0.05,
    pause_seconds_max=0.2,
    commit_seconds=0.02,
    reload_seconds=0.05,
)


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


@asynccontextmanager
async def delivering(
    dsn: str, pace: Pace = QUICK, networks: str | None = LOOPBACK_NETWORKS, box: SecretBox = BOX
) -> AsyncIterator[None]:
    """A deliverer; at the end it finishes the attempts that are under way."""
    stopped = asyncio.Event()
    async with await connect_pool(dsn) as pool:
        deliverer = Deliverer(pool, dsn, box, AllowedNetworks(networks), timedelta(days=7), pace)
        running = asyncio.create_task(deliverer.run(stopped))
        try:
            yield
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
