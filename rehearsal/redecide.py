"""Decides again the inputs of an order, by the rules of the checkout that is imported.

As long as every decision is as it was recorded, all of it is factual. From the first that is not,
the order is imagined: it gets the commands that were sent at their times, the recorded answers to
steps of the same kind and content, and answers of simulators to all other steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from field_errors import words_for
from orders.commands import AnyCommand, OrderCommand
from orders.decider import Message, decide_all
from orders.events import OrderEvent
from orders.evolve import evolve
from orders.order import Order
from orders.rules.checks import CommandRejected
from orders.rules.deadlines import next_deadline
from orders.steps import DeadlinePassed, StepResult
from orders.upcasting import UnreadableEvent, restore, stored_data, upcast

Json = dict[str, Any]
Fact = tuple[str, int, Json]
"""Type, schema version and data of an event, as the log has them."""

TICK = timedelta(milliseconds=1)
LATE = timedelta(minutes=1)
"""A deadline that passed so long before the next input passed in fact, unless no worker ran."""
RECORDED_WITHIN = timedelta(hours=1)
"""What happened is in the log so soon, unless Postgres was unavailable or no worker ran."""


class Received(BaseModel):
    """The messages of an intent, as this checkout reads them."""

    model_config = ConfigDict(extra="ignore")

    messages: list[Annotated[AnyCommand | StepResult, Field(discriminator="type")]]


_RECEIVED = TypeAdapter(Received)


class Input(NamedTuple):
    """One input of an order, and what it came to."""

    at: datetime
    intent: str | None
    """Its JSON; None if the journal lacks it."""
    code: str | None
    """Of its rejection."""
    events: Sequence[Fact]


class Decision(NamedTuple):
    """What rules decide on one input."""

    messages: Sequence[Message]
    events: list[OrderEvent]
    order: Order
    code: str | None

    def facts(self) -> list[Fact]:
        return [(event.type, event.schema_version, stored_data(event)) for event in self.events]

    def is_as(self, given: Input) -> bool:
        """Whether it is what was recorded."""
        if self.code != given.code or len(self.events) != len(given.events):
            return False
        return all(map(_same, self.events, given.events))


class Overdue(NamedTuple):
    """The passing of a deadline that was not recorded, and what rules decide on it."""

    given: Input
    decision: Decision


class Unreadable(Exception):
    """A recorded input or event that cannot be read; the message says which and why."""


def decide(given: Input, order: Order) -> Decision:
    """Decides on a recorded input; raises Unreadable."""
    return decide_on(read(given), order, given.at)


def decide_on(messages: Sequence[Message], order: Order, now: datetime) -> Decision:
    """Decides on messages together, as on a batch."""
    try:
        decided, after = decide_all(messages, order, now)
    except CommandRejected as rejected:
        return Decision(messages, [], order, rejected.code)
    return Decision(messages, [event for _, event in decided], after, None)


def read(given: Input) -> Sequence[Message]:
    """The messages of a recorded input; raises Unreadable."""
    try:
        return _RECEIVED.validate_json(given.intent or "").messages
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][2:]) or "its type"
        raise Unreadable(
            f"what came at {given.at:%Y-%m-%d %H:%M:%S}: {where} {words_for(first)[1]}"
        ) from None


def apply(facts: Sequence[Fact], order: Order) -> Order:
    """The order after recorded events; raises Unreadable."""
    for type_, version, data in facts:
        try:
            order = evolve(order, restore(type_, version, data))
        except UnreadableEvent as error:
            raise Unreadable(str(error)) from None
    return order


def pass_overdue(order: Order, before: datetime, rest: Sequence[Input]) -> Overdue | None:
    """The passing of a deadline that these rules set before a time, and that none recorded."""
    deadline = next_deadline(order)
    if deadline is None or deadline.at > before:
        return None
    for later in rest:
        if later.intent is not None and '"deadline-passed"' in later.intent:
            passed = read(later)[0]
            if isinstance(passed, DeadlinePassed) and (passed.deadline, passed.at) == deadline:
                return None  # It came late, as after an outage.
    passing = DeadlinePassed(deadline=deadline.name, at=deadline.at)
    unrecorded = Input(deadline.at + TICK, None, None, ())
    decision = decide_on([passing], order, unrecorded.at)
    return Overdue(unrecorded, decision) if decision.events else None


def missed_deadline(facts: Sequence[Fact], until: datetime) -> bool:
    """Whether a deadline of these rules should have passed after all facts: no worker ran."""
    try:
        return pass_overdue(apply(facts, Order()), until - RECORDED_WITHIN, ()) is not None
    except Unreadable:
        return False


def change(given: Input, decision: Decision) -> Json | None:
    """How a command is accepted that was rejected, or the other way round."""
    if bool(given.code) == bool(decision.code) or not is_command(decision.messages):
        return None
    return {
        "at": given.at.isoformat(),
        "commands": names_of(decision.messages),
        "types": sorted({message.type for message in decision.messages}),
        "now": "rejected" if decision.code else "accepted",
        "code": decision.code or given.code or "",
    }


def names_of(messages: Sequence[Message]) -> str:
    """The types of messages, as in "open-order, add-item-to-order ×3"."""
    counts: dict[str, int] = {}
    for message in messages:
        counts[message.type] = counts.get(message.type, 0) + 1
    return ", ".join(name if n == 1 else f"{name} ×{n}" for name, n in counts.items())


def is_command(messages: Sequence[Message]) -> bool:
    return isinstance(messages[0], OrderCommand)


def _same(event: OrderEvent, fact: Fact) -> bool:
    type_, version, data = fact
    if event.type != type_:
        return False
    if version != event.schema_version:
        try:
            data = upcast(type_, version, data)
        except UnreadableEvent:
            return False
    return stored_data(event) == data
