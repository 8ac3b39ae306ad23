"""Decides which events a command or step result causes. No clock, no I/O, no Temporal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import NamedTuple

from orders import commands as c
from orders.commands import COMMAND_TYPES, OrderCommand
from orders.events import OrderEvent
from orders.evolve import fold
from orders.lifecycle import Decision, Status
from orders.order import Order
from orders.rules.checks import CommandRejected, check_currency, check_totals
from orders.rules.draft import decide_draft
from orders.rules.fulfilment import decide_fulfilment
from orders.rules.no_op import is_no_op
from orders.rules.process import follow_ups
from orders.rules.results import decide_result
from orders.steps import StepResult

Message = OrderCommand | StepResult


class Phase(NamedTuple):
    """The part of an order's state that decides which commands it allows."""

    status: str
    awaiting: Decision | None
    has_policy: bool
    has_steps: bool
    has_stuck_steps: bool
    has_discrepancies: bool


def phase_of(order: Order) -> Phase:
    return Phase(
        status=order.status,
        awaiting=order.awaiting,
        has_policy=order.policy is not None,
        has_steps=bool(order.steps),
        has_stuck_steps=bool(order.stuck_steps),
        has_discrepancies=bool(order.discrepancies),
    )


def allowed_commands(order: Order) -> list[str]:
    """The types of command that the order admits now; each still has rules of its own."""
    return list(commands_in(phase_of(order)))


@cache
def commands_in(phase: Phase) -> tuple[str, ...]:
    """The types of command that an order in this phase admits."""
    return tuple(
        c.type_of(command_type)
        for command_type in COMMAND_TYPES
        if is_allowed(command_type, phase)
        and command_type.decides in (None, phase.awaiting)
        and (command_type.settles is None or getattr(phase, f"has_{command_type.settles}"))
    )


def is_allowed(command_type: type[OrderCommand], phase: Phase) -> bool:
    """Whether the status of an order admits a command."""
    if phase.status not in command_type.allowed_in:
        return False
    # An order that was opened without a policy has no fulfilment.
    has_fulfilment = phase.has_policy or phase.status == Status.NEW
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
    if not is_allowed(type(command), phase_of(order)):
        raise CommandRejected(f"{command.type}: the order is {order.status}", "not-allowed-now")
    events = decide_draft(command, order, now)
    return decide_fulfilment(command, order, now) if events is None else events
