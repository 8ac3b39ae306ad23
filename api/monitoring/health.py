"""Liveness and readiness of this process, for orchestrators and for people."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import asyncpg
from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from temporalio.client import Client
from temporalio.service import RPCError

from api.dependencies import Services, ServicesDep
from api.problems.handlers import MALFORMED
from api.problems.strict_route import StrictRoute
from eventlog.postgres import UNAVAILABLE
from readside.engine import checkpoints, parking
from readside.freshness import HEARTBEAT_SECONDS_MAX, Freshness
from readside.order_view import projection as order_view
from readside.registry import PROJECTIONS
from workflows.unpublished import find_unpublished

router = APIRouter(tags=["Operations"], responses=MALFORMED, route_class=StrictRoute)

CHECK_SECONDS_MAX = 2
LAG_SECONDS_MAX = 5
READ_ONLY = "read-only"

WhatQuery = Annotated[
    Literal["commands", "reads"] | None,
    Query(alias="for", description="Only what is needed for these, such as for a load balancer."),
]


class Liveness(BaseModel):
    """The process is alive."""

    status: Literal["alive"] = "alive"


class _State(NamedTuple):
    """The state of a projection, and whether reads can be served from it."""

    words: str
    is_serving: bool


class Readiness(BaseModel):
    """The state of each dependency: "ok", or what is wrong with it."""

    ready: bool
    """Whether all that was asked for can be served."""
    commands: bool
    """Whether commands can be served: they need Temporal."""
    reads: bool
    """Whether reads of orders can be served: they need Postgres and the orders' projection."""
    temporal: str
    postgres: str
    projections: dict[str, str]
    """By name. Only that of orders affects readiness, if it has stopped or is not heard of: one
    that is behind still serves reads, which say how far."""
    parked_orders: int | None
    """Orders that a projection fails on, listed by `orderly projections parked`."""
    unpublished_orders: int | None
    """Orders that have acknowledged what the log does not have, for some ten seconds."""


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
    temporal, (postgres, projections, parked), unpublished = await asyncio.gather(
        _temporal(services.client),
        _readside(services.pool, services.freshness),
        _unpublished_orders(services),
    )
    orders = projections.get(order_view.PROJECTION.name)
    commands = temporal == "ok"
    reads = postgres in ("ok", READ_ONLY) and orders is not None and orders.is_serving
    both = commands and reads and postgres == "ok"
    ready = {"commands": commands, "reads": reads, None: both}[what]
    body = Readiness(
        ready=ready,
        commands=commands,
        reads=reads,
        unpublished_orders=unpublished,
        temporal=temporal,
        postgres=postgres,
        projections={name: state.words for name, state in projections.items()},
        parked_orders=parked,
    )
    return JSONResponse(body.model_dump(), 200 if ready else 503)


T = TypeVar("T")


async def _within_limit(check: Coroutine[Any, Any, T]) -> T:
    """The result of a check; raises TimeoutError after CHECK_SECONDS_MAX.

    It does not wait for the check to end then: a cancelled query waits for its connection.
    """
    task = asyncio.create_task(check)
    done, _ = await asyncio.wait({task}, timeout=CHECK_SECONDS_MAX)
    if done:
        return task.result()
    task.cancel()
    task.add_done_callback(lambda late: late.cancelled() or late.exception())
    raise TimeoutError(f"no answer within {CHECK_SECONDS_MAX} s")


async def _temporal(client: Client) -> str:
    try:
        healthy = await _within_limit(client.service_client.check_health())
        return "ok" if healthy else "not serving"
    except Exception as error:  # Any error means not ready, and the body reports it.
        return f"unreachable: {str(error) or type(error).__name__}"


async def _unpublished_orders(services: Services) -> int | None:
    try:
        search = find_unpublished(services.client, services.gateway.task_queue)
        return (await _within_limit(search)).orders
    except (RPCError, TimeoutError):
        return None


async def _readside(
    pool: asyncpg.Pool, freshness: Freshness
) -> tuple[str, dict[str, _State], int | None]:
    try:
        is_read_only, stopped, parked = await _within_limit(_read(pool))
    except UNAVAILABLE as error:
        return f"unreachable: {str(error) or type(error).__name__}", {}, None
    except asyncpg.UndefinedTableError:
        return "not migrated: run `orderly migrate`", {}, None
    states = {p.name: _state_of(p.name, stopped, freshness) for p in PROJECTIONS}
    return READ_ONLY if is_read_only else "ok", states, parked


async def _read(pool: asyncpg.Pool) -> tuple[bool, dict[str, str], int]:
    """Whether Postgres is read-only, why projections stopped, and how many orders are parked."""
    is_read_only = await pool.fetchval("SELECT current_setting('transaction_read_only')::bool")
    stopped = await checkpoints.stop_reasons(pool)
    return is_read_only, stopped, len({one.order_id for one in await parking.parked_orders(pool)})


def _state_of(projection: str, stopped: dict[str, str], freshness: Freshness) -> _State:
    if projection in stopped:
        return _State(f"stopped: {stopped[projection]}", False)
    progress = freshness.progress(projection)
    if progress is None:
        return _State("no projector has been heard of yet", False)
    if progress.silence_seconds > HEARTBEAT_SECONDS_MAX:
        return _State(f"no projector for {progress.silence_seconds:.0f} seconds", False)
    if progress.lag_ms > LAG_SECONDS_MAX * 1000:
        return _State(f"{progress.lag_ms / 1000:.0f} seconds behind", True)
    return _State("ok", True)
