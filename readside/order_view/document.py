"""The document of an order: what the API returns, without its addresses and allowed commands.

The addresses of shipments are in it, encrypted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, SkipValidation
from typing_extensions import TypeAliasType

from orders import entities as domain
from orders import ledger, statuses
from orders.entities import Line
from orders.events import LineCount, client_key
from orders.lifecycle import Decision, Status
from orders.order import Order
from orders.rules.deadlines import next_deadline
from orders.steps import SERVICE_OF_STEP
from readside.order_view import waiting
from readside.order_view.view import DECLINE, HOLD, OrderView

_STATUSES = tuple(status.value for status in Status if status is not Status.NEW)
_DEADLINES = (
    *("draft", "capture", "return-window"),
    *(f"{decision}-answer" for decision in get_args(Decision)),
)
if TYPE_CHECKING:  # A type checker cannot follow literals that are made at runtime.
    OrderStatus = str
    ShipmentStatus = str
    ReturnProgress = str
    DeadlineName = str
    StepType = str
else:  # Each has its name in the OpenAPI document.
    OrderStatus = TypeAliasType("OrderStatus", Literal[_STATUSES])
    ShipmentStatus = TypeAliasType("ShipmentStatus", domain.ShipmentStatus)
    ReturnProgress = TypeAliasType("ReturnProgress", domain.ReturnProgress)
    DeadlineName = TypeAliasType("DeadlineName", Literal[_DEADLINES])
    StepType = TypeAliasType("StepType", Literal[tuple(SERVICE_OF_STEP)])


class Documented(BaseModel):
    """A part of the document; the docstrings of its fields are in the OpenAPI document, too."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class OrderLine(Documented):
    """A line of an order. Amounts are integer minor units, counts are pieces."""

    line_id: str
    sku: str
    title: str
    quantity: int
    unit_price: int
    discount: int
    tax: int
    total: int
    share_of_discounts: int
    """The line's share of the discounts on the whole order; all shares add up to them exactly."""
    reserved: int
    shipped: int
    delivered: int
    cancelled: int
    returned: int


class Discount(Documented):
    """A discount on the whole order. The amount is in minor units of the order's currency."""

    discount_id: str
    amount: int
    reason: str | None


class Note(Documented):
    """A note on the order."""

    note_id: str
    text: str


class Authorisation(Documented):
    """Money that the payment service has promised. Amounts are minor units."""

    authorisation_id: str
    reference: str
    """The payment service's own."""
    amount: int
    """In all, including what was captured."""
    capturable: int
    captured: int
    refunded: int
    capture_by: datetime
    """Until when it can be captured; the order captures what it needs before."""


class Payment(Documented):
    """The payment of an order. Amounts are integer minor units of the order's currency."""

    status: statuses.PaymentStatus
    method: str | None
    authorised: int
    """In total, including what has been captured or voided since."""
    captured: int
    refunded: int
    voided: int
    earned: int
    """Due so far: for shipped or prepaid pieces, less returns and goodwill refunds."""
    capturable: int
    """Authorised, and can still be captured."""
    refundable: int
    """Captured, without refunds, pending refunds and disputed amounts."""
    disputed: int
    """Taken back by the customer's bank, until the chargebacks are decided."""
    refund_pending: int
    """Requested refunds that the payment service has not confirmed yet."""
    decline_reason: str | None
    """Why the payment service declined, while the order awaits another payment."""
    authorisations: list[Authorisation]


class Shipment(Documented):
    """Pieces that are shipped together from one stock location."""

    shipment_id: str
    status: ShipmentStatus
    location: str
    tracking: str | None
    address: Any
    """Where it goes: the address that the carrier was given."""
    lines: list[LineCount]


class Return(Documented):
    """Pieces that a customer returns, and those that were received."""

    return_id: str
    status: ReturnProgress
    reason: str | None
    lines: list[LineCount]
    received: list[LineCount]


class Deadline(Documented):
    """What happens automatically at a time unless a command comes before."""

    name: DeadlineName
    """What happens: the draft expires, the customer's time to decide ends, the authorised money is
    captured, or the time for returns ends."""
    at: datetime


class PendingStep(Documented):
    """A step that an external service has not finished; `reason` says why it is stuck."""

    step_id: str
    type: StepType
    reason: str | None
    since: datetime | None
    """When it was requested; null where that is not known."""
    stuck_since: datetime | None


class Attention(Documented):
    """Something that a person has to settle."""

    kind: str
    """`stuck-step`, `unpaid`, `chargeback`, `orphaned`, or the kind of a discrepancy."""
    reason: str
    remedy: str
    """What to do, such as the command that settles it."""
    step_id: str | None
    type: StepType | None
    """The type of the step that is stuck; null for anything else."""
    discrepancy_id: str | None
    amount: int | None
    since: datetime | None
    """Null for an orphaned order: no event says when its workflow vanished."""


class OrderDocument(Documented):
    """An order. Amounts are integer minor units of `currency`."""

    order_id: str
    version: int
    status: SkipValidation[OrderStatus]
    customer_id: str
    currency: str
    external_reference: str | None
    total: int
    """With the shipping charge, without cancelled pieces."""
    shipping_charge: int
    lines: list[OrderLine]
    discounts: list[Discount]
    notes: list[Note]
    payment: Payment
    fulfilment_status: statuses.FulfilmentStatus
    return_status: statuses.ReturnStatus
    shipments: Sequence[Shipment]
    returns: list[Return]
    awaits: Decision | None
    """The decision that the customer has to make."""
    awaits_since: datetime | None
    hold_reason: str | None
    """Why the order is held; null without a reason."""
    held_since: datetime | None
    missing: list[LineCount]
    """Pieces of a placed order that are to be shipped and not reserved."""
    deadline: Deadline | None
    pending: list[PendingStep]
    """Steps that external services have not finished."""
    needs_attention: list[Attention]
    """What a person has to settle."""
    cancel_reason: str | None
    opened_at: datetime | None
    placed_at: datetime | None
    updated_at: datetime | None


def document(view: OrderView) -> OrderDocument:
    """The document of an order."""
    order, texts, since = view.order, view.texts, view.since
    pending = [
        PendingStep(
            step_id=key,
            type=step.type,
            reason=order.stuck_steps.get(key),
            since=since.get(waiting.step(key)),
            stuck_since=since.get(waiting.stuck(key)),
        )
        for key, step in order.steps.items()
    ]
    deadline = next_deadline(order)
    return OrderDocument(
        order_id=view.order_id,
        version=order.version,
        status=order.status.value,  # That of an order without events is never shown.
        customer_id=order.customer_id,
        currency=order.currency,
        external_reference=order.external_reference,
        total=order.total,
        shipping_charge=order.shipping_charge,
        lines=_lines(order),
        discounts=[
            Discount(
                discount_id=key, amount=d.amount, reason=texts.get(client_key("discount_id", key))
            )
            for key, d in order.discounts.items()
        ],
        notes=[Note(note_id=key, text=texts[client_key("note_id", key)]) for key in order.notes],
        payment=_payment(order, texts),
        fulfilment_status=statuses.fulfilment_status(order),
        return_status=statuses.return_status(order),
        shipments=[_shipment(shipment, texts) for shipment in order.shipments.values()],
        returns=[_return(back, texts) for back in order.returns.values()],
        awaits=order.awaiting,
        awaits_since=since.get(waiting.AWAITS),
        hold_reason=(texts.get(HOLD) or None) if order.status is Status.ON_HOLD else None,
        held_since=since.get(waiting.HELD),
        missing=_pieces(order.missing()) if order.is_priced else [],
        deadline=Deadline(name=deadline.name, at=deadline.at) if deadline else None,
        pending=pending,
        needs_attention=list(_attention(view)),
        cancel_reason=order.cancel_reason,
        opened_at=view.opened_at,
        placed_at=view.placed_at,
        updated_at=view.updated_at,
    )


def needs_attention(order: Order) -> bool:
    """Whether the document lists something that a person has to settle."""
    return any(waiting.settled_by_person(order))


def _attention(view: OrderView) -> Iterator[Attention]:
    order, texts, since = view.order, view.texts, view.since
    for key, reason in order.stuck_steps.items():
        yield Attention(
            kind="stuck-step",
            reason=reason,
            remedy="retry-step, or settle-step",
            step_id=key,
            type=order.steps[key].type,
            discrepancy_id=None,
            amount=None,
            since=since.get(waiting.stuck(key)),
        )
    if amount := statuses.unpaid(order):
        yield Attention(
            kind="unpaid",
            reason="goods were shipped, and their payment is missing",
            remedy="retry-payment, once the customer has another payment method",
            step_id=None,
            type=None,
            discrepancy_id=None,
            amount=amount,
            since=since.get(waiting.UNPAID),
        )
    for key, chargeback in order.chargebacks.items():
        yield Attention(
            kind="chargeback",
            reason=texts[client_key("chargeback_id", key)],
            remedy="answer it at the payment service, which reports its outcome",
            step_id=None,
            type=None,
            discrepancy_id=None,
            amount=chargeback.amount,
            since=since.get(waiting.chargeback(key)),
        )
    for key, discrepancy in order.discrepancies.items():
        yield Attention(
            kind=discrepancy.kind,
            reason=texts[client_key("discrepancy_id", key)],
            remedy="resolve-discrepancy, once it is settled",
            step_id=None,
            type=None,
            discrepancy_id=discrepancy.discrepancy_id,
            amount=discrepancy.amount,
            since=since.get(waiting.discrepancy(key)),
        )


def with_orphan(document: str, reason: str) -> str:
    """The JSON of a document, with the attention that an orphaned order needs: no event says so."""
    shown = json.loads(document)
    attention = Attention(
        kind="orphaned",
        reason=reason,
        remedy="`orderly resume`; a command that changes the order resumes it, too",
        step_id=None,
        type=None,
        discrepancy_id=None,
        amount=None,
        since=None,
    )
    shown["needs_attention"].append(attention.model_dump())
    return json.dumps(shown, separators=(",", ":"))  # As it was.


def _lines(order: Order) -> list[OrderLine]:
    shares = order.discount_shares()
    return [
        _line(line, shares[key], statuses.cancelled_pieces(order, key))
        for key, line in order.lines.items()
    ]


def _line(line: Line, share_of_discounts: int, cancelled: int) -> OrderLine:
    return OrderLine(
        line_id=line.line_id,
        sku=line.sku,
        title=line.title,
        quantity=line.quantity,
        unit_price=line.unit_price,
        discount=line.discount,
        tax=line.tax,
        total=line.total,
        share_of_discounts=share_of_discounts,
        reserved=line.reserved_quantity,
        shipped=line.shipped,
        delivered=line.delivered,
        cancelled=cancelled,
        returned=line.returned,
    )


def _payment(order: Order, texts: Mapping[str, str]) -> Payment:
    return Payment(
        status=statuses.payment_status(order),
        method=order.payment_method,
        authorised=ledger.authorised(order),
        captured=ledger.captured(order),
        refunded=ledger.refunded(order),
        voided=ledger.voided(order),
        earned=ledger.due(order) if order.is_priced else 0,
        capturable=ledger.capturable(order),
        refundable=ledger.refundable(order),
        disputed=ledger.disputed(order),
        refund_pending=ledger.refund_pending(order),
        decline_reason=texts.get(DECLINE) if order.awaiting == "payment" else None,
        authorisations=[
            Authorisation(
                authorisation_id=one.authorisation_id,
                reference=one.reference,
                amount=one.amount,
                capturable=one.capturable,
                captured=one.captured,
                refunded=one.refunded,
                capture_by=one.capture_by,
            )
            for one in order.authorisations.values()
        ],
    )


def _shipment(shipment: domain.Shipment, texts: Mapping[str, str]) -> Shipment:
    return Shipment(
        shipment_id=shipment.shipment_id,
        status=shipment.status,
        location=shipment.location,
        tracking=shipment.tracking,
        address=texts.get(client_key("shipment_id", shipment.shipment_id)),
        lines=_pieces(shipment.lines),
    )


def _return(back: domain.Return, texts: Mapping[str, str]) -> Return:
    return Return(
        return_id=back.return_id,
        status=back.status,
        reason=texts.get(client_key("return_id", back.return_id)),
        lines=_pieces(back.lines),
        received=_pieces(back.received),
    )


def _pieces(counts: Mapping[str, int]) -> list[LineCount]:
    return [LineCount(line_id=key, quantity=n) for key, n in counts.items()]
