"""Liveness and readiness: on the public port in short, and on the admin port with reasons."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client.metrics_core import Metric
from pydantic import BaseModel

from admin.readiness import STARTING
from admin.readiness import Readiness as AdminReadiness
from admin.server import Process, metrics_of
from api.dependencies import Services, ServicesDep, is_started, services_of
from api.monitoring.readiness import read_state
from api.monitoring.state_metrics import read_state_metrics
from api.problems.handlers import MALFORMED
from api.problems.strict_route import StrictRoute

router = APIRouter(tags=["Operations"], responses=MALFORMED, route_class=StrictRoute)

SERVES = ("commands", "reads")
WhatQuery = Annotated[
    Literal["commands", "reads"] | None,
    Query(alias="for", description="Only what is needed for these, such as for a load balancer."),
]


class Liveness(BaseModel):
    """The process is alive."""

    status: Literal["alive"] = "alive"


class Readiness(BaseModel):
    """What can be served; the reasons are on the admin address of the process."""

    ready: bool
    """Whether all that was asked for can be served."""
    commands: bool
    """Whether commands can be served."""
    reads: bool
    """Whether reads of orders can be served."""


@router.get("/healthz", summary="Check liveness")
async def get_health() -> Liveness:
    """200 as long as the process is alive."""
    return Liveness()


@router.get(
    "/readyz",
    summary="Check readiness",
    response_model=Readiness,
    responses={503: {"model": Readiness, "description": "Something cannot be served"}},
)
async def get_readiness(services: ServicesDep, what: WhatQuery = None) -> JSONResponse:
    """200 if commands and reads can be served, or what `for` names; else 503."""
    found = await services.readiness.get(lambda: _read_readiness(services))
    ready = found.is_ready(what)
    body = Readiness(
        ready=ready, commands=found.is_ready("commands"), reads=found.is_ready("reads")
    )
    return JSONResponse(body.model_dump(), 200 if ready else 503)


async def _read_readiness(services: Services) -> AdminReadiness:
    return (await read_state(services)).readiness()


def process_of(
    app: FastAPI,
    is_stopping: Callable[[], bool] = lambda: False,
    read_sdk_metrics: Callable[[], Awaitable[bytes]] | None = None,
) -> Process:
    """What the process of an application says on its admin address."""

    async def read_readiness() -> AdminReadiness:
        if not is_started(app):
            return AdminReadiness.of_none(SERVES, STARTING)
        return await _read_readiness(services_of(app))

    async def read_metrics() -> list[Metric]:
        return await read_state_metrics(services_of(app)) if is_started(app) else []

    return Process(
        "api", SERVES, read_readiness, read_metrics, read_sdk_metrics, is_stopping=is_stopping
    )


def install_metrics(app: FastAPI) -> None:
    """Serves the metrics of the admin address, without those of the SDK, on the API's own, too."""

    async def metrics(request: Request) -> Response:
        return await metrics_of(process_of(app), request)

    app.add_route("/metrics", metrics, include_in_schema=False)
