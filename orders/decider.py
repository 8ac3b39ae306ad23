"""Decides which events a command or step result causes. No clock, no I/O, no Temporal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from orders import commands as c
from orders.commands import COMMAND_TYPES, OrderCommand
from orders.events import OrderEvent
from orders.evolve import fold
from orders.lifecycle import Status
from orders.order import Order
from orders.rules.checks import CommandRejected, check_currency, check_totals
from orders.rules.draft import decide_draft
from orders.rules.fulfilment import decide_fulfilment
from orders.rules.no_op import is_no_op
from orders.rules.offers import missing_for
from orders.rules.process import follow_ups
from orders.rules.results import decide_result
from orders.steps import StepResult

Message = OrderCommand | StepResult


def allowed_commands(order: Order) -> list[str]:
    """The types of command of which the order would accept some payload now."""
    return [c.type_of(each) for each in COMMAND_TYPES if why_not(each, order) is None]


def why_not(command_type: type[OrderCommand], order: Order) -> str | None:
    """Why the order would accept no payload of a command now; None if it would accept some."""
    if not is_allowed(command_type, order):
        return f"the order is {order.status}"
    return missing_for(command_type, order)


def is_allowed(command_type: type[OrderCommand], order: Order) -> bool:
    """Whether the status of an order admits a command."""
    if order.status not in command_type.allowed_in:
        return False
    # An order that was opened without a policy has no fulfilment.
    has_fulfilment = order.policy is not None or order.status is Status.NEW
    return has_fulfilment or Status.DRAFT in command_type.allowed_in


def decide(message: Message, order: Order, now: datetime) -> list[OrderEvent]:
    """The events of a command or result, and those that the order adds by itself: none for a no-op.

    Raises CommandRejected if a rule rejects the command.
    """
    return _decide(message, order, now)[0]


def decide_all(
    messages: Sequence[Message], order: Order, now: datetime
) -> tuple[list[tuple[Message, OrderEvent]], Order]:
    """Decides on several messages in turn, each on the order after the ones before; all or nothing.

    Returns each event with the message that caused it, and the order after them. The `index` of a
    CommandRejected is that of the rejected command.
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
    if isinstance(message, OrderCommand):
        events = _decide_command(message, order, now)
    else:
        events = decide_result(message, order, now)
    if not events:
        return [], order
    after = fold(events, order)
    if isinstance(message, OrderCommand):
        check_totals(after, "amount" if isinstance(message, c.ApplyDiscount) else None)
    more, after = follow_ups(after)
    return [*events, *more], after


def _decide_command(command: OrderCommand, order: Order, now: datetime) -> list[OrderEvent]:
    check_currency(command, order)
    if is_no_op(command, order):
        return []
    if not is_allowed(type(command), order):
        raise CommandRejected(
            f"{command.type} is not allowed while the order is {order.status}", "not-allowed-now"
        )
    events = decide_draft(command, order, now)
    return decide_fulfilment(command, order, now) if events is None else events
