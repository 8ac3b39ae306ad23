"""Writes docs/lifecycle.md from the rules themselves: `make docs`.

The diagram is found by trying: every command, result and deadline on every kind of state that a
small order can come to, until nothing new turns up.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from orders import commands as c
from orders import ledger
from orders import steps as o
from orders.decider import Message, decide
from orders.evolve import fold
from orders.lifecycle import Status
from orders.order import Order
from orders.policy import Policy
from orders.rules.checks import CommandRejected
from orders.rules.deadlines import next_deadline

PAGE = Path(__file__).parents[1] / "docs" / "lifecycle.md"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
STATES_MAX = 5_000

_ONE = [c.LineQuantity(line_id="bagels", quantity=1)]
_TWO = [c.LineQuantity(line_id="bagels", quantity=2)]
_COMMANDS: list[c.OrderCommand] = [
    c.OpenOrder(customer_id="900", currency="USD", policy=Policy()),
    c.AddItemToOrder(line_id="bagels", sku="1", title="BAGELS", quantity=2, unit_price=50),
    c.PlaceOrder(),
    c.HoldOrder(),
    c.ReleaseOrder(),
    c.CancelOrder(),
    c.CancelLines(cancellation_id="one", lines=_ONE),
    c.CancelLines(cancellation_id="all", lines=_TWO),
    c.AcceptShortfall(),
    c.RetryPayment(method="pm_card"),
    c.AmendOrder(amendment_id="dearer", changes=[c.ChangeLine(line_id="bagels", unit_price=60)]),
    c.AmendOrder(amendment_id="free", changes=[c.ChangeLine(line_id="bagels", unit_price=0)]),
    c.AmendOrder(amendment_id="more", changes=[c.ChangeLine(line_id="bagels", quantity=3)]),
    c.AmendOrder(amendment_id="none", changes=[c.RemoveLine(line_id="bagels")]),
    c.RefundPayment(refund_id="all", amount=100),
    c.RequestReturn(return_id="back", lines=_TWO),
    c.ApproveReturn(return_id="back"),
    c.RejectReturn(return_id="back"),
    c.ReceiveReturn(receipt_id="all", return_id="back", lines=_TWO, condition="damaged"),
]


def page() -> str:
    """The whole page, as it should stand in docs/."""
    return "\n".join(
        [
            "# The life of an order",
            "",
            "Made by `make docs` from `orders/`; a test compares. Payment, fulfilment and return",
            "status are derived from ledger and counters, and not shown here.",
            "",
            "```mermaid",
            "stateDiagram-v2",
            *_diagram(),
            "```",
            "",
            "## Which command when",
            "",
            *_table(),
            "",
            "A command that is not allowed is refused with `not-allowed-now`, unless what it asks",
            "for is already so; one that is allowed still has rules of its own. `accept-shortfall`",
            "and `retry-payment` are allowed only while the order waits for that answer.",
            "",
        ]
    )


def _diagram() -> Iterator[str]:
    causes: dict[tuple[Status, Status], set[str]] = defaultdict(set)
    for order, message, then in _changes():
        causes[order.status, then.status].add(label(message))
    yield f"    [*] --> {Status.DRAFT}: open-order"
    for (before, after), labels in sorted(causes.items(), key=lambda item: _place(item[0])):
        if before is not Status.NEW:
            yield f"    {before} --> {after}: {', '.join(sorted(labels))}"
    for status in Status:
        if status is not Status.NEW and not any(before is status for before, _ in causes):
            yield f"    {status} --> [*]"


def _changes() -> Iterator[tuple[Order, Message, Order]]:
    """Every change of status that is found, with an example of its cause."""
    seen, frontier = {_kind(Order())}, deque([Order()])
    while frontier:
        if len(seen) > STATES_MAX:
            raise AssertionError(f"more than {STATES_MAX} kinds of state: too many to explore")
        order = frontier.popleft()
        for message in _messages(order):
            try:
                after = fold(decide(message, order, _time_of(message)), order)
            except CommandRejected:
                continue
            if after.status is not order.status:
                yield order, message, after
            if _kind(after) not in seen:
                seen.add(_kind(after))
                frontier.append(after)


def _messages(order: Order) -> Iterator[Message]:
    yield from _COMMANDS
    for shipment_id in order.shipments:
        yield c.DispatchShipment(shipment_id=shipment_id)
        yield c.ConfirmDelivery(shipment_id=shipment_id)
        yield c.ReportDeliveryFailure(shipment_id=shipment_id)
        yield o.ShipmentDeparted(shipment_id=shipment_id)
    for step in order.steps.values():
        yield from _answers(step)
    if (deadline := next_deadline(order)) is not None:
        yield o.DeadlinePassed(deadline=deadline.name, at=deadline.at)


def _answers(step: o.AnyStep) -> Iterator[Message]:
    match step:
        case o.Reserve(lines=lines):
            for short in (0, 1, 2):
                yield o.StockHeld(
                    step_id=step.step_id,
                    held=[
                        o.Held(
                            line_id=piece.line_id,
                            sku=piece.sku,
                            location="EAST",
                            quantity=max(0, piece.quantity - short),
                        )
                        for piece in lines
                    ],
                )
        case o.Authorise():
            yield o.PaymentApproved(step_id=step.step_id, reference="ref")
            yield o.PaymentRefused(step_id=step.step_id, reason="declined")
        case o.Capture():
            yield o.StepDone(step_id=step.step_id)
            yield o.PaymentRefused(step_id=step.step_id, reason="expired")
        case o.Book():
            yield o.BookingAccepted(step_id=step.step_id)
        case _:
            yield o.StepDone(step_id=step.step_id)


def _time_of(message: Message) -> datetime:
    return message.at if isinstance(message, o.DeadlinePassed) else NOW


def label(message: Message) -> str:
    """What a change is drawn as caused by."""
    return message.deadline + " deadline" if isinstance(message, o.DeadlinePassed) else message.type


def _kind(order: Order) -> object:
    """What makes two states alike enough that one of them will do."""
    line = next(iter(order.lines.values()), None)
    return (
        order.status,
        order.awaiting,
        order.return_window_closed,
        bool(order.missing()),
        bool(ledger.to_authorise(order)),
        bool(ledger.capturable(order) + ledger.net_captured(order)),
        line
        and (line.reserved_quantity > 0, line.shipped > 0, line.delivered > 0, not line.unshipped),
        next((step.type for step in order.steps.values()), None),
        next((back.status for back in order.returns.values()), None),
    )


def _place(pair: tuple[Status, Status]) -> tuple[int, int]:
    order = list(Status)
    return order.index(pair[0]), order.index(pair[1])


def _table() -> Iterator[str]:
    statuses = [status for status in Status if status is not Status.NEW]
    yield "| | " + " | ".join(status.replace("_", " ") for status in statuses) + " |"
    yield "| --- |" + " :-: |" * len(statuses)
    for command in c.COMMAND_TYPES:
        if command is not c.OpenOrder:
            marks = ["×" if status in command.allowed_in else "" for status in statuses]
            yield f"| `{c.type_of(command)}` | " + " | ".join(marks) + " |"


if __name__ == "__main__":
    PAGE.write_text(page())
