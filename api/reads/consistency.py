"""How recent a reader needs an answer to be: understood, waited for, and answered for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

import asyncpg
from fastapi import Depends, Header, Query, Request

from api.auth.authentication import assert_owns_order
from api.context import VERSION_MAX, wait_seconds
from api.dependencies import FreshnessDep
from api.limits.load_shedding import waiting
from api.problems.catalog import INVALID_CONSISTENCY_TOKEN, PROJECTION_BEHIND
from api.problems.problem import Problem, not_issued
from readside.engine import checkpoints
from readside.freshness import Freshness
from readside.order_view import projection as order_view

MinVersion = Annotated[
    int | None,
    Query(ge=0, le=VERSION_MAX, description="Wait until the order has come this far."),
]
ConsistencyToken = Annotated[
    str | None, Query(description="Wait until what a command answered is visible.")
]
PREFER = "`wait=N`: the seconds to wait at most."


@dataclass(frozen=True)
class ReadConsistency:
    """How recent the caller needs an answer to be, and how long it would wait for that."""

    request: Request
    freshness: Freshness
    projection: str
    min_version: int | None
    token: tuple[str, int] | None
    seconds: float

    async def reach(self, pool: asyncpg.Pool, order_id: str | None = None) -> None:
        """Waits until the read model is as recent as asked; raises a Problem if it is late."""
        wanted = [self.token] if self.token else []
        if order_id is not None and self.min_version:  # Version 0 is reached before anything is.
            wanted.append((order_id, self.min_version))
        for wanted_id, version in wanted:
            with waiting(self.request):
                is_reached = await self.freshness.reach(
                    self.projection, wanted_id, version, self.seconds
                )
            if not is_reached:
                raise await _behind(pool, self.projection, wanted_id, version)

    def headers(self) -> dict[str, str]:
        return {
            "Projection-Position": str(self.freshness.position(self.projection)),
            "Projection-Lag-Ms": str(self.freshness.lag_ms(self.projection)),
        }


async def wanted(
    request: Request,
    projection: str,
    min_version: int | None,
    consistency_token: str | None,
    prefer: str | None,
    freshness: Freshness,
) -> ReadConsistency:
    """What the caller says of recency, understood; raises a Problem for a token not for them."""
    token = _token(consistency_token) if consistency_token else None
    if token and token[0] != request.path_params.get("order_id"):
        await assert_owns_order(request, token[0])
    return ReadConsistency(request, freshness, projection, min_version, token, wait_seconds(prefer))


def recency_of(projection: str) -> Callable[..., Awaitable[ReadConsistency]]:
    """What reads what the caller says of the recency of one read model."""

    async def recency(
        request: Request,
        freshness: FreshnessDep,
        min_version: MinVersion = None,
        consistency_token: ConsistencyToken = None,
        prefer: Annotated[str | None, Header(description=PREFER)] = None,
    ) -> ReadConsistency:
        """Raises a Problem for a token that is not for the caller, or none of ours."""
        return await wanted(request, projection, min_version, consistency_token, prefer, freshness)

    return recency


ConsistencyDep = Annotated[ReadConsistency, Depends(recency_of(order_view.PROJECTION.name))]


async def _behind(pool: asyncpg.Pool, projection: str, order_id: str, version: int) -> Problem:
    # Never a 404: who names a version was told it, so the order exists, whatever we see of it yet.
    come = await checkpoints.order_progress(pool, projection, order_id)
    where = f"In {projection}, order {order_id} is at version {come.version}"
    why = f" It waits for a person: {come.parked_by}." if come.parked_by else ""
    return Problem(
        PROJECTION_BEHIND,
        f"{where}, not yet at {version}.{why}",
        current_version=come.version,
    )


def _token(text: str) -> tuple[str, int]:
    order_id, _, version = text.rpartition("@")
    if not order_id or not version.isdecimal() or len(version) > 9:
        raise not_issued(
            INVALID_CONSISTENCY_TOKEN, "consistency_token", "is not one that a command answered"
        )
    return order_id, int(version)
