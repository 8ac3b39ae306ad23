"""An order as it was, for those who ask by version or by instant."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import asyncpg
from fastapi import Query

from api.context import VERSION_MAX
from api.problems.catalog import MALFORMED_REQUEST, NOT_OPEN_YET, UNKNOWN_VERSION
from api.problems.errors import UnknownOrder
from api.problems.problem import FieldError, Problem
from api.reads.query_params import Instant
from eventlog import log
from readside.order_view import as_of as past
from readside.order_view.document import View

AsOfVersion = Annotated[
    int | None, Query(ge=1, le=VERSION_MAX, description="the order as this version left it")
]
AsOfInstant = Annotated[
    Instant | None,
    Query(description="the order as it was then: RFC 3339, with an offset"),
]


async def order_as_of(
    pool: asyncpg.Pool, order_id: str, version: int | None, at: datetime | None
) -> View:
    """The order as of one of the two; raises a Problem that says where it is, or since when."""
    if version is not None and at is not None:
        errors = [
            FieldError(parameter=name, code="ambiguous", detail=f"cannot go with {other}")
            for name, other in (("version", "at"), ("at", "version"))
        ]
        detail = "version and at name one moment each: send one of the two."
        raise Problem(MALFORMED_REQUEST, detail, errors=errors)
    if version is not None:
        return await _at_version(pool, order_id, version)
    assert at is not None
    return await _at_instant(pool, order_id, at)


async def _at_version(pool: asyncpg.Pool, order_id: str, version: int) -> View:
    view = await past.at_version(pool, order_id, version)
    head = view.order.version
    if head == 0:
        raise UnknownOrder(order_id)
    if head < version:
        detail = f"Order {order_id} is at version {head}: there is no version {version} of it."
        raise Problem(UNKNOWN_VERSION, detail, current_version=head)
    return view


async def _at_instant(pool: asyncpg.Pool, order_id: str, at: datetime) -> View:
    view = await past.at_instant(pool, order_id, at)
    if view.order.version == 0:
        first = await log.read_stream(pool, order_id, limit=1)
        if not first:
            raise UnknownOrder(order_id)
        detail = f"Order {order_id} was opened at {first[0].occurred_at.isoformat()}, after that."
        raise Problem(NOT_OPEN_YET, detail)
    return view
