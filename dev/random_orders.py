"""Random orders: commands, results, failures and time, in any order and more than once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Literal, TypedDict

from pydantic import TypeAdapter

from dev.fake_services import FakeServices
from orders import commands as c
from orders import events as e
from orders import ledger
from orders import steps as o
from orders.commands import OrderCommand
from orders.decider import Message, allowed_commands, decide
from orders.events import OrderEvent
from orders.evolve import evolve
from orders.lifecycle import Status
from orders.order import Order
from orders.policy import Policy
from orders.rules.checks import CommandRejected
from orders.rules.deadlines import next_deadline

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVENTS_MAX = 200  # Of one message: follow-ups must come to an end.
ROUNDS_MAX = 200

_ORDER = TypeAdapter(Order)
# Weights of the commands that are allowed; the others have 3.
_WEIGHTS = {
    "cancel-order": 1,
    "hold-order": 1,
    "add-note": 1,
    "set-billing-address": 1,
    "release-order": 12,
    "accept-shortfall": 12,
    "retry-payment": 12,
    "amend-order": 6,
    "create-shipment": 6,
    "cancel-lines": 4,
    "dispatch-shipment": 8,
    "confirm-delivery": 12,
    "approve-return": 8,
    "receive-return": 8,
    "place-order": 6,
}


class RandomOrder:
    """One order and the services that it uses; calls the checks after each event and message."""

    def __init__(
        self,
        after_event: Callable[[Order, OrderEvent], None] = lambda order, event: None,
        after_message: Callable[[RandomOrder], None] = lambda order: None,
    ) -> None:
        self.order = Order()
        self.services = FakeServices()
        self.now: datetime = BEGAN
        self.after_event = after_event
        self.after_message = after_message
        self.events: list[OrderEvent] = []
        self.statuses: set[str] = set()
        self.transitions: list[tuple[Status, Message, Status]] = []
        self.accepted: list[OrderCommand] = []
        """The commands that changed something."""
        self.results: list[o.StepResult] = []
        self.departures: list[o.ShipmentDeparted] = []
        """Reports of the carrier that are still on their way."""
        self.steps: dict[str, o.AnyStep] = {}
        """Every step that there ever was."""
        self.ordered: Counter[str] = Counter()
        """The highest quantity of each line."""
        self.ids = 0

    def send(self, message: Message) -> list[OrderEvent] | None:
        """Sends a command or result, twice; returns its events, or None if it is rejected."""
        try:
            events = decide(message, self.order, self.now)
        except CommandRejected:
            assert isinstance(message, OrderCommand), f"a result was rejected: {message}"
            return None
        assert len(events) <= EVENTS_MAX, f"{message} causes events without end"
        if isinstance(message, OrderCommand) and events:
            assert message.type in allowed_commands(self.order), f"{message} was not offered"
        before = self.order.status
        for event in events:
            self._apply(event)
        if self.order.status is not before:
            self.transitions.append((before, message, self.order.status))
        assert decide(message, self.order, self.now) == [], f"a second {message} changes something"
        if not isinstance(message, OrderCommand):
            self.results.append(message)
        elif events:
            self.accepted.append(message)
        if isinstance(message, c.DispatchShipment) and events:
            lines = dict(self.order.shipments[message.shipment_id].lines)
            self.services.record_dispatch(message.shipment_id, lines)
        self.after_message(self)
        return events

    def _apply(self, event: OrderEvent) -> None:
        self.order = evolve(self.order, event)
        self.events.append(event)
        if isinstance(event, e.ItemAdded | e.ItemQuantityChanged):
            self.ordered[event.line_id] = event.quantity
        elif isinstance(event, e.OrderAmended):
            self.ordered |= Counter({line.line_id: line.quantity for line in event.lines})
        for key, step in self.order.steps.items():
            assert self.steps.setdefault(key, step) == step, "two steps have one id"
        self.statuses.add(self.order.status)
        assert self.order.version == len(self.events)
        self.after_event(self.order, event)

    def start(self, dice: Random) -> None:
        """A draft with a few lines, in most cases placed at once."""
        self.send(c.OpenOrder(customer_id="900", currency="USD", policy=Policy()))
        for number in range(dice.randint(1, 3)):
            self.send(random_line(f"line-{number}", dice))
        if dice.random() < 0.5:
            discount = dice.randint(1, max(1, self.order.total // 2))
            self.send(c.ApplyDiscount(discount_id="welcome", amount=discount))
        if dice.random() < 0.5:
            self.send(c.SetShippingCharge(amount=dice.choice([1, 500])))
        if dice.random() < 0.8:
            self.send(c.PlaceOrder(payment_method="pm_card"))

    def move(self, dice: Random) -> None:
        """One more command, result, failure, deadline or restart."""
        steps = list(self.order.steps.values())
        booked = self.services.booked_shipments()
        repeatable = [command for command in self.accepted if command.client_id_field]
        losable = self.losable_stock()
        moves: list[tuple[int, bool, Callable[[], object]]] = [
            (50, bool(steps), lambda: self.carry_out(dice.choice(steps), dice)),
            (4, bool(steps), lambda: self.fail(dice.choice(steps))),
            (25, True, lambda: self.send(random_command(self, dice))),
            (8, bool(booked), lambda: self.collect(dice.choice(booked))),
            (15, bool(self.departures), lambda: self.report_departure(dice)),
            (3, bool(self.results), lambda: self.send(dice.choice(self.results))),
            (2, bool(repeatable), lambda: self.repeat(dice.choice(repeatable))),
            (
                3,
                bool(self.steps),
                lambda: self.carry_out(dice.choice([*self.steps.values()]), dice),
            ),
            (4, bool(losable), lambda: self.lose(dice.choice(sorted(losable)), dice)),
            (3, True, self.pass_deadline),
            (2, True, self.save_and_load),
        ]
        weights, actions = zip(*((w, act) for w, can, act in moves if can), strict=True)
        dice.choices(actions, weights)[0]()

    def carry_out(self, step: o.AnyStep, dice: Random) -> None:
        """A service carries out a step, perhaps a finished one; its result may be lost."""
        result = self.services.carry_out(step, dice)
        chance = dice.random()
        if chance < 0.8:
            self.send(result)
        elif chance < 0.9:
            self.fail(step)

    def fail(self, step: o.AnyStep) -> None:
        self.send(o.StepFailed(step_id=step.step_id, reason="no answer"))

    def collect(self, shipment_id: str) -> None:
        """The carrier collects a shipment, and reports it later."""
        self.departures.append(self.services.collect(shipment_id))

    def report_departure(self, dice: Random) -> None:
        """A report of the carrier arrives; some arrive several times."""
        departed = dice.choice(self.departures)
        if dice.random() < 0.8:
            self.departures.remove(departed)
        shipment = self.order.shipments[departed.shipment_id]
        # Some carriers do not report the pieces: then it is all that they confirmed.
        parcel = self.services.parcels[departed.shipment_id]
        is_complete = parcel.lines == shipment.confirmed_lines
        self.send(departed.model_copy(update={"lines": None}) if is_complete else departed)

    def repeat(self, command: OrderCommand) -> None:
        """A duplicate of a command with a client id arrives late, and adds nothing."""
        assert not self.send(command)

    def losable_stock(self) -> Counter[tuple[str, str]]:
        """Reserved stock that has not left.

        None while a result of a reservation is on its way: a loss names only location and number.
        """
        steps = self.order.steps.values()
        done = self.services.results
        if any(isinstance(step, o.Reserve) and step.step_id in done for step in steps):
            return Counter()
        left: Counter[tuple[str, str]] = Counter()
        for step in steps:
            if isinstance(step, o.Withdraw):
                left.update({(part.line_id, part.location): part.quantity for part in step.held})
        return self.services.stock - left

    def lose(self, key: tuple[str, str], dice: Random) -> None:
        self.send(self.services.lose(key, dice.randint(1, self.losable_stock()[key])))

    def pass_deadline(self) -> None:
        if (deadline := next_deadline(self.order)) is not None:
            self.now = max(self.now, deadline.at + timedelta(milliseconds=1))
            self.send(o.DeadlinePassed(deadline=deadline.name, at=deadline.at))

    def save_and_load(self) -> None:
        saved = _ORDER.validate_json(_ORDER.dump_json(self.order))
        assert saved == self.order
        self.order = saved

    def settle(self) -> None:
        """From here on, every service does what it is asked to."""
        for _ in range(ROUNDS_MAX):
            if self.departures:
                self.send(self.departures.pop())
            elif self.order.steps:
                self.send(self.services.carry_out(next(iter(self.order.steps.values()))))
            else:
                return
        raise AssertionError(f"never settles: {list(self.order.steps.values())}")

    def finish(self) -> None:
        """People do what is left to do, until the order has ended."""
        for _ in range(ROUNDS_MAX):
            self.settle()
            match self.order.status:
                case Status.COMPLETED | Status.CANCELLED | Status.EXPIRED:
                    return
                case Status.ON_HOLD:
                    self.send(c.ReleaseOrder())
                case Status.AWAITING_CUSTOMER if self.order.awaiting == "payment":
                    self.send(c.RetryPayment(method="pm_good"))
                case Status.AWAITING_CUSTOMER:
                    self.send(c.AcceptShortfall())
                case _:
                    self._move_goods()
        raise AssertionError("never ends")

    def _move_goods(self) -> None:
        """All that is planned leaves, all that has left arrives, and no return is accepted."""
        for back in self.order.returns.values():
            if any(back.outstanding.values()):
                self.send(c.RejectReturn(return_id=back.return_id))
        for key, shipment in self.order.shipments.items():
            if shipment.status == "planned":
                self.send(self.services.collect(key))
                return
            if shipment.status == "dispatched":
                self.send(c.ConfirmDelivery(shipment_id=key))
                return
        self.pass_deadline()

    def new_id(self) -> str:
        self.ids += 1
        return f"id-{self.ids}"


def random_line(line_id: str, dice: Random) -> c.AddItemToOrder:
    return c.AddItemToOrder(line_id=line_id, sku=line_id.upper(), title="A THING", **terms(dice))


class Terms(TypedDict):
    quantity: int
    unit_price: int
    discount: int
    tax: int


def terms(dice: Random) -> Terms:
    """Odd amounts, so that shares have remainders."""
    return {
        "quantity": dice.randint(1, 4),
        "unit_price": dice.choice([0, 7, 100, 333]),
        "discount": dice.choice([0, 0, 5]),
        "tax": dice.choice([0, 3, 10]),
    }


def random_command(order: RandomOrder, dice: Random) -> OrderCommand:
    """In most cases one that the order allows, with values that make sense."""
    types = list(_MAKERS)
    if dice.random() < 0.9:
        types = [t for t in allowed_commands(order.order) if t in _MAKERS] or types
    weights = [_WEIGHTS.get(t, 3) for t in types]
    while True:
        (chosen,) = dice.choices(types, weights)
        if (command := _MAKERS[chosen](order, dice)) is not None:
            return command


def _line_id(order: RandomOrder, dice: Random) -> str:
    return dice.choice([*order.order.lines, "line-0"])


def _change_quantity(order: RandomOrder, dice: Random) -> OrderCommand:
    return c.ChangeItemQuantity(line_id=_line_id(order, dice), quantity=dice.randint(1, 6))


def _remove_discount(order: RandomOrder, dice: Random) -> OrderCommand:
    return c.RemoveDiscount(discount_id=dice.choice([*order.order.discounts, "welcome"]))


def _capture(order: RandomOrder, dice: Random) -> OrderCommand:
    most = max(1, ledger.to_capture(order.order))
    amount = dice.choice([None, dice.randint(1, most)])
    return c.CapturePayment(capture_id=order.new_id(), amount=amount)


def _refund(order: RandomOrder, dice: Random) -> OrderCommand:
    amount = dice.randint(1, max(1, ledger.refundable(order.order)))
    return c.RefundPayment(refund_id=order.new_id(), amount=amount, reason="sorry")


def _cancel_lines(order: RandomOrder, dice: Random) -> OrderCommand | None:
    lines = random_pieces(order.order.unshipped(), dice)
    return c.CancelLines(cancellation_id=order.new_id(), lines=lines) if lines else None


def _create_shipment(order: RandomOrder, dice: Random) -> OrderCommand | None:
    reserved = {key: line.reserved_quantity for key, line in order.order.lines.items()}
    lines = random_pieces(reserved, dice)
    return c.CreateShipment(shipment_id=order.new_id(), lines=lines) if lines else None


def _dispatch(order: RandomOrder, dice: Random) -> OrderCommand | None:
    key = _any(order.order.shipments, dice)
    return c.DispatchShipment(shipment_id=key, tracking="T1") if key else None


def _confirm_delivery(order: RandomOrder, dice: Random) -> OrderCommand | None:
    key = _any(order.order.shipments, dice)
    return c.ConfirmDelivery(shipment_id=key) if key else None


def _report_failure(order: RandomOrder, dice: Random) -> OrderCommand | None:
    key = _any(order.order.shipments, dice)
    fields = {"shipment_id": key, "goods": dice.choice(["lost", "returned"])}
    return c.ReportDeliveryFailure.model_validate(fields) if key else None


def _request_return(order: RandomOrder, dice: Random) -> OrderCommand | None:
    delivered = {key: n.delivered - n.returned for key, n in order.order.lines.items()}
    lines = random_pieces(delivered, dice)
    return c.RequestReturn(return_id=order.new_id(), lines=lines) if lines else None


def _approve_return(order: RandomOrder, dice: Random) -> OrderCommand | None:
    key = _any(order.order.returns, dice)
    return c.ApproveReturn(return_id=key) if key else None


def _reject_return(order: RandomOrder, dice: Random) -> OrderCommand | None:
    key = _any(order.order.returns, dice)
    return c.RejectReturn(return_id=key) if key else None


def _receive_return(order: RandomOrder, dice: Random) -> OrderCommand | None:
    key = _any(order.order.returns, dice)
    lines = random_pieces(order.order.returns[key].outstanding, dice) if key else []
    if not lines:
        return None
    condition: Literal["sellable", "damaged"] = "sellable" if dice.random() < 0.5 else "damaged"
    return c.ReceiveReturn(
        receipt_id=order.new_id(), return_id=key, lines=lines, condition=condition
    )


def _amend(order: RandomOrder, dice: Random) -> OrderCommand:
    return c.AmendOrder(amendment_id=order.new_id(), changes=[_change(order, dice)])


def _change(order: RandomOrder, dice: Random) -> c.Change:
    line_id = _line_id(order, dice)
    match dice.randint(0, 5):
        case 0:
            return c.AddLine(line_id=order.new_id(), sku="NEW", title="ANOTHER", **terms(dice))
        case 1:
            return c.RemoveLine(line_id=line_id)
        case 2:
            return c.ChangeShippingCharge(amount=dice.choice([0, 250, 900]))
        case 3:
            return c.ChangeLine(line_id=line_id, unit_price=dice.choice([1, 50, 400]))
        case _:
            return c.ChangeLine(line_id=line_id, quantity=dice.randint(1, 6))


def _any(entries: Mapping[str, object], dice: Random) -> str:
    return dice.choice(list(entries)) if entries else ""


def random_pieces(most: Mapping[str, int], dice: Random) -> list[c.LineQuantity]:
    """Some of these pieces, of one line or of several."""
    there = {key: n for key, n in most.items() if n > 0}
    chosen = dice.sample(sorted(there), dice.randint(1, len(there))) if there else []
    return [c.LineQuantity(line_id=key, quantity=dice.randint(1, there[key])) for key in chosen]


Maker = Callable[[RandomOrder, Random], OrderCommand | None]
_MAKERS: dict[str, Maker] = {
    "add-item-to-order": lambda order, dice: random_line(order.new_id(), dice),
    "change-item-quantity": _change_quantity,
    "remove-item-from-order": lambda order, d: c.RemoveItemFromOrder(line_id=_line_id(order, d)),
    "apply-discount": lambda order, dice: c.ApplyDiscount(
        discount_id=order.new_id(), amount=dice.choice([1, 10])
    ),
    "remove-discount": _remove_discount,
    "set-shipping-charge": lambda _, dice: c.SetShippingCharge(amount=dice.choice([0, 250])),
    "add-note": lambda order, _: c.AddNote(note_id=order.new_id(), text="ring twice"),
    "set-shipping-address": lambda _, dice: c.SetShippingAddress(
        address=f"sealed.{dice.randint(1, 3)}"
    ),
    "set-billing-address": lambda _, dice: c.SetBillingAddress(
        address=f"sealed.{dice.randint(1, 3)}"
    ),
    "place-order": lambda _, dice: c.PlaceOrder(payment_method=dice.choice([None, "pm_card"])),
    "hold-order": lambda *_: c.HoldOrder(),
    "release-order": lambda *_: c.ReleaseOrder(),
    "cancel-order": lambda *_: c.CancelOrder(reason="bought elsewhere"),
    "accept-shortfall": lambda *_: c.AcceptShortfall(),
    "retry-payment": lambda _, dice: c.RetryPayment(method=dice.choice(["pm_card", "pm_other"])),
    "retry-step": lambda order, d: c.RetryStep(step_id=d.choice([None, *order.order.steps])),
    "capture-payment": _capture,
    "refund-payment": _refund,
    "cancel-lines": _cancel_lines,
    "create-shipment": _create_shipment,
    "dispatch-shipment": _dispatch,
    "confirm-delivery": _confirm_delivery,
    "report-delivery-failure": _report_failure,
    "request-return": _request_return,
    "approve-return": _approve_return,
    "reject-return": _reject_return,
    "receive-return": _receive_return,
    "amend-order": _amend,
}
