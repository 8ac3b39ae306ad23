"""Whether this process lives, and whether it can serve; for orchestrators and for people."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from temporalio.client import Client

from eventlog.postgres import UNAVAILABLE
from readside import order_view
from readside.freshness import HEARTBEAT_SECONDS_MAX, Freshness

router = APIRouter(tags=["health"])

CHECK_SECONDS_MAX = 2


class Readiness(BaseModel):
    """Each part that serving needs, with "ok" or with what is wrong with it."""

    ready: bool
    temporal: str
    postgres: str
    projector: str


@router.get("/healthz", summary="Does the process live?")
async def healthz() -> dict[str, str]:
    """Answers as long as the process does."""
    return {"status": "alive"}


@router.get("/readyz", summary="Can it serve?", response_model=Readiness)
async def readyz(request: Request) -> JSONResponse:
    """200 if commands and reads can be served; else 503, with what cannot and why."""
    state = request.app.state
    temporal, (postgres, projector) = await asyncio.gather(
        _temporal(state.client), _readside(state.pool, state.freshness)
    )
    ready = temporal == postgres == projector == "ok"
    body = Readiness(ready=ready, temporal=temporal, postgres=postgres, projector=projector)
    return JSONResponse(body.model_dump(), 200 if ready else 503)


async def _temporal(client: Client) -> str:
    try:
        async with asyncio.timeout(CHECK_SECONDS_MAX):
            healthy = await client.service_client.check_health()
        return "ok" if healthy else "not serving"
    except Exception as error:  # Whatever it is, it is the answer.
        return f"unreachable: {str(error) or type(error).__name__}"


async def _readside(pool: asyncpg.Pool, freshness: Freshness) -> tuple[str, str]:
    query = "SELECT stopped_by FROM projections WHERE name = $1"
    try:
        async with asyncio.timeout(CHECK_SECONDS_MAX):
            row: Any = await pool.fetchrow(query, order_view.NAME)
    except UNAVAILABLE as error:
        return f"unreachable: {str(error) or type(error).__name__}", "unknown"
    except asyncpg.UndefinedTableError:
        return "not migrated: run `orderly migrate`", "unknown"
    if row["stopped_by"]:
        return "ok", f"stopped at {row['stopped_by']}"
    if freshness.silence_seconds > HEARTBEAT_SECONDS_MAX:
        return "ok", f"not heard for {freshness.silence_seconds:.0f} seconds"
    return "ok", "ok"
