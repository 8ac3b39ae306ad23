"""given(what happened).when(something is asked).then(what follows): how tests of the rules read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest
from pydantic import BaseModel

from eventlog.envelope import Envelope, Metadata
from orders.commands import (
    AddItemToOrder,
    AddNote,
    ApplyDiscount,
    CancelOrder,
    OpenOrder,
    PlaceOrder,
)
from orders.decider import Message, decide, decide_all
from orders.events import (
    DiscountApplied,
    ItemAdded,
    NoteAdded,
    OrderCancelled,
    OrderEvent,
    OrderOpened,
    OrderPlaced,
)
from orders.evolve import fold
from orders.order import Order
from orders.rules.checks import CommandRejected
from orders.steps import (
    AnyStep,
    Authorise,
    Book,
    BookingAccepted,
    Held,
    PaymentApproved,
    Reserve,
    Step,
    StepDone,
    StepResult,
    StockHeld,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

T = TypeVar("T", bound=BaseModel)

# What may be asked, and what then has happened.
open_order = OpenOrder(customer_id="900", currency="USD", external_reference="basket-31198570044")
opened = OrderOpened(customer_id="900", currency="USD", external_reference="basket-31198570044")

add_bagels = AddItemToOrder(
    line_id="bagels",
    sku="1095275",
    title="ROLLS: BAGELS",
    quantity=2,
    unit_price=179,
    discount=29,
    tax=7,
)
bagels_added = ItemAdded(  # 3.36 USD in all.
    line_id="bagels",
    sku="1095275",
    title="ROLLS: BAGELS",
    quantity=2,
    unit_price=179,
    discount=29,
    tax=7,
)
tuna_added = ItemAdded(  # 0.20 USD in all.
    line_id="tuna", sku="1053875", title="TUNA", quantity=1, unit_price=100, discount=80, tax=0
)

apply_welcome = ApplyDiscount(discount_id="welcome", amount=50, reason="your first order")
welcome_applied = DiscountApplied(discount_id="welcome", amount=50, reason="your first order")

add_note = AddNote(note_id="bell", text="The bell is broken, knock.")
note_added = NoteAdded(note_id="bell", text="The bell is broken, knock.")

place = PlaceOrder()
placed = OrderPlaced(total=336)

cancel = CancelOrder(reason="bought elsewhere")
cancelled = OrderCancelled(reason="bought elsewhere")


@dataclass(frozen=True)
class Asked:
    """Commands or results on their way to an order, which will decide on them."""

    order: Order
    commands: tuple[Message, ...]
    now: datetime = NOW

    def then(self, *events: OrderEvent) -> None:
        """Exactly these events follow; none, where what is asked is already so."""
        decided, _ = decide_all(self.commands, self.order, self.now)
        caused = [event for _, event in decided]
        assert caused == list(events), f"\n caused: {caused}\n not:    {list(events)}"

    def then_rejected(
        self, message: str, *, code: str, field: str | None = None, index: int = 0
    ) -> None:
        """A rule says no, in these words."""
        with pytest.raises(CommandRejected) as caught:
            decide_all(self.commands, self.order, self.now)
        no = caught.value
        said, expected = (no.message, no.code, no.field, no.index), (message, code, field, index)
        assert said == expected, f"\n said: {said}\n not:  {expected}"


@dataclass(frozen=True)
class Given:
    """An order with a past."""

    order: Order

    def when(self, *messages: Message, now: datetime = NOW) -> Asked:
        return Asked(self.order, messages, now)

    def having(self, *messages: Message, now: datetime = NOW) -> Given:
        """The order after these commands and results."""
        return Given(decide_all(messages, self.order, now)[1])

    def settled(self) -> Given:
        """The order after all services have accepted all steps."""
        while self.order.steps:
            self = self.having(yes(next(iter(self.order.steps.values()))))
        return self

    def told_yes(self) -> list[type[OrderEvent]]:
        """The types of events that follow while all services accept."""
        kinds: list[type[OrderEvent]] = []
        while self.order.steps:
            answer = yes(next(iter(self.order.steps.values())))
            kinds += [type(event) for event in decide(answer, self.order, NOW)]
            self = self.having(answer)
        return kinds

    def owed(self, kind: type[Step]) -> str:
        """The id of the one step of its kind that is owed."""
        (step_id,) = (key for key, step in self.order.steps.items() if isinstance(step, kind))
        return step_id


def given(*events: OrderEvent) -> Given:
    """An order to which all this has happened."""
    return Given(fold(events))


def yes(step: AnyStep) -> StepResult:
    """The accepting answer; all stock is in the east."""
    match step:
        case Reserve(step_id=key, lines=lines):
            held = [Held(location="EAST", **piece.model_dump()) for piece in lines]
            return StockHeld(step_id=key, held=held)
        case Authorise(step_id=key):
            return PaymentApproved(step_id=key, reference=f"ref-{key}")
        case Book(step_id=key):
            return BookingAccepted(step_id=key, tracking="1Z")
        case _:
            return StepDone(step_id=step.step_id)


def but(message: T, **changes: object) -> T:
    """The same command or event, but for some fields."""
    return type(message).model_validate(message.model_dump() | changes)


LONG_AGO = datetime(2017, 1, 1, 11, 53, 26, tzinfo=UTC)


def published(events: Iterable[OrderEvent], command_id: str = "told-once") -> list[Envelope]:
    """The events as the log holds them, a second apart, all caused by one instruction."""
    told = Metadata(actor="anonymous", command="any", command_id=command_id, payload_hash="hash")
    return [
        Envelope.of(event, version, LONG_AGO + timedelta(seconds=version), told)
        for version, event in enumerate(events, start=1)
    ]
