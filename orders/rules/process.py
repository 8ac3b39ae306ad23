"""What an order owes the outside world: a pure function of its state.

`follow_ups` are the events that an order decides by itself, one after the other until there is
nothing more to decide: each states a claim (this money, these pieces) before anybody is asked. The
steps that they leave in the order are carried out by the workflow, and each result comes back the
way a command does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import count
from typing import NamedTuple

from orders import events as e
from orders import ledger
from orders.events import LineCount, OrderEvent
from orders.evolve import evolve
from orders.order import ENDED, Line, Order, Shipment, Status
from orders.steps import AnyStep, Authorise, Capture, Held, Refund, Release, Reserve, Void, Withdraw

FOLLOW_UPS_MAX = 10_000  # Far above any order's; a bug must not hang a worker.
_GOING_ON = frozenset({Status.PLACED, Status.AWAITING_CUSTOMER, Status.CONFIRMED})


def next_steps(order: Order) -> list[AnyStep]:
    """The steps that other services owe the order now; each is asked for until it is answered."""
    return list(order.steps.values())


def is_finished(order: Order) -> bool:
    """Whether the outside world owes the order nothing more, nor it the outside world."""
    return order.status in ENDED and not order.steps


class Deadline(NamedTuple):
    """Something that happens by itself if nobody acts before."""

    name: str
    at: datetime


def next_deadline(order: Order) -> Deadline | None:
    """The first deadline that the order is under, if any; one that is held or ending has none."""
    return min(_deadlines(order), key=lambda d: d.at, default=None)


def _deadlines(order: Order) -> Iterable[Deadline]:
    if order.status is Status.DRAFT and order.expires_at:
        yield Deadline("draft", order.expires_at)
    if order.status not in _GOING_ON:
        return
    if order.awaiting and order.answer_by:
        yield Deadline(f"{order.awaiting}-answer", order.answer_by)
    if ledger.to_capture(order):
        first = min(a.capture_by for a in order.authorisations.values() if a.capturable)
        yield Deadline("capture", first)
    if order.return_by and not order.return_window_closed and _has_arrived(order):
        yield Deadline("return-window", order.return_by)


def follow_ups(order: Order) -> tuple[list[OrderEvent], Order]:
    """All that an order now decides by itself, and the order after it."""
    events: list[OrderEvent] = []
    while (event := _next(order)) is not None:
        assert len(events) < FOLLOW_UPS_MAX, f"{event} follows without end"
        events.append(event)
        order = evolve(order, event)
    return events, order


def _next(order: Order) -> OrderEvent | None:
    if order.policy is None:
        return None
    for rule in _RULES.get(order.status, ()):
        if (event := rule(order)) is not None:
            return event
    return None


def step_id(kind: str, order: Order, after: int = 0) -> str:
    """Names a step after the event that asks for it: the order's next, or so many after it."""
    return f"{kind}-{order.version + 1 + after}"


# Rules. Each says what the order does next in one respect, or None.


def _stop_all_shipments(order: Order) -> OrderEvent | None:
    for shipment in order.shipments.values():
        if shipment.status == "planned":
            return _stop(order, shipment)
    return None


def _trim_shipments(order: Order) -> OrderEvent | None:
    """Takes out of shipments what is called off, not there, or in a newer one; the oldest first."""
    for shipment in order.shipments.values():
        if shipment.status != "planned":
            continue
        lines = {
            key: pieces - max(0, _planned_too_much(order, order.lines[key], shipment.location))
            for key, pieces in shipment.lines.items()
        }
        lines = {key: n for key, n in lines.items() if n > 0}
        if not lines:
            return _stop(order, shipment)
        if lines != shipment.lines:
            return e.ShipmentChanged(shipment_id=shipment.shipment_id, lines=counts(lines))
    return None


def _planned_too_much(order: Order, line: Line, location: str) -> int:
    here = order.planned(line.line_id, location) - line.reserved.get(location, 0)
    everywhere = order.planned(line.line_id) - line.unshipped
    return max(here, everywhere)


def _book(order: Order) -> OrderEvent | None:
    """Tells the carrier; of a new shipment only once no other can take the same pieces along."""
    for shipment in order.shipments.values():
        if shipment.status != "planned" or not shipment.needs_rebooking:
            continue
        if shipment.confirmed_lines or not _may_ship_excess(order):
            return e.ShipmentBookingRequested(
                shipment_id=shipment.shipment_id, step_id=step_id("book", order)
            )
    return None


def _stop(order: Order, shipment: Shipment) -> OrderEvent:
    if not shipment.confirmed_lines:  # The carrier has never heard of it.
        return e.ShipmentStopped(shipment_id=shipment.shipment_id)
    return e.ShipmentStopRequested(shipment_id=shipment.shipment_id, step_id=step_id("stop", order))


def _capture(order: Order) -> OrderEvent | None:
    missing = ledger.due(order) - ledger.net_captured(order)
    if missing <= 0:
        return None
    for promise in order.authorisations.values():
        if promise.capturable:
            return e.CaptureRequested(
                step_id=step_id("capture", order),
                authorisation_id=promise.authorisation_id,
                amount=min(missing, promise.capturable),
            )
    return None


def _refund(order: Order) -> OrderEvent | None:
    if _may_ship_excess(order):
        return None
    excess = ledger.net_captured(order) - ledger.due(order)
    if excess <= 0:
        return None
    for promise in order.authorisations.values():
        if promise.captured > promise.refund_requested:
            return e.RefundRequested(
                step_id=step_id("refund", order),
                authorisation_id=promise.authorisation_id,
                amount=min(excess, promise.captured - promise.refund_requested),
            )
    return None  # What is still being captured can be given back only after that.


def _void(order: Order) -> OrderEvent | None:
    """Lets go of what was promised and will not be needed."""
    if _may_ship_excess(order) or ledger.to_capture(order) or _owes(order, Authorise, Capture):
        return None
    for promise in order.authorisations.values():
        if promise.capturable:
            return e.VoidRequested(
                step_id=step_id("void", order), authorisation_id=promise.authorisation_id
            )
    return None


def _release(order: Order) -> OrderEvent | None:
    if _may_ship_excess(order) or _owes(order, Reserve):
        return None
    ending = order.status is Status.CANCELLING
    if ending and (_owes(order, Authorise, Capture, Void, Refund) or _holds_money(order)):
        return None
    held: list[Held] = []
    for line in order.lines.values():
        too_much = line.reserved_quantity - (0 if ending else line.unshipped)
        for location, pieces in line.reserved.items():
            free = pieces - order.planned(line.line_id, location)
            if (let_go := min(too_much, free)) > 0:
                held.append(_at(line, location, let_go))
                too_much -= let_go
    if not held:
        return None
    return e.StockReleaseRequested(step_id=step_id("release", order), held=held)


def _reserve(order: Order) -> OrderEvent | None:
    missing = order.missing()
    # Stock moves by number: what is still being let go of must not be taken from the new pieces.
    if not missing or _owes(order, Reserve, Release, Withdraw) or _may_ship_excess(order):
        return None
    return e.StockRequested(step_id=step_id("reserve", order), lines=counts(missing))


def _authorise(order: Order) -> OrderEvent | None:
    amount = ledger.to_authorise(order)
    if not amount or order.missing() or _owes(order, Reserve, Authorise):
        return None
    return e.AuthorisationRequested(
        step_id=step_id("authorise", order), amount=amount, method=order.payment_method
    )


def _confirm(order: Order) -> OrderEvent | None:
    if order.missing() or _owes(order, Reserve, Authorise) or ledger.to_authorise(order):
        return None
    return e.OrderConfirmed()


def _plan_shipments(order: Order) -> OrderEvent | None:
    """One shipment for each stock location that holds something for the order."""
    if order.missing() or ledger.to_authorise(order):
        return None
    for location in sorted({key for line in order.lines.values() for key in line.reserved}):
        free = {
            # Not what is held too much: it cannot be released while stock is still being asked.
            key: min(
                line.reserved.get(location, 0) - order.planned(key, location),
                line.unshipped - order.planned(key),
            )
            for key, line in order.lines.items()
        }
        free = {key: n for key, n in free.items() if n > 0}
        if free:
            names = (f"shipment-{number}" for number in count(order.version + 1))
            return e.ShipmentCreated(
                # A caller may have taken the name for a shipment of theirs.
                shipment_id=next(name for name in names if name not in order.shipments),
                location=location,
                lines=counts(free),
                fingerprint="",
            )
    return None


def _clear_awaiting(order: Order) -> OrderEvent | None:
    """Waits for no answer once there is nothing left to decide on."""
    if order.awaiting == "payment" and ledger.to_authorise(order):
        return None
    if order.awaiting == "shortfall" and order.missing():
        return None
    return e.AnswerNotNeeded()


def _cancel_if_empty(order: Order) -> OrderEvent | None:
    """An order of which nothing is left, and nothing has arrived, is cancelled, not completed."""
    if any(line.cancelled < line.quantity for line in order.lines.values()):
        return None
    return e.OrderCancellationRequested(reason=order.cancel_reason or "nothing is left of it")


def _complete(order: Order) -> OrderEvent | None:
    if order.steps or not order.return_window_closed or not _has_arrived(order):
        return None
    if any(any(back.outstanding.values()) for back in order.returns.values()):
        return None
    return e.OrderCompleted()


def _finish_cancelling(order: Order) -> OrderEvent | None:
    if any(line.shipped for line in order.lines.values()):
        unshipped = {key: line.unshipped for key, line in order.lines.items() if line.unshipped}
        return e.OrderCancellationOvertaken(lines=counts(unshipped))
    if order.steps or _holds_money(order) or any(n.reserved for n in order.lines.values()):
        return None
    return e.OrderCancelled(reason=order.cancel_reason)


_FULFILMENT_RULES: tuple[Callable[[Order], OrderEvent | None], ...] = (
    _cancel_if_empty,
    _trim_shipments,
    _book,
    _capture,
    _refund,
    _void,
    _release,
)
_RULES: dict[Status, tuple[Callable[[Order], OrderEvent | None], ...]] = {
    Status.PLACED: (*_FULFILMENT_RULES, _reserve, _authorise, _confirm),
    Status.AWAITING_CUSTOMER: (*_FULFILMENT_RULES, _clear_awaiting),
    Status.CONFIRMED: (*_FULFILMENT_RULES, _reserve, _authorise, _plan_shipments, _complete),
    # In this order: shipments, money, stock; each rule waits for the ones before it.
    Status.CANCELLING: (_stop_all_shipments, _finish_cancelling, _refund, _void, _release),
    Status.COMPLETED: (_refund,),
}


# Questions to an order


def _owes(order: Order, *kinds: type[AnyStep]) -> bool:
    return any(isinstance(step, kinds) for step in order.steps.values())


def _may_ship_excess(order: Order) -> bool:
    """Whether a carrier may still take along what the order has called off."""
    return any(shipment.may_ship_excess for shipment in order.shipments.values())


def _holds_money(order: Order) -> bool:
    return bool(ledger.net_captured(order) or ledger.capturable(order))


def _has_arrived(order: Order) -> bool:
    """Whether all that is not called off has been delivered, and that is something."""
    lines = order.lines.values()
    return any(line.delivered for line in lines) and all(
        line.delivered + line.cancelled == line.quantity for line in lines
    )


def counts(pieces: dict[str, int]) -> list[LineCount]:
    return [LineCount(line_id=key, quantity=n) for key, n in pieces.items() if n]


def _at(line: Line, location: str, pieces: int) -> Held:
    return Held(line_id=line.line_id, sku=line.sku, location=location, quantity=pieces)
