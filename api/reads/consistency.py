"""Read consistency: waits until a read model contains what the caller needs to see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Header, Request
from pydantic import Field, TypeAdapter, ValidationError

from api.auth.authentication import assert_owns_order
from api.context import VERSION_MAX, wait_seconds
from api.dependencies import Services
from api.limits.load_shedding import without_slot
from api.problems.catalog import INVALID_CONSISTENCY_TOKEN, PROJECTION_BEHIND
from api.problems.problem import Problem, not_issued
from api.reads.query_params import QueryParams
from api.times import TIMEZONE
from orders.text import Id
from readside.engine.checkpoints import order_progress

_TOKEN = TypeAdapter(tuple[Id, Annotated[int, Field(ge=0, le=VERSION_MAX)]])

PREFER = "`wait=N`: wait at most N seconds."
PreferHeader = Annotated[str | None, Header(description=PREFER)]
PREFER_ZONE = f"{PREFER} {TIMEZONE}"
PreferZoneHeader = Annotated[str | None, Header(description=PREFER_ZONE)]


class TokenQuery(QueryParams):
    """The consistency parameter of reads of many orders."""

    consistency_token: Annotated[
        str | None, Field(description="Wait until the effect of this command is visible.")
    ] = None


class ConsistencyQuery(TokenQuery):
    """The consistency parameters of reads of one order."""

    min_version: Annotated[
        int | None,
        Field(ge=0, le=VERSION_MAX, description="Wait until the order has this version."),
    ] = None


@dataclass(frozen=True)
class ReadConsistency:
    """The versions of orders that a read model must have before a request reads it."""

    request: Request
    services: Services
    projection: str
    required: list[tuple[str, int]]
    """Order ids, each with the version to wait for."""
    seconds: float

    async def wait(self) -> None:
        """Waits for the required versions; raises the Problem of a projection that is behind."""
        for order_id, version in self.required:
            with without_slot(self.request):
                is_reached = await self.services.freshness.wait_for(
                    self.projection, order_id, version, self.seconds
                )
            if not is_reached:
                raise await self._behind(order_id, version)

    def headers(self) -> dict[str, str]:
        """How fresh the read model is; none as long as this process has not heard of it."""
        progress = self.services.freshness.progress(self.projection)
        if progress is None:
            return {}
        return {
            "Projection-Position": str(progress.position),
            "Projection-Lag-Ms": str(progress.lag_ms),
        }

    async def _behind(self, order_id: str, version: int) -> Problem:
        # Never a 404: a caller knows a version from a command, so the order exists.
        progress = await order_progress(self.services.pool, self.projection, order_id)
        detail = f"In {self.projection}, order {order_id} is at version {progress.version}"
        detail += f", not yet at {version}."
        if progress.parked_by:
            detail += f" It is parked until an operator acts: {progress.parked_by}."
        return Problem(PROJECTION_BEHIND, detail, current_version=progress.version)


async def read_consistency(
    request: Request,
    services: Services,
    projection: str,
    query: TokenQuery,
    prefer: str | None = None,
) -> ReadConsistency:
    """What a request requires of a read model.

    Raises a Problem for a token that is not ours or not for this caller.
    """
    order_id: str | None = request.path_params.get("order_id")
    required = []
    if query.consistency_token:
        token_order_id, version = _parse_token(query.consistency_token)
        if token_order_id != order_id:
            await assert_owns_order(request, token_order_id)
        required.append((token_order_id, version))
    # Every read model contains version 0.
    if order_id and isinstance(query, ConsistencyQuery) and query.min_version:
        required.append((order_id, query.min_version))
    return ReadConsistency(request, services, projection, required, wait_seconds(prefer))


def _parse_token(token: str) -> tuple[str, int]:
    try:
        return _TOKEN.validate_python(tuple(token.rsplit("@", 1)))
    except ValidationError as error:
        raise not_issued(
            INVALID_CONSISTENCY_TOKEN, "consistency_token", "is not one that a command returned"
        ) from error
