"""What may be asked of an order. A command's `type` is part of the public API: never rename one."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from orders.money import Amount, Currency, Quantity
from orders.policy import Policy
from orders.text import ID_CHARACTERS_MAX, CustomerId, Id, LongName, Name, Text

# What only `privacy/` can read; to the domain it is one opaque word.
Sealed = Annotated[str, Field(pattern=r"^sealed\.[A-Za-z0-9._=-]+$", max_length=8192)]
# A token of the payment service; digits alone may be a card number, which must not come here.
PaymentMethod = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9._:~|-]{0,63}[A-Za-z][A-Za-z0-9._:~|-]{0,63}$",
        max_length=64,
        description="the payment service's token for it, never a card number",
        examples=["pm_card"],
    ),
]

UNASSIGNED = ""  # The caller left the id to us: see `named`. An id that was given is never empty.
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


class LineQuantity(BaseModel):
    """So many pieces of one line."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    line_id: Id
    quantity: Quantity


Pieces = Annotated[list[LineQuantity], Field(min_length=1, max_length=500)]


class OpenOrder(Command):
    """Begin a draft for a customer, in one currency for its whole life."""

    type: Literal["open-order"] = "open-order"
    customer_id: CustomerId
    currency: Currency
    external_reference: Name | None = None
    policy: SkipJsonSchema[Policy | None] = None
    """Set at the door, from settings; an order without one asks nothing of other services."""


class AddItemToOrder(Command):
    """Add a line to a draft. Title and price are copied: a catalogue change rewrites no order."""

    type: Literal["add-item-to-order"] = "add-item-to-order"
    line_id: NewId = UNASSIGNED
    sku: LongName
    title: LongName
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
    discount_id: NewId = UNASSIGNED
    amount: Annotated[Amount, Field(gt=0)]
    reason: Text | None = None
    currency: Currency | None = Field(None, description="if given, must be the order's own")


class RemoveDiscount(Command):
    """Take a discount off a draft again; its id stays used."""

    type: Literal["remove-discount"] = "remove-discount"
    discount_id: Id


class SetShippingCharge(Command):
    """Say what shipping costs the customer, whatever number of shipments it takes."""

    type: Literal["set-shipping-charge"] = "set-shipping-charge"
    amount: Amount
    currency: Currency | None = Field(None, description="if given, must be the order's own")


class SetShippingAddress(Command):
    """Say where the goods go; sealed, so that only who needs it can read it."""

    type: Literal["set-shipping-address"] = "set-shipping-address"
    address: Sealed


class SetBillingAddress(Command):
    """Say who is billed; sealed, so that only who needs it can read it."""

    type: Literal["set-billing-address"] = "set-billing-address"
    address: Sealed


class AddNote(Command):
    """Write something down about an order, whatever its status."""

    type: Literal["add-note"] = "add-note"
    note_id: NewId = UNASSIGNED
    text: Text


class PlaceOrder(Command):
    """Turn a draft into a binding order: stock is reserved, then the total is authorised."""

    type: Literal["place-order"] = "place-order"
    payment_method: PaymentMethod | None = None


class HoldOrder(Command):
    """Stop an order where it is until somebody releases it."""

    type: Literal["hold-order"] = "hold-order"
    reason: Text | None = None


class ReleaseOrder(Command):
    """Let a held order go on."""

    type: Literal["release-order"] = "release-order"


class CancelOrder(Command):
    """Call the whole order off: shipments are stopped, then money and stock go back."""

    type: Literal["cancel-order"] = "cancel-order"
    reason: Text | None = None


class CancelLines(Command):
    """Call off pieces that have not left yet; an order without any piece left is cancelled."""

    type: Literal["cancel-lines"] = "cancel-lines"
    cancellation_id: NewId = UNASSIGNED
    lines: Pieces
    reason: Text | None = None


class AcceptShortfall(Command):
    """Take what there is: the pieces that are not in stock are called off."""

    type: Literal["accept-shortfall"] = "accept-shortfall"


class RetryPayment(Command):
    """Pay by another method, or once more by the same."""

    type: Literal["retry-payment"] = "retry-payment"
    method: PaymentMethod


class CapturePayment(Command):
    """Take authorised money before its shipment leaves; all of it if no amount is given."""

    type: Literal["capture-payment"] = "capture-payment"
    capture_id: NewId = UNASSIGNED
    amount: Annotated[Amount, Field(gt=0)] | None = None


class RefundPayment(Command):
    """Give back money for goodwill; never more than was captured and not yet given back."""

    type: Literal["refund-payment"] = "refund-payment"
    refund_id: NewId = UNASSIGNED
    amount: Annotated[Amount, Field(gt=0)]
    reason: Text | None = None


class CreateShipment(Command):
    """Put reserved pieces into a shipment of their own, out of shipments that have not left."""

    type: Literal["create-shipment"] = "create-shipment"
    shipment_id: NewId = UNASSIGNED
    lines: Pieces


class DispatchShipment(Command):
    """A shipment has left: its share of the money is captured."""

    type: Literal["dispatch-shipment"] = "dispatch-shipment"
    shipment_id: Id
    tracking: Name | None = None


class ConfirmDelivery(Command):
    """A shipment has arrived; the return window opens."""

    type: Literal["confirm-delivery"] = "confirm-delivery"
    shipment_id: Id


class ReportDeliveryFailure(Command):
    """A shipment that left will not arrive: its pieces are called off and paid back."""

    type: Literal["report-delivery-failure"] = "report-delivery-failure"
    shipment_id: Id
    reason: Text | None = None
    goods: Annotated[
        Literal["lost", "returned"], Field(description="returned goods go back into stock")
    ] = "lost"


class AddLine(BaseModel):
    """One more line."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    type: Literal["add-line"] = "add-line"
    line_id: NewId = UNASSIGNED
    sku: LongName
    title: LongName
    quantity: Quantity
    unit_price: Amount
    discount: Amount = 0
    tax: Amount = 0


class ChangeLine(BaseModel):
    """Other terms for a line, where given; all are the whole line's, as if ordered so at first."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    type: Literal["change-line"] = "change-line"
    line_id: Id
    quantity: Quantity | None = None
    unit_price: Amount | None = None
    discount: Amount | None = None
    tax: Amount | None = None


class RemoveLine(BaseModel):
    """A line of which nothing has left is called off."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    type: Literal["remove-line"] = "remove-line"
    line_id: Id


class ChangeShippingCharge(BaseModel):
    """Another charge for shipping."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    type: Literal["change-shipping-charge"] = "change-shipping-charge"
    amount: Amount


Change = Annotated[
    AddLine | ChangeLine | RemoveLine | ChangeShippingCharge,
    Field(discriminator="type", json_schema_extra={"required": ["type"]}),
]


class AmendOrder(Command):
    """Change a placed order; what was captured too much or is missing is settled."""

    type: Literal["amend-order"] = "amend-order"
    amendment_id: NewId = UNASSIGNED
    changes: Annotated[list[Change], Field(min_length=1, max_length=100)]


class RequestReturn(Command):
    """The customer wants to send delivered pieces back."""

    type: Literal["request-return"] = "request-return"
    return_id: NewId = UNASSIGNED
    lines: Pieces
    reason: Text | None = None


class ApproveReturn(Command):
    """Agree to take back what a return asks for."""

    type: Literal["approve-return"] = "approve-return"
    return_id: Id


class RejectReturn(Command):
    """Refuse to take back what has not come back yet."""

    type: Literal["reject-return"] = "reject-return"
    return_id: Id
    reason: Text | None = None


class ReceiveReturn(Command):
    """Pieces came back and are accepted: they are refunded, and sellable ones go into stock."""

    type: Literal["receive-return"] = "receive-return"
    receipt_id: NewId = UNASSIGNED
    return_id: Id
    lines: Pieces
    condition: Literal["sellable", "damaged"]


class RetryStep(Command):
    """Try again now what needs attention: one step, or all of them."""

    type: Literal["retry-step"] = "retry-step"
    step_id: Id | None = None


OrderCommand = (
    OpenOrder
    | AddItemToOrder
    | ChangeItemQuantity
    | RemoveItemFromOrder
    | ApplyDiscount
    | RemoveDiscount
    | SetShippingCharge
    | SetShippingAddress
    | SetBillingAddress
    | AddNote
    | PlaceOrder
    | HoldOrder
    | ReleaseOrder
    | CancelOrder
    | CancelLines
    | AcceptShortfall
    | RetryPayment
    | CapturePayment
    | RefundPayment
    | CreateShipment
    | DispatchShipment
    | ConfirmDelivery
    | ReportDeliveryFailure
    | AmendOrder
    | RequestReturn
    | ApproveReturn
    | RejectReturn
    | ReceiveReturn
    | RetryStep
)
AnyCommand = Annotated[OrderCommand, Field(discriminator="type")]
COMMAND_TYPES: tuple[type[OrderCommand], ...] = get_args(OrderCommand)


def type_of(command_type: type[OrderCommand]) -> str:
    """The tag of a class of commands, as it stands in URLs and JSON: "place-order"."""
    tag: str = command_type.model_fields["type"].default
    return tag


# The field by which a command names what it adds. The same id and content again is already so.
CLIENT_ID_FIELDS: dict[type[OrderCommand], str] = {
    AddItemToOrder: "line_id",
    ApplyDiscount: "discount_id",
    AddNote: "note_id",
    CancelLines: "cancellation_id",
    CapturePayment: "capture_id",
    RefundPayment: "refund_id",
    CreateShipment: "shipment_id",
    AmendOrder: "amendment_id",
    RequestReturn: "return_id",
    ReceiveReturn: "receipt_id",
}


def _derived_id(parent: str, number: int) -> str:
    """The id of a part: its parent's and its number, or a hash of both where that is too long."""
    plain = f"{parent}.{number}"
    if len(plain) <= ID_CHARACTERS_MAX:
        return plain
    digest = hashlib.sha256(plain.encode()).hexdigest()[:24]
    return f"{parent[: ID_CHARACTERS_MAX - 25]}.{digest}"


def with_generated_ids(command: OrderCommand, new_id: str) -> OrderCommand:
    """The command with `new_id` for what it adds, where the caller gave it no id of their own."""
    field = CLIENT_ID_FIELDS.get(type(command))
    if field and getattr(command, field) == UNASSIGNED:
        command = command.model_copy(update={field: new_id})
    if isinstance(command, AmendOrder):
        changes = [
            change.model_copy(update={"line_id": _derived_id(command.amendment_id, number)})
            if isinstance(change, AddLine) and change.line_id == UNASSIGNED
            else change
            for number, change in enumerate(command.changes)
        ]
        return command.model_copy(update={"changes": changes})
    return command
