"""Random lives of orders: commands, answers, failures and time, in any order and more than once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from random import Random
from typing import TypedDict

from pydantic import TypeAdapter

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
from tests.support.fake_services import World
from tests.support.given import NOW

EVENTS_MAX = 200  # That one message may cause: follow-ups must come to an end.
ROUNDS_MAX = 200

_ORDER = TypeAdapter(Order)
# How likely a command is where it is allowed; others are 3.
_LIKELY = {
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
    "place-order": 12,
}


class Life:
    """One order and its world."""

    def __init__(
        self,
        after_event: Callable[[Order, OrderEvent], None],
        after_message: Callable[[Life], None],
    ) -> None:
        self.order = Order()
        self.world = World()
        self.now: datetime = NOW
        self.after_event = after_event
        self.after_message = after_message
        self.events: list[OrderEvent] = []
        self.statuses: set[str] = set()
        self.ways: list[tuple[Status, Message, Status]] = []  # From one status to another.
        self.obeyed: list[OrderCommand] = []  # The commands that changed something.
        self.heard: list[o.StepResult] = []
        self.post: list[o.ShipmentDeparted] = []  # Told by the carrier, and still on its way.
        self.calls: dict[str, o.AnyStep] = {}  # Every step that was ever owed.
        self.ordered: Counter[str] = Counter()  # The most pieces that were ever asked for, by line.
        self.named = 0

    def tell(self, message: Message) -> list[OrderEvent] | None:
        """Sends a command or result, twice; returns what it caused, or None if it is refused."""
        try:
            events = decide(message, self.order, self.now)
        except CommandRejected:
            assert isinstance(message, OrderCommand), f"a result is never refused: {message}"
            return None
        assert len(events) <= EVENTS_MAX, f"{message} causes events without end"
        before = self.order.status
        for event in events:
            self.order = evolve(self.order, event)
            self.events.append(event)
            if isinstance(event, e.ItemAdded | e.ItemQuantityChanged):
                self.ordered[event.line_id] = event.quantity
            elif isinstance(event, e.OrderAmended):
                self.ordered |= Counter({line.line_id: line.quantity for line in event.lines})
            for key, step in self.order.steps.items():
                assert self.calls.setdefault(key, step) == step, "a step's id names two of them"
            self.statuses.add(self.order.status)
            assert self.order.version == len(self.events)
            self.after_event(self.order, event)
        if self.order.status is not before:
            self.ways.append((before, message, self.order.status))
        assert decide(message, self.order, self.now) == [], f"a second {message} changes something"
        if not isinstance(message, OrderCommand):
            self.heard.append(message)
        elif events:
            self.obeyed.append(message)
        if isinstance(message, c.DispatchShipment) and events:
            lines = dict(self.order.shipments[message.shipment_id].lines)
            self.world.was_sent(message.shipment_id, lines)
        self.after_message(self)
        return events

    def begin(self, dice: Random) -> None:
        """A draft with a few lines, mostly placed at once."""
        self.tell(c.OpenOrder(customer_id="900", currency="USD", policy=Policy()))
        for number in range(dice.randint(1, 3)):
            self.tell(a_line(f"line-{number}", dice))
        if dice.random() < 0.5:
            discount = dice.randint(1, max(1, self.order.total // 2))
            self.tell(c.ApplyDiscount(discount_id="welcome", amount=discount))
        if dice.random() < 0.5:
            self.tell(c.SetShippingCharge(amount=dice.choice([1, 500])))
        if dice.random() < 0.9:
            self.tell(c.PlaceOrder(payment_method="pm_card"))

    def go_on(self, dice: Random) -> None:
        """One more thing happens, or does not."""
        steps = list(self.order.steps.values())
        booked = [key for key, parcel in self.world.parcels.items() if parcel.status == "booked"]
        named = [k for k in self.obeyed if k.client_id_field]
        shelf = self.can_be_lost()
        likely: list[tuple[int, bool, Callable[[], object]]] = [
            (50, bool(steps), lambda: self.answer(dice.choice(steps), dice)),
            (4, bool(steps), lambda: self.fail(dice.choice(steps))),
            (25, True, lambda: self.tell(some_command(self, dice))),
            (8, bool(booked), lambda: self.post.append(self.world.leave(dice.choice(booked)))),
            (15, bool(self.post), lambda: self.deliver_post(dice)),
            (3, bool(self.heard), lambda: self.tell(dice.choice(self.heard))),
            (2, bool(named), lambda: self.repeat(dice.choice(named))),
            (3, bool(self.calls), lambda: self.answer(dice.choice([*self.calls.values()]), dice)),
            (4, bool(shelf), lambda: self.lose(dice.choice(sorted(shelf)), dice)),
            (3, True, self.pass_deadline),
            (2, True, self.save_and_load),
        ]
        possible = [(weight, act) for weight, can, act in likely if can]
        weights, acts = zip(*possible, strict=True)
        dice.choices(acts, weights)[0]()

    def answer(self, step: o.AnyStep, dice: Random) -> None:
        """The world does a step, maybe long after it was given up; the answer may be lost."""
        result = self.world.carry_out(step, dice)
        fate = dice.random()
        if fate < 0.8:
            self.tell(result)
        elif fate < 0.9:
            self.fail(step)

    def fail(self, step: o.AnyStep) -> None:
        self.tell(o.StepFailed(step_id=step.step_id, reason="no answer"))

    def deliver_post(self, dice: Random) -> None:
        letter = dice.choice(self.post)
        if dice.random() < 0.8:
            self.post.remove(letter)
        shipment = self.order.shipments[letter.shipment_id]
        # Some carriers do not say what they took along: it is what they agreed to last.
        silent = self.world.parcels[letter.shipment_id].lines == shipment.confirmed_lines
        self.tell(letter.model_copy(update={"lines": None}) if silent else letter)

    def repeat(self, command: OrderCommand) -> None:
        """A command that names what it adds comes late, once more: nothing is added again."""
        assert not self.tell(command)

    def can_be_lost(self) -> Counter[tuple[str, str]]:
        """What is held and has not left. A loss is told by place and number only.

        So it is not told while an answer about what is held is on its way.
        """
        steps = self.order.steps.values()
        if any(isinstance(k, o.Reserve) and k.step_id in self.world.answers for k in steps):
            return Counter()
        left: Counter[tuple[str, str]] = Counter()
        for step in steps:
            if isinstance(step, o.Withdraw):
                left.update({(part.line_id, part.location): part.quantity for part in step.held})
        return self.world.shelf - left

    def lose(self, place: tuple[str, str], dice: Random) -> None:
        self.tell(self.world.lose(place, dice.randint(1, self.can_be_lost()[place])))

    def pass_deadline(self) -> None:
        if (deadline := next_deadline(self.order)) is not None:
            self.now = max(self.now, deadline.at + timedelta(milliseconds=1))
            self.tell(o.DeadlinePassed(deadline=deadline.name, at=deadline.at))

    def save_and_load(self) -> None:
        saved = _ORDER.validate_json(_ORDER.dump_json(self.order))
        assert saved == self.order
        self.order = saved

    def settle(self) -> None:
        """From here on, everybody answers, and says yes."""
        for _ in range(ROUNDS_MAX):
            if self.post:
                self.tell(self.post.pop())
            elif self.order.steps:
                self.tell(self.world.carry_out(next(iter(self.order.steps.values()))))
            else:
                return
        raise AssertionError(f"never settles: {list(self.order.steps.values())}")

    def end(self) -> None:
        """People do what is left to do, until nothing is."""
        for _ in range(ROUNDS_MAX):
            self.settle()
            match self.order.status:
                case Status.COMPLETED | Status.CANCELLED | Status.EXPIRED:
                    return
                case Status.ON_HOLD:
                    self.tell(c.ReleaseOrder())
                case Status.AWAITING_CUSTOMER if self.order.awaiting == "payment":
                    self.tell(c.RetryPayment(method="pm_good"))
                case Status.AWAITING_CUSTOMER:
                    self.tell(c.AcceptShortfall())
                case _:
                    self.move_goods()
        raise AssertionError("never ends")

    def move_goods(self) -> None:
        """All that is planned leaves, all that has left arrives, and no return is accepted."""
        for back in self.order.returns.values():
            if any(back.outstanding.values()):
                self.tell(c.RejectReturn(return_id=back.return_id))
        for key, shipment in self.order.shipments.items():
            if shipment.status == "planned":
                self.tell(self.world.leave(key))
                return
            if shipment.status == "dispatched":
                self.tell(c.ConfirmDelivery(shipment_id=key))
                return
        self.pass_deadline()

    def new_id(self) -> str:
        self.named += 1
        return f"id-{self.named}"


def a_line(line_id: str, dice: Random) -> c.AddItemToOrder:
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


def some_command(life: Life, dice: Random) -> OrderCommand:
    """Mostly one that the order allows, and mostly one that makes sense."""
    commands = list(possible_commands(life, dice))
    allowed = allowed_commands(life.order)
    if dice.random() < 0.9:
        commands = [command for command in commands if command.type in allowed] or commands
    return dice.choices(commands, [_LIKELY.get(command.type, 3) for command in commands])[0]


def possible_commands(life: Life, dice: Random) -> Iterator[OrderCommand]:
    order, new_id = life.order, life.new_id()
    line_id = dice.choice([*order.lines, "line-0"])
    yield a_line(new_id, dice)
    yield c.ChangeItemQuantity(line_id=line_id, quantity=dice.randint(1, 6))
    yield c.RemoveItemFromOrder(line_id=line_id)
    yield c.ApplyDiscount(discount_id=new_id, amount=dice.choice([1, 10]))
    yield c.RemoveDiscount(discount_id=dice.choice([*order.discounts, "welcome"]))
    yield c.SetShippingCharge(amount=dice.choice([0, 250]))
    yield c.AddNote(note_id=new_id, text="ring twice")
    yield c.SetShippingAddress(address=f"sealed.{dice.randint(1, 3)}")
    yield c.SetBillingAddress(address=f"sealed.{dice.randint(1, 3)}")
    yield c.PlaceOrder(payment_method=dice.choice([None, "pm_card"]))
    yield c.HoldOrder()
    yield c.ReleaseOrder()
    yield c.CancelOrder(reason="bought elsewhere")
    yield c.AcceptShortfall()
    yield c.RetryPayment(method=dice.choice(["pm_card", "pm_other"]))
    yield c.RetryStep(step_id=dice.choice([None, *order.steps]))
    most = max(1, ledger.to_capture(order))
    yield c.CapturePayment(capture_id=new_id, amount=dice.choice([None, dice.randint(1, most)]))
    most = max(1, ledger.refundable(order))
    yield c.RefundPayment(refund_id=new_id, amount=dice.randint(1, most), reason="sorry")
    shipments = list(order.shipments)
    if shipments:
        yield c.DispatchShipment(shipment_id=dice.choice(shipments), tracking="T1")
        yield c.ConfirmDelivery(shipment_id=dice.choice(shipments))
        goods = dice.choice(["lost", "returned"])
        shipment_id = dice.choice(shipments)
        yield c.ReportDeliveryFailure.model_validate({"shipment_id": shipment_id, "goods": goods})
    if some := pieces({key: line.unshipped for key, line in order.lines.items()}, dice):
        yield c.CancelLines(cancellation_id=new_id, lines=some)
    if some := pieces({key: line.reserved_quantity for key, line in order.lines.items()}, dice):
        yield c.CreateShipment(shipment_id=new_id, lines=some)
    if some := pieces({key: n.delivered - n.returned for key, n in order.lines.items()}, dice):
        yield c.RequestReturn(return_id=new_id, lines=some)
    for back in order.returns.values():
        yield c.ApproveReturn(return_id=back.return_id)
        yield c.RejectReturn(return_id=back.return_id)
        if some := pieces(dict(back.outstanding), dice):
            condition = dice.choice(["sellable", "damaged"])
            yield c.ReceiveReturn.model_validate(
                {
                    "receipt_id": new_id,
                    "return_id": back.return_id,
                    "lines": [part.model_dump() for part in some],
                    "condition": condition,
                }
            )
    yield c.AmendOrder(amendment_id=new_id, changes=[a_change(line_id, life, dice)])


def pieces(most: dict[str, int], dice: Random) -> list[c.LineQuantity]:
    """Some of these pieces, of one line or of several."""
    there = {key: n for key, n in most.items() if n > 0}
    chosen = dice.sample(sorted(there), dice.randint(1, len(there))) if there else []
    return [c.LineQuantity(line_id=key, quantity=dice.randint(1, there[key])) for key in chosen]


def a_change(line_id: str, life: Life, dice: Random) -> c.Change:
    match dice.randint(0, 5):
        case 0:
            return c.AddLine(line_id=life.new_id(), sku="NEW", title="ANOTHER", **terms(dice))
        case 1:
            return c.RemoveLine(line_id=line_id)
        case 2:
            return c.ChangeShippingCharge(amount=dice.choice([0, 250, 900]))
        case 3:
            return c.ChangeLine(line_id=line_id, unit_price=dice.choice([1, 50, 400]))
        case _:
            return c.ChangeLine(line_id=line_id, quantity=dice.randint(1, 6))


def a_contradiction(life: Life, dice: Random) -> Message:
    """A report that may contradict the order, or what a person does about one."""
    return dice.choice(list(_contradictions(life, dice)))


def _contradictions(life: Life, dice: Random) -> Iterator[Message]:
    order = life.order
    shipment_id = dice.choice([*order.shipments, "ghost"])
    some = [
        o.Piece(line_id=key, sku="", quantity=dice.randint(1, 5)) for key in [*order.lines, "ghost"]
    ]
    lines = dice.choice([None, [], some[:1], some])
    tracking = dice.choice([None, "T1", "T2"])
    yield o.ShipmentDeparted(shipment_id=shipment_id, tracking=tracking, lines=lines)
    yield o.ShipmentArrived(shipment_id=shipment_id)
    yield o.ShipmentLost(shipment_id=shipment_id, goods="returned")
    yield o.DeliveryDenied(shipment_id=shipment_id)
    authorisation_id = dice.choice([*order.authorisations, "ghost"])
    captures = [key for a in order.authorisations.values() for key in a.captures]
    refunds = [key for a in order.authorisations.values() for key in a.refunds]
    amount = dice.randint(1, 300)
    yield o.PaymentApproved(step_id=authorisation_id, reference="late")
    yield o.PaymentRefused(step_id=dice.choice([*captures, authorisation_id]), reason="reversed")
    yield o.RefundFailed(step_id=dice.choice([*refunds, "ghost"]), reason="account closed")
    yield o.StepDone(step_id=f"elsewhere:{amount}", operation="refund", amount=amount)
    yield o.StepDone(step_id="elsewhere", operation="capture", amount=amount)
    yield o.AuthorisationChanged(authorisation_id=authorisation_id, amount=amount, reason="shrunk")
    state = dice.choice(["opened", "won", "lost"])
    yield o.ChargebackReported.model_validate(
        {"chargeback_id": f"c{amount % 5}", "state": state, "amount": amount, "reason": "unknown"}
    )
    yield o.StockLost(loss_id=f"loss:{amount}", line_id="line-0", location="EAST", quantity=amount)
    for step_id in order.steps:
        outcome = dice.choice(["done", "failed"])
        yield c.SettleStep.model_validate(
            {
                "step_id": step_id,
                "outcome": outcome,
                "reason": "by telephone",
                "reference": "by-hand",
                "location": "EAST",
            }
        )
    for discrepancy_id, discrepancy in order.discrepancies.items():
        retry = discrepancy.kind == "refund-failed" and dice.random() < 0.5
        yield c.ResolveDiscrepancy(discrepancy_id=discrepancy_id, reason="settled", retry=retry)


def an_answer(step: o.AnyStep, dice: Random) -> o.StepResult:
    """What a service may answer to a step, whatever it said before."""
    key, says_yes = step.step_id, dice.random() < 0.8
    match step:
        case o.Reserve(lines=lines):
            held = [o.Held(location=dice.choice(["EAST", "WEST"]), **dict(n)) for n in lines]
            return o.StockHeld(step_id=key, held=held if says_yes else held[:1])
        case o.Authorise() if says_yes:
            return o.PaymentApproved(step_id=key, reference="a")
        case o.Authorise() | o.Capture() if not says_yes:
            return o.PaymentRefused(step_id=key, reason="no funds")
        case o.Book() if says_yes:
            return o.BookingAccepted(step_id=key)
        case o.Book(shipment_id=shipment_id) | o.Stop(shipment_id=shipment_id) if not says_yes:
            return o.ShipmentDeparted(shipment_id=shipment_id)
        case _:
            return o.StepDone(step_id=key)
