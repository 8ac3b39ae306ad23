"""An order with the times and texts of its events, folded from its stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from orders import events as e
from orders.events import OrderEvent, OrderPlaced, client_key
from orders.evolve import evolve
from orders.order import Order
from orders.upcasting import UnreadableEvent
from readside.engine.projection import ProjectionError
from readside.order_view.waiting import since_after

# The keys of texts that belong to the whole order: of the last hold, and the last declined payment.
HOLD = "hold"
DECLINE = "decline"


@dataclass(frozen=True, slots=True)
class OrderView:
    """An order, and the times and texts that its events add to it."""

    order_id: str
    order: Order = field(default_factory=Order)
    opened_at: datetime | None = None
    placed_at: datetime | None = None
    updated_at: datetime | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    """What people read and no rule needs, by the key of what it belongs to: see `text_of`."""
    since: Mapping[str, datetime] = field(default_factory=dict)
    """Since when the order waits for each thing, by a key of `waiting`."""


class StoredEvent(Protocol):
    """An event of an order in any of the forms in which the log is read."""

    @property
    def version(self) -> int: ...
    @property
    def occurred_at(self) -> datetime: ...
    def event(self) -> OrderEvent: ...


def fold_view(view: OrderView, stream: Iterable[StoredEvent]) -> OrderView:
    """The view after more events of its order; raises ProjectionError if one is unreadable."""
    order, opened_at, placed_at = view.order, view.opened_at, view.placed_at
    updated_at, texts, since = view.updated_at, dict(view.texts), view.since
    for stored in stream:
        try:
            event = stored.event()
        except UnreadableEvent as error:
            raise ProjectionError(view.order_id, stored.version, str(error)) from error
        order, updated_at = evolve(order, event), stored.occurred_at
        since = since_after(since, order, updated_at)
        if (text := text_of(event, order)) is not None:
            texts |= text
        opened_at = opened_at or updated_at
        placed_at = updated_at if isinstance(event, OrderPlaced) else placed_at
    return OrderView(view.order_id, order, opened_at, placed_at, updated_at, texts, since)


def text_of(event: OrderEvent, order: Order) -> Mapping[str, str] | None:
    """The text that an event adds; of a booking, the encrypted address that the carrier gets."""
    match event:
        case e.NoteAdded(note_id=key, text=text):
            return {client_key("note_id", key): text}
        case e.DiscountApplied(discount_id=key, reason=str(reason)):
            return {client_key("discount_id", key): reason}
        case e.ReturnRequested(return_id=key, reason=str(reason)):
            return {client_key("return_id", key): reason}
        case e.OrderHeld(reason=reason):
            return {HOLD: reason or ""}
        case (
            e.PaymentDeclined(reason=reason)
            | e.CaptureRefused(reason=reason)
            | e.CaptureReversed(reason=reason)
        ):
            return {DECLINE: reason}
        case e.ChargebackOpened(chargeback_id=key, reason=reason):
            return {client_key("chargeback_id", key): reason}
        case e.DiscrepancyRecorded(discrepancy_id=key, summary=summary):
            return {client_key("discrepancy_id", key): summary}
        case e.ShipmentBookingRequested(shipment_id=key) if order.shipping_address:
            return {client_key("shipment_id", key): order.shipping_address}
        case _:
            return None
