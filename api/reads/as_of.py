"""Reads of an order as of a version or a time."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import asyncpg
from pydantic import Field

from api.context import VERSION_MAX
from api.problems.catalog import MALFORMED_REQUEST, NOT_OPEN_YET, UNKNOWN_VERSION
from api.problems.errors import UnknownOrder
from api.problems.problem import FieldError, Problem
from api.reads.query_params import QueryParams
from api.times import Instant
from eventlog import log
from readside.order_view import as_of
from readside.order_view.row import OrderRow, order_row
from readside.order_view.view import OrderView


class AsOfQuery(QueryParams):
    """The point in an order's history; without one, now."""

    version: Annotated[
        int | None, Field(ge=1, le=VERSION_MAX, description="the order as of this version")
    ] = None
    at: Annotated[
        Instant | None,
        Field(description="the order as of this time: RFC 3339, with an offset"),
    ] = None


async def order_as_of(pool: asyncpg.Pool, order_id: str, query: AsOfQuery) -> OrderRow:
    """The order as of a version or a time; raises a Problem if it has neither."""
    match query:
        case AsOfQuery(version=int(version), at=None):
            view = await _at_version(pool, order_id, version)
        case AsOfQuery(version=None, at=datetime() as at):
            view = await _at_instant(pool, order_id, at)
        case _:
            errors = [
                FieldError(parameter=name, code="ambiguous", detail=f"cannot go with {other}")
                for name, other in (("version", "at"), ("at", "version"))
            ]
            detail = "Send either version or at, not both."
            raise Problem(MALFORMED_REQUEST, detail, errors=errors)
    return order_row(view)


async def _at_version(pool: asyncpg.Pool, order_id: str, version: int) -> OrderView:
    view = await as_of.at_version(pool, order_id, version)
    head = view.order.version
    if head == 0:
        raise UnknownOrder(order_id)
    if head < version:
        detail = f"Order {order_id} is at version {head}: it has no version {version}."
        raise Problem(UNKNOWN_VERSION, detail, current_version=head)
    return view


async def _at_instant(pool: asyncpg.Pool, order_id: str, at: datetime) -> OrderView:
    view = await as_of.at_instant(pool, order_id, at)
    if view.order.version == 0:
        first = await log.read_stream(pool, order_id, limit=1)
        if not first:
            raise UnknownOrder(order_id)
        detail = f"Order {order_id} was opened at {first[0].occurred_at.isoformat()}, after that."
        raise Problem(NOT_OPEN_YET, detail)
    return view
