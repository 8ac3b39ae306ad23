"""Which events a request is for: the parameters that the feed and its digest share."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request
from pydantic import AfterValidator

from api.auth.authentication import assert_owns_order, visible_customer_id
from eventlog.feed import EventFilter
from orders.events import BY_TAG
from orders.text import CustomerId, Id


def _check_type(tag: str) -> str:
    if tag not in BY_TAG:
        raise ValueError(
            "is not a type of event: send one such as item-added, without orderly.order. and .v1"
        )
    return tag


EventType = Annotated[str, AfterValidator(_check_type)]
Types = Annotated[list[EventType] | None, Query(description="any of these, such as item-added")]
OfOrder = Annotated[Id | None, Query(description="only events of this order")]
OfCustomer = Annotated[
    CustomerId | None, Query(description="only events of this customer's orders")
]


async def requested_filter(
    request: Request, types: list[str] | None, order_id: str | None, customer_id: str | None
) -> EventFilter:
    """The filter of a request, which lets through only what its caller can access.

    Raises a Problem if the order is another customer's.
    """
    if order_id is not None:
        await assert_owns_order(request, order_id)
    known = tuple(sorted(types)) if types else None
    return EventFilter(known, order_id, visible_customer_id(request, customer_id))
