"""The ids of events: an event is named by its order and its version."""

from __future__ import annotations


def event_id(order_id: str, version: int) -> str:
    """The id of an event, the same in the feed, in webhooks and at brokers."""
    return f"{order_id}@{version}"


def parse_event_id(event_id: str) -> tuple[str, int]:
    """The order id and the version in the id of an event; raises ValueError."""
    order_id, separator, version = event_id.rpartition("@")
    if not separator or not order_id or not version.isdecimal() or len(version) > 9:
        raise ValueError("is not the id of an event, such as ord_x@4")
    return order_id, int(version)
