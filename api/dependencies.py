"""The services that routes use: created once, at startup, and handed out as FastAPI dependencies.

Each dependency costs a request about 20 µs. A route that is read often, or needs several of them,
takes `ServicesDep`: one dependency for all. They are `async`, as FastAPI runs others in threads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import asyncpg
from fastapi import Depends, FastAPI, Request
from temporalio.client import Client

from admin.readiness import Readiness
from api.auth.identity_provider import IdentityProvider
from api.auth.tokens import Verifier
from api.callbacks.recorder import CallbackRecorder
from api.events.stream import Streams
from api.gateway.gateway import Gateway
from background import SharedRead
from orders.policy import Policy
from outbound.webhooks.addresses import AllowedNetworks
from outbound.webhooks.secrets import SecretBox
from privacy.keys import CustomerKeys, UnstoredKeys
from readside.freshness import Freshness
from readside.order_view.loader import OrderLoader
from readside.order_view.status_counts import StatusCounts
from workflows.versions import VersionWatch
from workflows.worker_heartbeats import Workers


@dataclass(frozen=True)
class Services:
    """What one API process shares among its requests."""

    pool: asyncpg.Pool
    keys: CustomerKeys
    client: Client
    gateway: Gateway
    order_loader: OrderLoader
    status_counts: StatusCounts
    freshness: Freshness
    workers: Workers
    versions: VersionWatch
    readiness: SharedRead[Readiness]
    """For the public port, where it needs no token."""
    streams: Streams
    policy: Policy
    webhook_secret: str | None
    callback_recorder: CallbackRecorder
    secret_box: SecretBox | None
    """Seals the secrets of webhook endpoints; None without a key."""
    webhook_networks: AllowedNetworks
    """Where webhooks may go."""
    verifier: Verifier | None
    """None: authentication is off."""
    identity_provider: IdentityProvider | None
    """Where people sign in to the console; None: they need a token."""
    temporal_ui_url: str | None
    """Of the Temporal Web UI."""
    trace_url: str | None
    """Of a trace, with {trace_id} in it."""


def services_of(app: FastAPI) -> Services:
    """The services of an application, for code that runs outside of FastAPI's dependencies."""
    services: Services = app.state.services
    return services


def is_started(app: FastAPI) -> bool:
    """Whether it has its services: not while it starts, and no longer when it has stopped."""
    return hasattr(app.state, "services")


async def get_services(request: Request) -> Services:
    return services_of(request.app)


async def get_preview_services(request: Request) -> Services:
    """The services of a request that changes nothing: it also creates no customer's key."""
    services = services_of(request.app)
    return replace(services, keys=UnstoredKeys(services.keys))


async def get_pool(request: Request) -> asyncpg.Pool:
    return services_of(request.app).pool


async def get_keys(request: Request) -> CustomerKeys:
    return services_of(request.app).keys


async def get_client(request: Request) -> Client:
    return services_of(request.app).client


ServicesDep = Annotated[Services, Depends(get_services)]
PreviewServicesDep = Annotated[Services, Depends(get_preview_services)]
PoolDep = Annotated[asyncpg.Pool, Depends(get_pool)]
CustomerKeysDep = Annotated[CustomerKeys, Depends(get_keys)]
ClientDep = Annotated[Client, Depends(get_client)]
