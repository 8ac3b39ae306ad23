"""How recent a reader needs an answer to be: understood, waited for, and answered for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import asyncpg
from fastapi import Depends, Header, Query, Request

from api.callers import assert_own
from api.errors import Problem, not_ours
from api.requests import wait_seconds
from readside import order_view
from readside.freshness import Freshness


@dataclass(frozen=True)
class Recency:
    """How recent the caller needs an answer to be, and how long it would wait for that."""

    freshness: Freshness
    min_version: int | None
    token: tuple[str, int] | None
    seconds: float

    async def reach(self, pool: asyncpg.Pool, order_id: str | None = None) -> None:
        """Waits until the read model is as recent as asked; raises a Problem if it is late."""
        wanted = [self.token] if self.token else []
        if order_id is not None and self.min_version is not None:
            wanted.append((order_id, self.min_version))
        for wanted_id, version in wanted:
            if not await self.freshness.reach(wanted_id, version, self.seconds):
                raise await _behind(pool, wanted_id, version)

    def headers(self) -> dict[str, str]:
        return {
            "Projection-Position": str(self.freshness.position),
            "Projection-Lag-Ms": str(self.freshness.lag_ms),
        }


async def recency(
    request: Request,
    min_version: Annotated[
        int | None, Query(ge=0, description="Wait until the order has come this far.")
    ] = None,
    consistency_token: Annotated[
        str | None, Query(description="Wait until what a command answered is visible.")
    ] = None,
    prefer: Annotated[
        str | None, Header(description="`wait=N`: the seconds to wait at most.")
    ] = None,
) -> Recency:
    """Reads what the caller says of recency; raises a Problem for a token that is not for it."""
    token = _token(consistency_token) if consistency_token else None
    if token and token[0] != request.path_params.get("order_id"):
        await assert_own(request, token[0])
    return Recency(request.app.state.freshness, min_version, token, wait_seconds(prefer))


AsRecent = Annotated[Recency, Depends(recency)]


async def _behind(pool: asyncpg.Pool, order_id: str, version: int) -> Problem:
    # Never a 404: who names a version was told it, so the order exists, whatever we see of it yet.
    row = await order_view.find(pool, order_id)
    come = row.version if row else 0
    return Problem(
        503,
        "projection-behind",
        f"The read model of order {order_id} is at version {come}, not yet at {version}.",
        retry_after=1,
        current_version=come,
    )


def _token(text: str) -> tuple[str, int]:
    order_id, _, version = text.rpartition("@")
    if not order_id or not version.isdecimal() or len(version) > 9:
        raise not_ours("consistency_token", "is not one that a command answered")
    return order_id, int(version)
