"""What an order may be asked when, and what follows: no clock, no I/O and no Temporal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from orders import commands as c
from orders.commands import CLIENT_ID_FIELDS, OrderCommand
from orders.events import OrderEvent
from orders.evolve import fold
from orders.money import TOTAL_MAX, formatted
from orders.order import Discount, Line, Order, Status
from orders.rules.checks import CommandRejected, fingerprint
from orders.rules.draft import decide_draft
from orders.rules.fulfilment import decide_fulfilment
from orders.rules.process import follow_ups
from orders.rules.results import decide_result
from orders.steps import StepResult

Message = OrderCommand | StepResult

_EDITING: tuple[type[OrderCommand], ...] = (
    c.AddItemToOrder,
    c.ChangeItemQuantity,
    c.RemoveItemFromOrder,
    c.ApplyDiscount,
    c.RemoveDiscount,
    c.SetShippingCharge,
)
_ALWAYS: tuple[type[OrderCommand], ...] = (c.AddNote, c.SetShippingAddress, c.SetBillingAddress)
_PLACED: tuple[type[OrderCommand], ...] = (
    *_ALWAYS,
    c.HoldOrder,
    c.CancelOrder,
    c.CancelLines,
    c.AmendOrder,
    c.RetryStep,
)
_AFTER_DISPATCH: tuple[type[OrderCommand], ...] = (
    c.RefundPayment,
    c.ConfirmDelivery,
    c.ReportDeliveryFailure,
    c.RequestReturn,
    c.ApproveReturn,
    c.RejectReturn,
    c.ReceiveReturn,
)
ALLOWED: Mapping[Status, tuple[type[OrderCommand], ...]] = {
    Status.NEW: (c.OpenOrder,),
    Status.DRAFT: (*_EDITING, *_ALWAYS, c.PlaceOrder, c.CancelOrder),
    Status.PLACED: _PLACED,
    Status.AWAITING_CUSTOMER: (*_PLACED, c.AcceptShortfall, c.RetryPayment, *_AFTER_DISPATCH),
    Status.CONFIRMED: (
        *_PLACED,
        c.CapturePayment,
        c.CreateShipment,
        c.DispatchShipment,
        *_AFTER_DISPATCH,
    ),
    Status.ON_HOLD: (
        *_ALWAYS,
        c.ReleaseOrder,
        c.CancelOrder,
        c.CancelLines,
        c.RetryStep,
        *_AFTER_DISPATCH,
    ),
    Status.CANCELLING: (c.AddNote, c.RetryStep),
    Status.COMPLETED: (c.AddNote, c.RefundPayment, c.RetryStep),
    Status.CANCELLED: (c.AddNote,),
    Status.EXPIRED: (c.AddNote,),
}
# An order that was opened before there was any fulfilment goes on as it began.
_WITHOUT_POLICY: tuple[type[OrderCommand], ...] = (*_EDITING, *_ALWAYS, c.PlaceOrder, c.CancelOrder)
_ONLY_WHEN_AWAITED: Mapping[type[OrderCommand], str] = {
    c.AcceptShortfall: "shortfall",
    c.RetryPayment: "payment",
}
_GOING_ON = frozenset({Status.PLACED, Status.AWAITING_CUSTOMER, Status.CONFIRMED})
_AFTER_PLACING = _GOING_ON | {Status.ON_HOLD, Status.COMPLETED}
_RELEASED = _GOING_ON | {Status.CANCELLING, Status.CANCELLED, Status.COMPLETED}


def allowed_commands(order: Order) -> list[str]:
    """The types of command that the order admits now; each still has rules of its own."""
    return [
        c.type_of(command)
        for command in _allowed_types(order)
        if _ONLY_WHEN_AWAITED.get(command, order.awaiting) == order.awaiting
    ]


def _allowed_types(order: Order) -> Sequence[type[OrderCommand]]:
    admitted = ALLOWED[order.status]
    if order.policy is not None or order.status is Status.NEW:
        return admitted
    return [command for command in admitted if command in _WITHOUT_POLICY]


def decide(message: Message, order: Order, now: datetime) -> list[OrderEvent]:
    """The events that a command or result causes: none if it is already so.

    Raises CommandRejected if a rule says no. What the order then does by itself comes with it.
    """
    return _decide(message, order, now)[0]


def decide_all(
    messages: Sequence[Message], order: Order, now: datetime
) -> tuple[list[tuple[Message, OrderEvent]], Order]:
    """Several commands, each deciding on what the ones before it did; all or nothing.

    Returns each event beside the command that caused it, and the order after them. A
    CommandRejected says by its `index` which command was refused.
    """
    decided: list[tuple[Message, OrderEvent]] = []
    for index, message in enumerate(messages):
        try:
            events, order = _decide(message, order, now)
        except CommandRejected as rejected:
            rejected.index = index
            raise
        decided += [(message, event) for event in events]
    return decided, order


def _decide(message: Message, order: Order, now: datetime) -> tuple[list[OrderEvent], Order]:
    """The events that a message causes, and the order after them."""
    if isinstance(message, StepResult):
        events = decide_result(message, order, now)
        after = fold(events, order)
    else:
        events, after = _decide_command(message, order, now)
    if not events:
        return [], order
    more, after = follow_ups(after)
    return [*events, *more], after


def _decide_command(
    command: OrderCommand, order: Order, now: datetime
) -> tuple[list[OrderEvent], Order]:
    _check_currency(command, order)
    if is_no_op(command, order):
        return [], order
    if type(command) not in _allowed_types(order):
        raise CommandRejected(f"{command.type}: the order is {order.status}", "not-allowed-now")
    events = decide_draft(command, order, now)
    if events is None:
        events = decide_fulfilment(command, order, now)
    after = fold(events, order)
    _check_totals(after, "amount" if isinstance(command, c.ApplyDiscount) else None)
    return events, after


def is_no_op(command: OrderCommand, order: Order) -> bool:
    match command:
        case c.OpenOrder():
            return (order.customer_id, order.currency, order.external_reference) == (
                command.customer_id,
                command.currency,
                command.external_reference,
            )
        case c.AddItemToOrder(line_id=line_id):
            return line_id in order.lines and order.lines[line_id].terms == Line.of(command).terms
        case c.ChangeItemQuantity(line_id=line_id, quantity=quantity):
            return line_id in order.lines and order.lines[line_id].quantity == quantity
        case c.RemoveItemFromOrder(line_id=line_id):
            return line_id in order.removed_lines
        case c.RemoveDiscount(discount_id=discount_id):
            return discount_id in order.removed_discounts
        case c.ApplyDiscount(discount_id=discount_id, amount=amount, reason=reason):
            return order.discounts.get(discount_id) == Discount(discount_id, amount, reason)
        case c.AddNote(note_id=note_id, text=text):
            return order.notes.get(note_id) == text
        case c.SetShippingCharge(amount=amount):
            return order.status is Status.DRAFT and order.shipping_charge == amount
        case c.SetShippingAddress(address=address):
            return order.shipping_address == address
        case c.SetBillingAddress(address=address):
            return order.billing_address == address
        case c.PlaceOrder(payment_method=method):
            return order.status in _AFTER_PLACING and method in (None, order.payment_method)
        case c.HoldOrder():
            return order.status is Status.ON_HOLD
        case c.ReleaseOrder():
            return order.policy is not None and order.status in _RELEASED
        case c.CancelOrder():
            return order.status in (Status.CANCELLING, Status.CANCELLED)
        case c.AcceptShortfall():
            return order.shortfall_accepted and order.awaiting != "shortfall"
        case c.RetryPayment(method=method):
            return (
                order.status in _GOING_ON
                and order.awaiting != "payment"
                and order.payment_method == method
            )
        case c.DispatchShipment(shipment_id=key):
            return _status_of(key, order) in ("dispatched", "delivered", "failed")
        case c.ConfirmDelivery(shipment_id=key):
            return _status_of(key, order) == "delivered"
        case c.ReportDeliveryFailure(shipment_id=key):
            return _status_of(key, order) == "failed"
        case c.ApproveReturn(return_id=key):
            return key in order.returns and order.returns[key].status in ("approved", "received")
        case c.RejectReturn(return_id=key):
            return key in order.returns and order.returns[key].status == "rejected"
        case c.RetryStep(step_id=one):
            known = one is None or one in order.steps
            return (
                order.status is not Status.NEW
                and known
                and not (order.stuck_steps if one is None else one in order.stuck_steps)
            )
        case _:
            return _is_repeat(command, order)


def _is_repeat(command: OrderCommand, order: Order) -> bool:
    """Whether this very command came before; another one under its id is refused."""
    field = CLIENT_ID_FIELDS[type(command)]
    own_id = getattr(command, field)
    known = order.client_ids.get(f"{field.removesuffix('_id')}:{own_id}")
    if known is not None and known != fingerprint(command):
        raise CommandRejected(
            f"{own_id} is already there, with other content", "id-already-used", field
        )
    return known is not None


def _status_of(shipment_id: str, order: Order) -> str | None:
    shipment = order.shipments.get(shipment_id)
    return shipment.status if shipment else None


def _check_currency(command: OrderCommand, order: Order) -> None:
    match command:
        case (
            c.AddItemToOrder(currency=str(currency))
            | c.ApplyDiscount(currency=str(currency))
            | c.SetShippingCharge(currency=str(currency))
        ):
            if currency != order.currency and order.status is not Status.NEW:
                raise CommandRejected(
                    f"the order is in {order.currency}, not {currency}",
                    "currency-mismatch",
                    "currency",
                )


def _check_totals(order: Order, field: str | None) -> None:
    subtotal = order.subtotal
    if subtotal + order.shipping_charge > TOTAL_MAX:
        raise CommandRejected(f"an order's lines come to {TOTAL_MAX:,} at most", "total-too-large")
    total = subtotal - order.discounted
    if total < 0:
        raise CommandRejected(
            f"the discounts make the order {formatted(total, order.currency)}; "
            "it cannot be negative",
            "discounts-exceed-total",
            field,
        )
