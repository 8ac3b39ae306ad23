"""The demo's baskets as recorded orders, without servers: who acts sees the order as it is.

The same baskets under other rules are what the demo would really have come to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from dev.demo.baskets import PACKAGED_BASKETS, Basket, read_baskets
from eventlog.intents import Intent
from orders import commands as c
from orders import steps as o
from orders.decider import Message, decide_all
from orders.order import Order
from orders.policy import Policy
from orders.rules.checks import CommandRejected
from orders.rules.deadlines import next_deadline
from orders.upcasting import stored_data
from rehearsal.child import outcome_of
from rehearsal.recorded import RecordedInput, RecordedOrder
from rehearsal.world import World
from workflows.messages import as_set

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
ENDED = BEGAN + timedelta(days=60)
TICK = timedelta(seconds=1)
ANSWERS_MAX, DEADLINES_MAX = 200, 20


class Shop:
    """One order with its customer, its operators and its services; all of it is recorded."""

    def __init__(self, number: int, basket: Basket) -> None:
        self.order_id = f"ord_{number:04}"
        self.basket = basket
        self.order = Order()
        self.now = BEGAN + timedelta(minutes=number)
        self.inputs: list[RecordedInput] = []
        self._world = World([])

    def tell(self, *messages: Message) -> bool:
        """Sends a batch; returns whether it was accepted."""
        self.now += TICK
        self._world.notice(self.order.steps.values())
        intent = Intent(messages=[*map(as_set, messages)]).model_dump_json(exclude_defaults=True)
        code, facts = None, []
        try:
            decided, self.order = decide_all(messages, self.order, self.now)
            facts = [(e.type, e.schema_version, stored_data(e)) for _, e in decided]
        except CommandRejected as rejected:
            code = rejected.code
        self.inputs.append(RecordedInput(self.now.isoformat(), intent, code, facts))
        return code is None

    def settle(self) -> None:
        """All services answer, until nothing is asked of them."""
        for _ in range(ANSWERS_MAX):
            step = next(iter(self.order.steps.values()), None)
            if step is None:
                return
            self._world.notice([step])
            result = self._world.answer(step, self.order)
            assert result is not None
            self.tell(result)
        raise AssertionError("the order never settles")

    def open(self, method: str | None, prefix: str = "") -> None:
        lines = [line for line in self.basket.lines if line.is_valid]
        self.tell(
            c.OpenOrder(
                customer_id=self.basket.customer_id,
                currency=self.basket.currency,
                external_reference=self.basket.basket_id,
                policy=Policy(),
            ),
            *(
                c.AddItemToOrder(
                    line_id=f"line-{number}",
                    sku=line.sku if number else prefix + line.sku,
                    title=line.title,
                    quantity=line.quantity,
                    unit_price=line.unit_price,
                    discount=line.discount,
                )
                for number, line in enumerate(lines)
            ),
        )
        self.tell(c.PlaceOrder(payment_method=method))
        self.settle()

    def shipments(self, status: str) -> list[str]:
        return [s.shipment_id for s in self.order.shipments.values() if s.status == status]

    def leave(self) -> None:
        for key in self.shipments("planned"):
            self.tell(o.ShipmentDeparted(shipment_id=key, tracking=f"T-{self.order_id}"))
        self.settle()

    def deliver(self) -> None:
        self.leave()
        for key in self.shipments("dispatched"):
            self.tell(o.ShipmentArrived(shipment_id=key))
        self.settle()

    def pass_time(self, days: float) -> None:
        """Deadlines pass, as far as time does."""
        self._pass_until(self.now + timedelta(days=days))

    def end(self) -> None:
        """Time passes until the end of the log."""
        self._pass_until(ENDED)

    def _pass_until(self, until: datetime) -> None:
        for _ in range(DEADLINES_MAX):
            deadline = next_deadline(self.order)
            if deadline is None or deadline.at >= until:
                self.now = until
                return
            self.now = max(self.now, deadline.at)
            self.tell(o.DeadlinePassed(deadline=deadline.name, at=deadline.at))
            self.settle()
        raise AssertionError("deadlines never end")

    def recorded(self) -> RecordedOrder:
        return RecordedOrder(self.order_id, self.inputs)


def delivered(shop: Shop) -> None:
    shop.open("pm_card")
    shop.deliver()


def declined_then_paid(shop: Shop) -> None:
    shop.open("pm_declined")
    shop.tell(c.RetryPayment(method="pm_card"))
    shop.settle()
    shop.deliver()


def declined_and_given_up(shop: Shop) -> None:
    shop.open("pm_declined")
    shop.pass_time(3)


def cancelled(shop: Shop) -> None:
    shop.open("pm_card")
    shop.tell(c.CancelOrder(reason="changed my mind"))
    shop.settle()
    shop.tell(c.AddNote(note_id="late", text="sorry"))


def short(shop: Shop) -> None:
    shop.open("pm_card", prefix="GONE-")
    shop.tell(c.AcceptShortfall())
    shop.settle()
    shop.deliver()


def send_back(shop: Shop) -> None:
    """One piece comes back, and is refunded."""
    pieces = [c.LineQuantity(line_id="line-0", quantity=1)]
    shop.tell(c.RequestReturn(return_id="back", lines=pieces, reason="too large"))
    shop.tell(c.ApproveReturn(return_id="back"))
    shop.tell(
        c.ReceiveReturn(receipt_id="in", return_id="back", lines=pieces, condition="sellable")
    )
    shop.settle()


def returned(shop: Shop) -> None:
    delivered(shop)
    send_back(shop)
    shop.pass_time(40)


def failed_delivery(shop: Shop) -> None:
    shop.open(None)
    shop.leave()
    for key in shop.shipments("dispatched")[:1]:
        shop.tell(o.ShipmentLost(shipment_id=key, goods="lost", reason="a flood"))
    shop.settle()
    shop.tell(c.CancelOrder(reason="too late"))


def goodwill(shop: Shop) -> None:
    delivered(shop)
    tenth = max(1, shop.order.total // 10)
    shop.tell(c.RefundPayment(refund_id="sorry", amount=tenth, reason="it came late"))
    shop.tell(c.RefundPayment(refund_id="more", amount=100_000_000))
    shop.settle()


def amended(shop: Shop) -> None:
    shop.open("pm_card")
    shop.tell(c.AddNote(note_id="bell", text="The bell is broken."))
    shop.tell(c.AddNote(note_id="bell", text="The bell is broken."))
    shop.tell(c.HoldOrder(reason="a question"))
    change = c.ChangeShippingCharge(type="change-shipping-charge", amount=250)
    shop.tell(c.AmendOrder(amendment_id="a1", changes=[change]))
    shop.tell(c.ReleaseOrder())
    shop.settle()
    shop.pass_time(8)


def draft(shop: Shop) -> None:
    shop.tell(c.OpenOrder(customer_id="900", currency="USD", policy=Policy()))
    shop.tell(c.PlaceOrder())
    shop.tell(c.ApplyDiscount(discount_id="welcome", amount=5))
    shop.pass_time(9)


LIVES: tuple[Callable[[Shop], None], ...] = (
    delivered,
    declined_then_paid,
    cancelled,
    short,
    returned,
    failed_delivery,
    goodwill,
    amended,
    declined_and_given_up,
    draft,
)


def demo_orders(count: int) -> list[RecordedOrder]:
    """What the demo's first baskets come to by the rules of this moment."""
    orders = []
    for number, basket in enumerate(read_baskets(PACKAGED_BASKETS, count)):
        shop = Shop(number, basket)
        LIVES[number % len(LIVES)](shop)
        shop.end()
        orders.append(shop.recorded())
    return orders


def differing(recorded: Iterable[RecordedOrder]) -> dict[str, dict[str, object]]:
    """The outcomes of the orders that differ by the rules of this moment."""
    import json

    outcomes = (outcome_of(json.loads(order.line(ENDED))) for order in recorded)
    return {
        outcome["order_id"]: outcome
        for outcome in outcomes
        if {"first", "unreadable", "failure"} & outcome.keys()
    }
