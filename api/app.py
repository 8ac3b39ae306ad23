"""Assembles the application and serves it."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import asyncpg
import httpx
import uvicorn
from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from temporalio.client import Client
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

import telemetry
from admin import server as admin
from admin.server import listen
from api import customers, openapi
from api.auth.identity_provider import IdentityProvider
from api.auth.tokens import Verifier
from api.callbacks import routes as callbacks
from api.callbacks.recorder import CallbackRecorder
from api.commands import routes as commands
from api.commands import status_routes as sent
from api.console import sign_in
from api.console.routes import install_console
from api.dependencies import Services, services_of
from api.docs_page import install_docs_page
from api.events import digest as event_digest
from api.events import routes as feed
from api.events.stream import Streams
from api.events_page import install_events_page
from api.gateway.gateway import Gateway
from api.limits.load_shedding import LoadSheddingMiddleware
from api.limits.rate_limit import RateLimitMiddleware
from api.limits.request_body import RequestBodyMiddleware
from api.monitoring import health
from api.monitoring.metrics import MetricsMiddleware
from api.monitoring.request_id import RequestIdMiddleware
from api.monitoring.tracing import TracingMiddleware
from api.problems import routes as problem_types
from api.problems.handlers import register_exception_handlers
from api.reads import (
    history,
    inbox,
    links,
    orders,
    orders_csv,
    projections,
    transactions,
    waiting,
)
from api.reads import services as external_services
from api.reads import statistics as stats
from api.server import HardenedHttpProtocol
from api.webhook_endpoints import delivery_routes as webhook_deliveries
from api.webhook_endpoints import routes as webhook_endpoints
from background import SharedRead
from eventlog.postgres import connect_pool
from outbound.webhooks.addresses import AllowedNetworks
from outbound.webhooks.secrets import SecretBox
from privacy.keys import PostgresKeys
from readside.freshness import Freshness
from readside.order_view.loader import OrderLoader
from readside.order_view.status_counts import StatusCounts
from readside.registry import PROJECTIONS
from settings import Settings
from workflows.client import connect
from workflows.restore_guard import guarded
from workflows.sdk_metrics import SdkMetrics
from workflows.versions import VersionWatch
from workflows.worker_heartbeats import Workers

CONNECTIONS_MAX = 10
# A read that takes longer is 503, so that a Postgres that hangs does not hold all slots for long.
STATEMENT_SECONDS_MAX = 2.0
DRAIN_SECONDS_MAX = 10
# To find out the readiness takes a number of queries, which a flood would take from reads.
READINESS_SECONDS = 1.0
# uvloop accepts one connection per listening socket and turn of the event loop. Under overload
# turns are long, and new connections would wait for seconds before they can be rejected.
ACCEPTED_AT_ONCE = 16


class Api(FastAPI):
    """FastAPI with the completed OpenAPI document."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            self.openapi_schema = openapi.complete_document(super().openapi())
        return self.openapi_schema


def create_app(settings: Settings, client: Client) -> FastAPI:
    """The application. It starts without Temporal and Postgres: its readiness says so."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        pool = await connect_pool(settings.postgres_dsn, CONNECTIONS_MAX, STATEMENT_SECONDS_MAX)
        async with pool, httpx.AsyncClient() as http:
            services = _services(settings, client, pool, http)
            app.state.services = services
            async with (
                services.freshness.listening(),
                services.streams.listening(),
                services.workers.listening(),
                services.versions.listening(),
                services.gateway.journal.running(),
                services.callback_recorder.running(),
            ):
                yield
                del app.state.services

    app = Api(
        title="orderly",
        version="1",
        description="An order service: commands change orders, and every change is an event.",
        generate_unique_id_function=lambda route: route.name,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        # A redirect would go to the host in the Host header.
        redirect_slashes=False,
        # It would record URLs and invalid input; see api/monitoring/tracing.py.
        telemetry=TelemetryConfig(tracing=False, metrics=False, logs=False, auto_configure=False),
    )
    register_exception_handlers(app)
    app.include_router(orders.router)  # First, as most requests are reads of orders.
    app.include_router(orders_csv.router)
    app.include_router(history.router)
    app.include_router(waiting.router)
    app.include_router(transactions.router)
    app.include_router(commands.router)
    app.include_router(sent.router)
    app.include_router(feed.router)
    app.include_router(event_digest.router)
    app.include_router(feed.schemas)
    app.include_router(webhook_endpoints.router)
    app.include_router(webhook_deliveries.router)
    app.include_router(inbox.router)
    app.include_router(projections.router)
    app.include_router(external_services.router)
    app.include_router(links.router)
    app.include_router(stats.router)
    app.include_router(customers.router)
    app.include_router(callbacks.router)
    app.include_router(problem_types.router)
    app.include_router(health.router)
    install_docs_page(app)
    install_events_page(app)
    app.include_router(sign_in.router)
    install_console(app)
    if settings.tokens is None:  # On loopback, open to every caller.
        health.install_metrics(app)
    _add_middlewares(app, settings)
    return app


def _add_middlewares(app: FastAPI, settings: Settings) -> None:
    """From the innermost to the outermost."""
    if settings.rate_limit is not None:
        app.add_middleware(RateLimitMiddleware, rate=settings.rate_limit)
    if settings.trusted_proxies:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=settings.trusted_proxies)
    if telemetry.is_tracing():
        app.add_middleware(TracingMiddleware)
    app.add_middleware(LoadSheddingMiddleware, max_concurrent=settings.max_concurrent_reads)
    app.add_middleware(RequestBodyMiddleware)
    app.add_middleware(MetricsMiddleware)
    app.add_middleware(RequestIdMiddleware)


def _services(
    settings: Settings, client: Client, pool: asyncpg.Pool, http: httpx.AsyncClient
) -> Services:
    names = [projection.name for projection in PROJECTIONS]
    workers = Workers(client, settings.task_queue)
    return Services(
        pool=pool,
        keys=PostgresKeys(pool),
        client=client,
        gateway=Gateway(client, pool, settings.task_queue, settings.max_concurrent_commands),
        order_loader=OrderLoader(pool),
        status_counts=StatusCounts(pool),
        freshness=Freshness(pool, settings.postgres_dsn, names),
        workers=workers,
        versions=VersionWatch(client, workers),
        readiness=SharedRead(READINESS_SECONDS),
        streams=Streams(pool, settings.postgres_dsn),
        policy=settings.policy,
        webhook_secret=settings.webhook_secret,
        callback_recorder=CallbackRecorder(pool),
        secret_box=SecretBox(settings.endpoint_key) if settings.endpoint_key else None,
        webhook_networks=AllowedNetworks(settings.endpoint_networks),
        verifier=Verifier(settings.tokens, http) if settings.tokens else None,
        identity_provider=IdentityProvider(settings.sign_in, http) if settings.sign_in else None,
        temporal_ui_url=settings.temporal_ui_url,
        trace_url=settings.trace_url,
    )


class Server(uvicorn.Server):
    """Ends event streams at shutdown, which would otherwise wait for their clients to leave."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        services_of(cast(FastAPI, self.config.app)).streams.end()
        await super().shutdown(sockets)

    def stop(self) -> None:
        """Stops as at SIGTERM."""
        self.should_exit = True


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, then finishes the requests in progress.

    Raises AddressInUse or RestoreNoticed.
    """
    listening = listen(settings.api_host, settings.api_port, "API")
    sdk = SdkMetrics.start()
    client = await connect(lazy=True, runtime=sdk.runtime)
    app = create_app(settings, client)
    config = uvicorn.Config(
        app,
        host=settings.api_host,
        port=settings.api_port,
        http=HardenedHttpProtocol,
        access_log=False,
        proxy_headers=False,
        log_config=None,
        timeout_graceful_shutdown=DRAIN_SECONDS_MAX,
    )
    server = Server(config)
    process = health.process_of(app, lambda: server.should_exit, sdk.read)
    pool = await connect_pool(settings.postgres_dsn, connections_max=1)
    async with (
        pool,
        admin.serving(settings, process),
        guarded(client, pool, settings.task_queue, server.stop, renews=False),
    ):
        await server.serve([listening, *(listening.dup() for _ in range(ACCEPTED_AT_ONCE - 1))])
