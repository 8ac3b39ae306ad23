"""Liveness and readiness of this process, for orchestrators and for people."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from api.dependencies import ServicesDep
from api.monitoring.readiness import Readiness, read_readiness
from api.problems.handlers import MALFORMED
from api.problems.strict_route import StrictRoute

router = APIRouter(tags=["Operations"], responses=MALFORMED, route_class=StrictRoute)

WhatQuery = Annotated[
    Literal["commands", "reads"] | None,
    Query(alias="for", description="Only what is needed for these, such as for a load balancer."),
]


class Liveness(BaseModel):
    """The process is alive."""

    status: Literal["alive"] = "alive"


@router.get("/healthz", summary="Check liveness")
async def get_health() -> Liveness:
    """200 as long as the process is alive."""
    return Liveness()


@router.get(
    "/readyz",
    summary="Check readiness",
    response_model=Readiness,
    responses={
        503: {
            "model": Readiness,
            "description": "A dependency is not ok; the body says why",
        }
    },
)
async def get_readiness(services: ServicesDep, what: WhatQuery = None) -> JSONResponse:
    """200 if commands and reads can be served, or what `for` names; else 503, with the reason."""
    found = await read_readiness(services)
    ready = {"commands": found.commands, "reads": found.reads, None: found.ready}[what]
    return JSONResponse(found.model_dump() | {"ready": ready}, 200 if ready else 503)
