"""The commands of an order. A `type` is part of the public API: never rename one.

Each command declares in its class who may send it, in which statuses it is allowed, and the field
of its client id if it has one. Permissions, routes, the OpenAPI document and the table of allowed
commands are derived from these declarations.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self, Union

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from orders.lifecycle import ACTIVE, DISPATCHING, DRAFT, UNFINISHED, Status
from orders.models import StrictModel
from orders.money import Amount, Currency, PositiveAmount, Quantity
from orders.policy import Policy
from orders.text import ID_CHARACTERS_MAX, CustomerId, Id, LongName, Name, Reference, Text

# Encrypted by `privacy/`; opaque to the domain.
Sealed = Annotated[str, Field(pattern=r"^sealed\.[A-Za-z0-9._=-]+$", max_length=8192)]
# A token of the payment service. Digits alone may be a card number, which must not be stored.
PaymentMethod = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9._:~|-]{0,63}[A-Za-z][A-Za-z0-9._:~|-]{0,63}$",
        max_length=64,
        description="the payment service's token for it, never a card number",
        examples=["pm_card"],
    ),
]

UNASSIGNED = ""  # See `OrderCommand.with_generated_ids`; the pattern of an id admits no empty one.
NewId = Annotated[
    Id,
    Field(
        description="your id for it; derived from the request's key if absent",
        json_schema_extra=lambda schema: schema.pop("default", None),
    ),
]


class Role(StrEnum):
    """Whose token a command takes; an operator may send those for customers, too."""

    CUSTOMER = "customer"
    OPERATOR = "operator"


class OrderCommand(StrictModel):
    """A request to an order, which may be rejected."""

    role: ClassVar[Role] = Role.OPERATOR
    allowed_in: ClassVar[frozenset[Status]]
    grows: ClassVar[bool] = False
    """Whether it adds something, time and again: then it leaves room for what settles the order."""
    client_id_field: ClassVar[str | None] = None
    """The field with the caller's id for what the command adds.

    The same id with the same content again is a no-op; with other content it is rejected.
    """

    tag: ClassVar[str] = "Orders"
    """The group of its operation in the OpenAPI document."""

    type: str

    def with_generated_ids(self, new_id: str) -> Self:
        """The command with `new_id` as its client id, if the caller left it out."""
        field = self.client_id_field
        if field is None or getattr(self, field) != UNASSIGNED:
            return self
        return self.model_copy(update={field: new_id})


class LineQuantity(StrictModel):
    """A number of pieces of one line."""

    line_id: Id
    quantity: Quantity


Pieces = Annotated[list[LineQuantity], Field(min_length=1, max_length=500)]


class OpenOrder(OrderCommand):
    """Open a draft for a customer, in one currency for its whole life."""

    role = Role.CUSTOMER
    allowed_in = frozenset({Status.NEW})
    grows = True

    type: Literal["open-order"] = "open-order"
    customer_id: CustomerId
    currency: Currency
    external_reference: Name | None = None
    policy: SkipJsonSchema[Policy | None] = None
    """Set by the API, from settings; an order without one has no fulfilment."""


class AddItemToOrder(OrderCommand):
    """Add a line to a draft. Title and price are copied from the request, never updated later."""

    allowed_in = DRAFT
    grows = True
    client_id_field = "line_id"
    tag = "Lines"

    type: Literal["add-item-to-order"] = "add-item-to-order"
    line_id: NewId = UNASSIGNED
    sku: LongName
    title: LongName
    quantity: Quantity
    unit_price: Amount
    discount: Amount = 0
    tax: Amount = 0
    currency: Currency | None = Field(None, description="if given, must be the order's own")


class ChangeItemQuantity(OrderCommand):
    """Change the quantity of a draft line. Discount and tax change in proportion, or as given."""

    allowed_in = DRAFT
    tag = "Lines"

    type: Literal["change-item-quantity"] = "change-item-quantity"
    line_id: Id
    quantity: Quantity
    discount: Annotated[Amount | None, Field(description="of the whole line")] = None
    tax: Annotated[Amount | None, Field(description="of the whole line")] = None


class RemoveItemFromOrder(OrderCommand):
    """Remove a line from a draft: its id stays used."""

    allowed_in = DRAFT
    tag = "Lines"

    type: Literal["remove-item-from-order"] = "remove-item-from-order"
    line_id: Id


class ApplyDiscount(OrderCommand):
    """Discount a whole draft: the amount is split over its lines in proportion."""

    allowed_in = DRAFT
    grows = True
    client_id_field = "discount_id"
    tag = "Lines"

    type: Literal["apply-discount"] = "apply-discount"
    discount_id: NewId = UNASSIGNED
    amount: PositiveAmount
    reason: Text | None = None
    currency: Currency | None = Field(None, description="if given, must be the order's own")


class RemoveDiscount(OrderCommand):
    """Remove a discount from a draft: its id stays used."""

    allowed_in = DRAFT
    tag = "Lines"

    type: Literal["remove-discount"] = "remove-discount"
    discount_id: Id


class SetShippingCharge(OrderCommand):
    """Set the shipping charge of a draft, for all of its shipments together."""

    allowed_in = DRAFT

    type: Literal["set-shipping-charge"] = "set-shipping-charge"
    amount: Amount
    currency: Currency | None = Field(None, description="if given, must be the order's own")


class SetShippingAddress(OrderCommand):
    """Set where the goods are sent: encrypted with the customer's key."""

    role = Role.CUSTOMER
    allowed_in = DRAFT | UNFINISHED
    grows = True

    type: Literal["set-shipping-address"] = "set-shipping-address"
    address: Sealed


class SetBillingAddress(OrderCommand):
    """Set who is billed: encrypted with the customer's key."""

    role = Role.CUSTOMER
    allowed_in = DRAFT | UNFINISHED
    grows = True

    type: Literal["set-billing-address"] = "set-billing-address"
    address: Sealed


class AddNote(OrderCommand):
    """Add a note to an order in any status."""

    role = Role.CUSTOMER
    allowed_in = frozenset(Status) - {Status.NEW}
    grows = True
    client_id_field = "note_id"
    tag = "Notes"

    type: Literal["add-note"] = "add-note"
    note_id: NewId = UNASSIGNED
    text: Text


class PlaceOrder(OrderCommand):
    """Place a draft as a binding order: stock is reserved, then the total is authorised."""

    role = Role.CUSTOMER
    allowed_in = DRAFT

    type: Literal["place-order"] = "place-order"
    payment_method: PaymentMethod | None = None


class HoldOrder(OrderCommand):
    """Hold an order until it is released."""

    allowed_in = ACTIVE

    type: Literal["hold-order"] = "hold-order"
    reason: Text | None = None


class ReleaseOrder(OrderCommand):
    """Release a held order."""

    allowed_in = frozenset({Status.ON_HOLD})

    type: Literal["release-order"] = "release-order"


class CancelOrder(OrderCommand):
    """Cancel a whole order: shipments are stopped, then money and stock are given back."""

    role = Role.CUSTOMER
    allowed_in = DRAFT | UNFINISHED

    type: Literal["cancel-order"] = "cancel-order"
    reason: Text | None = None


class CancelLines(OrderCommand):
    """Cancel pieces that have not left: an order of which no piece remains is cancelled."""

    role = Role.CUSTOMER
    allowed_in = UNFINISHED
    grows = True
    client_id_field = "cancellation_id"
    tag = "Lines"

    type: Literal["cancel-lines"] = "cancel-lines"
    cancellation_id: NewId = UNASSIGNED
    lines: Pieces
    reason: Text | None = None


class AcceptShortfall(OrderCommand):
    """Accept the shortfall: the pieces that are not in stock are cancelled."""

    role = Role.CUSTOMER
    allowed_in = frozenset({Status.AWAITING_CUSTOMER})

    type: Literal["accept-shortfall"] = "accept-shortfall"


class RetryPayment(OrderCommand):
    """Retry a declined payment, with the same or another method."""

    role = Role.CUSTOMER
    allowed_in = frozenset({Status.AWAITING_CUSTOMER})
    tag = "Payments"

    type: Literal["retry-payment"] = "retry-payment"
    method: PaymentMethod


class CapturePayment(OrderCommand):
    """Capture authorised money before its shipment leaves: all of it if no amount is given."""

    allowed_in = frozenset({Status.CONFIRMED})
    client_id_field = "capture_id"
    tag = "Payments"

    type: Literal["capture-payment"] = "capture-payment"
    capture_id: NewId = UNASSIGNED
    amount: PositiveAmount | None = None


class RefundPayment(OrderCommand):
    """Refund money as goodwill: at most what is captured and not yet refunded."""

    allowed_in = DISPATCHING | {Status.COMPLETED}
    client_id_field = "refund_id"
    tag = "Payments"

    type: Literal["refund-payment"] = "refund-payment"
    refund_id: NewId = UNASSIGNED
    amount: PositiveAmount
    reason: Text | None = None


class CreateShipment(OrderCommand):
    """Create a shipment of reserved pieces: other shipments that have not left lose them."""

    allowed_in = frozenset({Status.CONFIRMED})
    grows = True
    client_id_field = "shipment_id"
    tag = "Shipments"

    type: Literal["create-shipment"] = "create-shipment"
    shipment_id: NewId = UNASSIGNED
    lines: Pieces


class DispatchShipment(OrderCommand):
    """Dispatch a shipment: its share of the money is captured."""

    allowed_in = frozenset({Status.CONFIRMED})
    tag = "Shipments"

    type: Literal["dispatch-shipment"] = "dispatch-shipment"
    shipment_id: Id
    tracking: Name | None = None


class ConfirmDelivery(OrderCommand):
    """Confirm that a shipment has arrived: the return window opens."""

    allowed_in = DISPATCHING
    tag = "Shipments"

    type: Literal["confirm-delivery"] = "confirm-delivery"
    shipment_id: Id


class ReportDeliveryFailure(OrderCommand):
    """Report that a shipment will not arrive: its pieces are cancelled and refunded."""

    allowed_in = DISPATCHING
    tag = "Shipments"

    type: Literal["report-delivery-failure"] = "report-delivery-failure"
    shipment_id: Id
    reason: Text | None = None
    goods: Annotated[
        Literal["lost", "returned"], Field(description="returned goods go back into stock")
    ] = "lost"


class AddLine(StrictModel):
    """Adds a line."""

    type: Literal["add-line"] = "add-line"
    line_id: NewId = UNASSIGNED
    sku: LongName
    title: LongName
    quantity: Quantity
    unit_price: Amount
    discount: Amount = 0
    tax: Amount = 0


class ChangeLine(StrictModel):
    """Changes given terms of a line; each applies to the whole line, shipped pieces too."""

    type: Literal["change-line"] = "change-line"
    line_id: Id
    quantity: Quantity | None = None
    unit_price: Amount | None = None
    discount: Amount | None = None
    tax: Amount | None = None


class RemoveLine(StrictModel):
    """Cancels a line of which nothing has left."""

    type: Literal["remove-line"] = "remove-line"
    line_id: Id


class ChangeShippingCharge(StrictModel):
    """Changes the shipping charge."""

    type: Literal["change-shipping-charge"] = "change-shipping-charge"
    amount: Amount


Change = Annotated[
    AddLine | ChangeLine | RemoveLine | ChangeShippingCharge,
    Field(discriminator="type", json_schema_extra={"required": ["type"]}),
]


class AmendOrder(OrderCommand):
    """Amend a placed order: the difference in price is authorised or refunded."""

    allowed_in = ACTIVE
    grows = True
    client_id_field = "amendment_id"

    type: Literal["amend-order"] = "amend-order"
    amendment_id: NewId = UNASSIGNED
    changes: Annotated[list[Change], Field(min_length=1, max_length=100)]

    def with_generated_ids(self, new_id: str) -> Self:
        """As for every command; and each added line without an id gets one, by its position."""
        amendment = super().with_generated_ids(new_id)
        changes = [
            change.model_copy(update={"line_id": _derived_id(amendment.amendment_id, number)})
            if isinstance(change, AddLine) and change.line_id == UNASSIGNED
            else change
            for number, change in enumerate(amendment.changes)
        ]
        return amendment.model_copy(update={"changes": changes})


class RequestReturn(OrderCommand):
    """Request the return of delivered pieces."""

    role = Role.CUSTOMER
    allowed_in = DISPATCHING
    grows = True
    client_id_field = "return_id"
    tag = "Returns"

    type: Literal["request-return"] = "request-return"
    return_id: NewId = UNASSIGNED
    lines: Pieces
    reason: Text | None = None


class ApproveReturn(OrderCommand):
    """Approve a return."""

    allowed_in = DISPATCHING
    tag = "Returns"

    type: Literal["approve-return"] = "approve-return"
    return_id: Id


class RejectReturn(OrderCommand):
    """Reject a return of which not all has come back."""

    allowed_in = DISPATCHING
    tag = "Returns"

    type: Literal["reject-return"] = "reject-return"
    return_id: Id
    reason: Text | None = None


class ReceiveReturn(OrderCommand):
    """Receive returned pieces: they are refunded, and sellable ones are restocked."""

    allowed_in = DISPATCHING
    client_id_field = "receipt_id"
    tag = "Returns"

    type: Literal["receive-return"] = "receive-return"
    receipt_id: NewId = UNASSIGNED
    return_id: Id
    lines: Pieces
    condition: Literal["sellable", "damaged"]
    location: Annotated[
        LongName | None,
        Field(description="where they go into stock; by default where they came from"),
    ] = None


class RetryStep(OrderCommand):
    """Retry stuck steps now: one, or all of them."""

    allowed_in = UNFINISHED | {Status.CANCELLING, Status.CANCELLED, Status.COMPLETED}

    type: Literal["retry-step"] = "retry-step"
    step_id: Id | None = None


class SettleStep(OrderCommand):
    """Settle a step by hand, as the external service would: "the carrier says it is done"."""

    allowed_in = UNFINISHED | {Status.CANCELLING, Status.CANCELLED, Status.COMPLETED}
    client_id_field = "step_id"

    type: Literal["settle-step"] = "settle-step"
    step_id: Id
    outcome: Literal["done", "failed"]
    reason: Text
    reference: Annotated[
        Reference | None,
        Field(description="of an authorisation, or the tracking number of a shipment"),
    ] = None
    location: Annotated[LongName | None, Field(description="where stock was reserved")] = None


class ResolveDiscrepancy(OrderCommand):
    """Close a discrepancy between the order and an external service, once a person settled it."""

    allowed_in = frozenset(Status) - {Status.NEW}

    type: Literal["resolve-discrepancy"] = "resolve-discrepancy"
    discrepancy_id: Id
    reason: Text
    retry: Annotated[
        bool, Field(description="of a failed refund: request it again; else it was paid otherwise")
    ] = False


COMMAND_TYPES: tuple[type[OrderCommand], ...] = tuple(OrderCommand.__subclasses__())
if TYPE_CHECKING:
    AnyCommand = OrderCommand  # A type checker cannot read a union that is computed.
else:
    AnyCommand = Union[COMMAND_TYPES]  # noqa: UP007


@cache
def type_of(command_type: type[OrderCommand]) -> str:
    """The type of a class of commands in URLs and JSON, such as "place-order"."""
    tag: str = command_type.model_fields["type"].default
    return tag


def _derived_id(parent: str, number: int) -> str:
    """The id of a part: its parent's id and its number, or a hash of both if that is too long."""
    plain = f"{parent}.{number}"
    if len(plain) <= ID_CHARACTERS_MAX:
        return plain
    digest = hashlib.sha256(plain.encode()).hexdigest()[:24]
    return f"{parent[: ID_CHARACTERS_MAX - 25]}.{digest}"
