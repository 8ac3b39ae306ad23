"""The digest of the feed: how many events there are, and which, in a few characters."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from api.auth.authentication import require_scope
from api.auth.permissions import READ
from api.context import context_of
from api.dependencies import ServicesDep
from api.events.filter import OfCustomer, OfOrder, Types, requested_filter
from api.events.start import From, position_after, position_of_start
from api.problems.catalog import DIGEST_TOO_LARGE, DIGESTS_BEHIND
from api.problems.handlers import PROBLEMS
from api.problems.problem import Problem
from eventlog import digests
from eventlog.cursor import encode_cursor
from eventlog.digests import (
    ORDERS_MAX,
    SLICE_DIGITS_MAX,
    Digest,
    Digests,
    DigestsBehind,
    TooManyOrders,
)
from eventlog.epochs import read_epochs
from eventlog.log import settled_head

router = APIRouter(tags=["Events"], responses=PROBLEMS, route_class=require_scope(READ))

ORDERS_LISTED_MAX = 100
_DIGEST = "sum of the first 8 bytes of the SHA-256 of each `id`, modulo 2 ** 64, in hexadecimal"


class SliceDigest(BaseModel):
    """The events of the orders of a slice: their ids' SHA-256 begins with its digits."""

    slice: str
    count: int
    digest: str = Field(description=_DIGEST)


class OrderDigest(BaseModel):
    """The events of an order."""

    order_id: str
    count: int
    digest: str = Field(description=_DIGEST)


class EventDigest(BaseModel):
    """The number of matching events up to `until`, and their digest."""

    until: str = Field(description="the cursor up to which events are counted")
    slice: str = Field(description="the slice that was asked for; empty: all orders")
    count: int
    digest: str = Field(description=_DIGEST)
    slices: list[SliceDigest] = Field(
        description="the slices within it, one digit longer; without those that have no events"
    )
    orders: list[OrderDigest] | None = Field(
        description=f"its orders; null if they are more than {ORDERS_LISTED_MAX}, or were not read"
    )


@router.get("/v1/events/digest", summary="Get the digest of events")
async def get_event_digest(
    request: Request,
    response: Response,
    services: ServicesDep,
    until: Annotated[
        str | None, Query(description="a cursor of the feed; absent: the last event")
    ] = None,
    cursor: Annotated[
        str | None, Query(description="only events after this cursor of the feed")
    ] = None,
    start: From = None,
    type: Types = None,
    order_id: OfOrder = None,
    customer_id: OfCustomer = None,
    slice: Annotated[
        str,
        Query(
            pattern=f"^[0-9a-f]{{0,{SLICE_DIGITS_MAX}}}$",
            description="only orders whose ids' SHA-256 begins with these hexadecimal digits",
        ),
    ] = "",
) -> EventDigest:
    """Proves that a reader has every event: equal digests are of the same events.

    It covers exactly the events that the feed has with the same filters, up to `until`. If digests
    differ, ask for the slices that differ, one digit after the other, down to their orders.
    """
    filter = await requested_filter(request, type, order_id, customer_id)
    pool, epochs = services.pool, await read_epochs(services.pool)
    if until is None:
        end = await settled_head(pool)
    else:
        end = await position_after(pool, epochs, until, {"parameter": "until"})
    own = context_of(request).customer_id
    after = await position_of_start(pool, epochs, cursor, start, own)
    try:
        found = await digests.read(pool, after, end, filter, slice)
    except TooManyOrders as error:
        detail = (
            f"The slice {slice!r} has more than {ORDERS_MAX:,} such orders: name a smaller slice,"
            " with one more digit."
        )
        raise Problem(DIGEST_TOO_LARGE, detail) from error
    except DigestsBehind as error:
        raise Problem(DIGESTS_BEHIND) from error
    response.headers["Cache-Control"] = "no-store"
    return EventDigest(
        until=encode_cursor(end, epochs.current),
        slice=slice,
        **_shown(found.whole),
        slices=[SliceDigest(slice=name, **_shown(one)) for name, one in found.slices.items()],
        orders=_orders(found, slice),
    )


def _orders(found: Digests, slice: str) -> list[OrderDigest] | None:
    """The digests of the orders, if they are few, or if there are no smaller slices to read."""
    orders = found.orders
    if orders is None or (len(orders) > ORDERS_LISTED_MAX and len(slice) < SLICE_DIGITS_MAX):
        return None
    return [OrderDigest(order_id=order_id, **_shown(one)) for order_id, one in orders.items()]


def _shown(digest: Digest) -> dict[str, int | str]:
    return {"count": digest.count, "digest": str(digest)}
