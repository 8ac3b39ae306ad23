"""Serves the admin address of a process beside its work, in the same event loop.

So `/healthz` answers only while that loop turns. The address is for orchestrators and monitoring,
has no authentication, and must not be reachable from outside.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import uvicorn
from prometheus_client.metrics_core import Metric
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from admin import certificates
from admin.metrics import describe_build, exposition
from admin.otlp import exporting
from admin.readiness import SHUTTING_DOWN, Pulse, Readiness
from settings import Settings

log = logging.getLogger("orderly.admin")

# Without ORDERLY_ADMIN_PORT; they differ, so that one of each can run on one machine.
PORTS = {"api": 8081, "worker": 8082, "projector": 8083, "deliverer": 8084, "relay": 8085}
CLOSE_SECONDS_MAX = 1


@dataclass(frozen=True)
class Process:
    """What a process says of itself."""

    name: str
    serves: Sequence[str]
    """What readiness can be asked for, such as commands and reads."""
    read_readiness: Callable[[], Awaitable[Readiness]]
    read_metrics: Callable[[], Awaitable[list[Metric]]] | None = None
    """Those of the service, at each scrape; what the process itself counts is known."""
    read_sdk_metrics: Callable[[], Awaitable[bytes]] | None = None
    """Those of Temporal's SDK, in the text format."""
    is_stopping: Callable[[], bool] = lambda: False
    pulses: Mapping[str, Pulse] = field(default_factory=dict)
    """Of the loops without which it does not work."""


class AddressInUse(Exception):
    """A process cannot listen where its settings say."""


def listen(host: str, port: int, variable: str) -> socket.socket:
    """A listening socket; `variable` as in "API": its settings are ORDERLY_API_HOST and _PORT."""
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
        )
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        what = "API" if variable == "API" else "admin address"
        raise AddressInUse(
            f"The {what} cannot listen on {host}, port {port} ({why}): set "
            f"ORDERLY_{variable}_HOST or ORDERLY_{variable}_PORT to another."
        ) from None


def create_app(process: Process) -> Starlette:
    """The application behind the admin address of a process."""

    async def healthz(_: Request) -> Response:
        """200 unless only a restart helps."""
        hanging = [name for name, pulse in process.pulses.items() if pulse.hangs]
        if hanging:
            return JSONResponse({"status": "hanging", "loops": hanging}, 503)
        return JSONResponse({"status": "alive"})

    async def readyz(request: Request) -> Response:
        """200 if the process can serve all that it serves, or what `for` names; else 503."""
        what = request.query_params.get("for")
        if what is not None and what not in process.serves:
            known = ", ".join(process.serves)
            return JSONResponse({"detail": f"for: this process serves {known}"}, 422)
        if process.is_stopping():  # Its connections may be closed already.
            found = Readiness.of_none(process.serves, SHUTTING_DOWN)
        else:
            found = await process.read_readiness()
        return JSONResponse(found.body(what), 200 if found.is_ready(what) else 503)

    async def metrics(request: Request) -> Response:
        return await metrics_of(process, request)

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
        ]
    )


async def metrics_of(process: Process, request: Request) -> Response:
    """All metrics of a process, in OpenMetrics if the scraper accepts it, else in text."""
    read = await process.read_metrics() if process.read_metrics else []
    sdk = await process.read_sdk_metrics() if process.read_sdk_metrics else b""
    body, content_type = exposition(read, sdk, request.headers.get("accept", ""))
    return Response(body, headers={"Content-Type": content_type})


class _Server(uvicorn.Server):
    """Leaves signals to the process whose admin address it serves."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(settings: Settings, process: Process) -> AsyncIterator[None]:
    """Serves the admin address inside the `async with`; raises AddressInUse."""
    port = settings.admin_port
    listening = listen(settings.admin_host, PORTS[process.name] if port is None else port, "ADMIN")
    describe_build(process.name, settings.build_id)
    certificates.watch(certificates.files_of(settings))
    config = uvicorn.Config(
        create_app(process),
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=CLOSE_SECONDS_MAX,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve([listening]))
    log.info("admin address: http://%s:%d", *listening.getsockname()[:2])
    reading = (process.read_metrics, process.read_sdk_metrics)
    try:
        async with exporting(f"orderly-{process.name}", *reading):
            yield
    finally:
        server.should_exit = True
        await task
