"""What can have happened to an order.

Tags and field names are a storage format: rename or remove nothing here, ever. A field added later
is `X | None = None`; nulls are not stored, so that an old event and its digest stay as they were.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

SCHEMA_VERSION = 1  # Of every event so far.


class UnreadableEvent(ValueError):
    """A stored event that this version of the software does not understand."""


class Event(BaseModel):
    """A fact, never changed. Open: a field that a newer version wrote is ignored on a rollback."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class OrderOpened(Event):
    type: Literal["order-opened"] = "order-opened"
    customer_id: str
    currency: str
    external_reference: str | None = None


class ItemAdded(Event):
    type: Literal["item-added"] = "item-added"
    line_id: str
    sku: str
    title: str
    quantity: int
    unit_price: int
    discount: int
    tax: int


class ItemQuantityChanged(Event):
    type: Literal["item-quantity-changed"] = "item-quantity-changed"
    line_id: str
    quantity: int


class ItemRemoved(Event):
    type: Literal["item-removed"] = "item-removed"
    line_id: str


class DiscountApplied(Event):
    type: Literal["discount-applied"] = "discount-applied"
    discount_id: str
    amount: int
    reason: str | None = None


class DiscountRemoved(Event):
    type: Literal["discount-removed"] = "discount-removed"
    discount_id: str


class NoteAdded(Event):
    type: Literal["note-added"] = "note-added"
    note_id: str
    text: str


class OrderPlaced(Event):
    type: Literal["order-placed"] = "order-placed"
    total: int


class OrderCancelled(Event):
    type: Literal["order-cancelled"] = "order-cancelled"
    reason: str | None = None


OrderEvent = (
    OrderOpened
    | ItemAdded
    | ItemQuantityChanged
    | ItemRemoved
    | DiscountApplied
    | DiscountRemoved
    | NoteAdded
    | OrderPlaced
    | OrderCancelled
)
EVENT_TYPES: tuple[type[OrderEvent], ...] = get_args(OrderEvent)
_ANY_EVENT: TypeAdapter[OrderEvent] = TypeAdapter(
    Annotated[OrderEvent, Field(discriminator="type")]
)


def stored(event: OrderEvent) -> dict[str, Any]:
    """The event's data as the log keeps it: without nulls, and its tag in a column of its own."""
    return event.model_dump(exclude={"type"}, exclude_none=True)


def restored(type: str, schema_version: int, data: dict[str, Any]) -> OrderEvent:
    """The event that `stored` wrote; raises UnreadableEvent for one this version cannot know."""
    if schema_version > SCHEMA_VERSION:
        raise UnreadableEvent(
            f"{type} has schema version {schema_version}, known is {SCHEMA_VERSION}"
        )
    try:
        return _ANY_EVENT.validate_python({**data, "type": type})
    except ValidationError as error:
        # Without the data itself: the message goes where personal data must not go.
        reasons = [f"{'.'.join(map(str, e['loc'][1:]))} {e['msg']}" for e in error.errors()]
        raise UnreadableEvent(f"{type}: {'; '.join(reasons)}".replace(": ;", ":")) from None
