"""What may be asked of an order. A command's `type` is part of the public API: never rename one."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from orders.money import Amount, Currency, Quantity

# No control characters (but new lines in a text); ids are safe in a URL and in a log line too.
Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:~|-]{1,64}$")]
Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,100}$")]
Text = Annotated[str, Field(pattern=r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]{1,1000}$")]

NOT_NAMED = ""  # The caller left the id to us: see `named`. An id that was given is never empty.
NewId = Annotated[
    Id,
    Field(
        description="your id for it; derived from the request's key if absent",
        json_schema_extra=lambda schema: schema.pop("default", None),
    ),
]


class Command(BaseModel):
    """A request to an order, which may be refused. Closed: an unknown field is a mistake."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class OpenOrder(Command):
    """Begin a draft for a customer, in one currency for its whole life."""

    type: Literal["open-order"] = "open-order"
    customer_id: Id
    currency: Currency
    external_reference: Name | None = None


class AddItemToOrder(Command):
    """Add a line to a draft. Title and price are copied: a catalogue change rewrites no order."""

    type: Literal["add-item-to-order"] = "add-item-to-order"
    line_id: NewId = NOT_NAMED
    sku: Name
    title: Name
    quantity: Quantity
    unit_price: Amount
    discount: Amount = 0
    tax: Amount = 0
    currency: Currency | None = Field(None, description="if given, must be the order's own")


class ChangeItemQuantity(Command):
    """Change how many pieces of a line a draft asks for."""

    type: Literal["change-item-quantity"] = "change-item-quantity"
    line_id: Id
    quantity: Quantity


class RemoveItemFromOrder(Command):
    """Take a line out of a draft; its id stays used."""

    type: Literal["remove-item-from-order"] = "remove-item-from-order"
    line_id: Id


class ApplyDiscount(Command):
    """Take an amount off the whole draft, split over its lines in proportion."""

    type: Literal["apply-discount"] = "apply-discount"
    discount_id: NewId = NOT_NAMED
    amount: Annotated[Amount, Field(gt=0)]
    reason: Text | None = None
    currency: Currency | None = Field(None, description="if given, must be the order's own")


class RemoveDiscount(Command):
    """Take a discount off a draft again; its id stays used."""

    type: Literal["remove-discount"] = "remove-discount"
    discount_id: Id


class AddNote(Command):
    """Write something down about an order, whatever its status."""

    type: Literal["add-note"] = "add-note"
    note_id: NewId = NOT_NAMED
    text: Text


class PlaceOrder(Command):
    """Turn a draft into a binding order."""

    type: Literal["place-order"] = "place-order"


class CancelOrder(Command):
    """Call the whole order off."""

    type: Literal["cancel-order"] = "cancel-order"
    reason: Text | None = None


OrderCommand = (
    OpenOrder
    | AddItemToOrder
    | ChangeItemQuantity
    | RemoveItemFromOrder
    | ApplyDiscount
    | RemoveDiscount
    | AddNote
    | PlaceOrder
    | CancelOrder
)
AnyCommand = Annotated[OrderCommand, Field(discriminator="type")]
COMMAND_TYPES: tuple[type[OrderCommand], ...] = get_args(OrderCommand)


def type_of(command_type: type[OrderCommand]) -> str:
    """The tag of a class of commands, as it stands in URLs and JSON: "place-order"."""
    tag: str = command_type.model_fields["type"].default
    return tag


def named(command: OrderCommand, new_id: str) -> OrderCommand:
    """The command with `new_id` for what it adds, where the caller gave it no id of their own."""
    match command:
        case AddItemToOrder(line_id=""):
            return command.model_copy(update={"line_id": new_id})
        case ApplyDiscount(discount_id=""):
            return command.model_copy(update={"discount_id": new_id})
        case AddNote(note_id=""):
            return command.model_copy(update={"note_id": new_id})
        case _:
            return command
