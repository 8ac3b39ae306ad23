"""The API process: the application put together, and served."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from temporalio.client import Client

import telemetry
from api import commands, health, problems, queries
from api.gateway import Gateway
from api.requests import BODY_BYTES_MAX
from eventlog.postgres import connect_pool
from readside.freshness import Freshness
from settings import Settings
from workflows.client import connect

CONNECTIONS_MAX = 10
DRAIN_SECONDS_MAX = 10


def create_app(settings: Settings, client: Client) -> FastAPI:
    """The application; it starts, and says so on /readyz, even while its servers are away."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        pool = await connect_pool(settings.postgres_dsn, CONNECTIONS_MAX)
        app.state.pool = pool
        app.state.client = client
        app.state.gateway = Gateway(client, pool, settings.task_queue)
        app.state.freshness = Freshness(pool, settings.postgres_dsn)
        async with pool, app.state.freshness.listening():
            yield

    app = FastAPI(
        title="orderly",
        version="1",
        description="Orders take commands that carry intent, and never forget what happened.",
        lifespan=lifespan,
    )
    problems.install(app)
    app.include_router(commands.router)
    app.include_router(queries.router)
    app.include_router(health.router)
    app.add_middleware(LimitBody)
    if telemetry.is_tracing():
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

        FastAPIInstrumentor.instrument_app(app)
    return app


async def serve(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, then lets requests under way finish."""
    config = uvicorn.Config(
        create_app(settings, await connect(lazy=True)),
        host=settings.api_host,
        port=settings.api_port,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=DRAIN_SECONDS_MAX,
    )
    await uvicorn.Server(config).serve()


class LimitBody:
    """Refuses a body that is too big, as soon as it is: before it has been read to its end."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > BODY_BYTES_MAX:
                raise HTTPException(413, f"A body may have at most {BODY_BYTES_MAX:,} bytes.")
            return message

        await self._app(scope, limited, send)
