"""What callers add leaves room for what settles and ends the order."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from orders import commands as c
from orders import steps as o
from orders.decider import Message, decide_all
from orders.lifecycle import Status
from orders.order import Order
from orders.policy import Policy
from orders.rules import draft
from tests.support.given import NOW, Given, yes
from tests.support.order_fixtures import passed
from workflows import capacity
from workflows.capacity import is_goods, is_request, shortage, shortage_of_waiting, size_of
from workflows.messages import CommandBatch

SCALE = 20  # The limits are this much lower here, so that an order is soon full.
CUSTOMER, OPERATOR, SERVICE = "customer:900", "operator:ann", "shipping"
LONG = "n" * 1000


@pytest.fixture(autouse=True)
def lower_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in vars(capacity) if name.endswith("_MAX")]:
        monkeypatch.setattr(capacity, name, getattr(capacity, name) // SCALE)
    monkeypatch.setattr(draft, "NOTES_MAX", draft.NOTES_MAX // SCALE)


class Room:
    """An order whose batches are executed only if it has room for them."""

    def __init__(self) -> None:
        self.order = Order()

    def send(self, actor: str, *messages: Message) -> str | None:
        """Executes a batch; returns why it is rejected, if it is."""
        batch = CommandBatch(commands=[*messages], actor=actor, payload_hash="", attempt_id="")
        _, after = decide_all(messages, self.order, NOW)
        full = shortage(batch, after, size_of(after), unpublished=0)
        if full is None:
            self.order = after
        return full and full.code

    def must(self, actor: str, *messages: Message) -> None:
        assert self.send(actor, *messages) is None

    def fill(self, actor: str, messages: Iterator[Message]) -> str:
        """Sends batches of five until one is rejected; returns the code."""
        while True:
            batch = [next(messages) for _ in range(5)]
            if (code := self.send(actor, *batch)) is not None:
                return code

    def settle(self) -> None:
        while self.order.steps:
            self.must(SERVICE, yes(next(iter(self.order.steps.values()))))


def notes() -> Iterator[Message]:
    while True:
        yield c.AddNote(note_id=secrets.token_hex(32), text=LONG)


def cancellations() -> Iterator[Message]:
    while True:
        piece = [c.LineQuantity(line_id="many", quantity=1)]
        yield c.CancelLines(cancellation_id=secrets.token_hex(32), lines=piece, reason=LONG)


def returns() -> Iterator[Message]:
    while True:
        piece = [c.LineQuantity(line_id="many", quantity=1)]
        yield c.RequestReturn(return_id=secrets.token_hex(32), lines=piece, reason=LONG)


def lines() -> Iterator[Message]:
    while True:
        yield c.AddItemToOrder(
            line_id=secrets.token_hex(32),
            sku=secrets.token_hex(32),
            title="t" * 255,
            quantity=1,
            unit_price=1,
        )


def a_draft() -> Room:
    room = Room()
    room.must(OPERATOR, c.OpenOrder(customer_id="900", currency="USD", policy=Policy()))
    many = c.AddItemToOrder(line_id="many", sku="M", title="M", quantity=100_000, unit_price=1)
    room.must(OPERATOR, many)
    return room


def a_full_delivered_order() -> Room:
    """Customers have filled it with notes, cancellations and returns, and operators with lines."""
    room = a_draft()
    assert room.fill(CUSTOMER, notes()) == "too-many-notes"
    assert room.fill(OPERATOR, lines()) == "order-too-large", "customers left room for lines"
    room.must(CUSTOMER, c.PlaceOrder(payment_method="pm_card"))
    room.settle()
    assert room.order.status is Status.CONFIRMED
    assert room.fill(CUSTOMER, cancellations()) == "order-too-large"
    room.settle()
    for key, shipment in room.order.shipments.items():
        if shipment.status == "planned":
            room.must(SERVICE, o.ShipmentDeparted(shipment_id=key))
            room.settle()
            room.must(SERVICE, o.ShipmentArrived(shipment_id=key))
    assert room.fill(CUSTOMER, returns()) == "order-too-large"
    return room


def test_full_order_is_returned_settled_and_completed() -> None:
    room = a_full_delivered_order()
    piece = [c.LineQuantity(line_id="many", quantity=10)]
    room.must(OPERATOR, c.RequestReturn(return_id="by-phone", lines=piece))
    room.must(OPERATOR, c.AddNote(note_id="by-phone", text=LONG))
    room.must(OPERATOR, c.ApproveReturn(return_id="by-phone"))
    receive = c.ReceiveReturn(
        receipt_id="parcel", return_id="by-phone", lines=piece, condition="sellable"
    )
    room.must(OPERATOR, receive)
    room.settle()
    for key in [*room.order.returns][:-1]:
        room.must(OPERATOR, c.RejectReturn(return_id=key))
    _record_and_resolve(room, 10)
    room.order = passed(Given(room.order)).order
    assert room.order.status is Status.COMPLETED
    assert size_of(room.order) < capacity.GROWTH_BYTES_MAX


def test_full_order_is_cancelled() -> None:
    room = a_draft()
    room.fill(CUSTOMER, notes())
    room.fill(OPERATOR, lines())
    room.must(CUSTOMER, c.PlaceOrder(payment_method="pm_card"))
    room.settle()
    room.fill(CUSTOMER, cancellations())
    room.settle()
    room.must(CUSTOMER, c.CancelOrder(reason=LONG))
    _record_and_resolve(room, 10)
    room.settle()
    assert room.order.status is Status.CANCELLED


def _record_and_resolve(room: Room, number: int) -> None:
    for n in range(number):
        room.must(SERVICE, o.ShipmentArrived(shipment_id=f"ghost-{n}-{'x' * 50}"))
    for key in room.order.discrepancies:
        room.must(OPERATOR, c.ResolveDiscrepancy(discrepancy_id=key, reason=LONG))


def test_operators_have_room_that_customers_cannot_fill() -> None:
    room = a_draft()
    assert room.fill(CUSTOMER, notes()) == "too-many-notes"
    assert len(room.order.notes) == capacity.CUSTOMER_NOTES_MAX
    for note in [next(notes()) for _ in range(draft.NOTES_MAX - capacity.CUSTOMER_NOTES_MAX)]:
        room.must(OPERATOR, note)


def test_customers_have_room_that_operators_cannot_fill() -> None:
    room = a_draft()
    assert room.fill(OPERATOR, lines()) == "order-too-large"
    room.must(CUSTOMER, c.AddNote(note_id="bell", text=LONG))
    room.must(CUSTOMER, c.SetShippingAddress(address=f"sealed.{'a' * 400}"))


def test_what_waits_for_the_log_leaves_room_for_what_settles_the_order() -> None:
    def code(message: Message, unpublished: int) -> str | None:
        batch = CommandBatch(commands=[message], actor=CUSTOMER, payload_hash="", attempt_id="")
        full = shortage(batch, a_draft().order, 1000, unpublished)
        return full and full.code

    assert code(c.AddNote(text="x"), 1_300_000 // SCALE) == "log-behind"
    assert code(c.CancelOrder(), 1_300_000 // SCALE) is None
    assert code(o.ShipmentArrived(shipment_id="s"), 1_300_000 // SCALE) is None
    assert code(c.CancelOrder(), 1_700_000 // SCALE) == "log-behind"


def test_what_waits_for_an_order_to_be_reopened_leaves_room_for_the_order() -> None:
    def code(unpublished: int, waiting: int) -> str | None:
        full = shortage_of_waiting(a_draft().order, unpublished // SCALE, waiting // SCALE)
        return full and full.code

    assert code(0, 400_000) is None
    assert code(0, 600_000) == "log-behind"
    assert code(1_200_000, 400_000) is None
    assert code(1_400_000, 400_000) == "log-behind"


@pytest.mark.parametrize("kind", [kind for kind in c.COMMAND_TYPES if kind.grows])
def test_command_that_grows_an_order_adds_to_one_part_of_it(kind: type[c.OrderCommand]) -> None:
    replaces = kind in (c.OpenOrder, c.SetShippingAddress, c.SetBillingAddress)
    assert [is_request(kind), is_goods(kind), replaces].count(True) == 1
