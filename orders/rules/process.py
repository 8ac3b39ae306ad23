"""The process of an order (a saga, or process manager): what it does next by itself.

It is a pure function of the state. `follow_ups` are the events that an order adds by itself, one
after the other until no rule applies. Each claims its money or pieces before a request is sent. The
workflow carries out the steps that the events leave in the order; the result of a step comes back
as a command does.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count, islice

from orders import events as e
from orders import ledger
from orders.entities import Line, Shipment
from orders.events import OrderEvent, line_counts
from orders.evolve import evolve
from orders.lifecycle import ENDED, Status
from orders.order import Order
from orders.steps import (
    AnyStep,
    Authorise,
    Book,
    Capture,
    Held,
    Refund,
    Release,
    Reserve,
    Stop,
    Void,
    Withdraw,
)

# Temporal fails the tasks of a workflow with 2,000 pending activities, or with 4 MB of requests.
STEPS_AT_ONCE = 200
BOOKINGS_AT_ONCE = 50
STOPS_AT_ONCE = 200
FOLLOW_UPS_MAX = 10_000  # Far above any order's; a bug must not hang a worker.


def next_steps(order: Order) -> list[AnyStep]:
    """The oldest steps that have no result yet; each is requested until it has one."""
    return list(islice(order.steps.values(), STEPS_AT_ONCE))


def is_finished(order: Order) -> bool:
    """Whether the order has ended and no step is left."""
    return order.status in ENDED and not order.steps


def follow_ups(order: Order) -> tuple[list[OrderEvent], Order]:
    """All events that the order adds by itself, and the order after them."""
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


# Each rule returns the next event in one respect, or None.


# Shipments


def _trim_shipments(order: Order) -> OrderEvent | None:
    """Takes cancelled, missing and re-planned pieces out of shipments; out of the oldest first."""
    trimmed = order.remember(_trimmed, "lines", "shipments")
    if trimmed is None:
        return None
    shipment, lines = trimmed
    if not lines:
        return _stop(order, shipment) if _may_stop(order) else None
    return e.ShipmentChanged(shipment_id=shipment.shipment_id, lines=line_counts(lines))


def _trimmed(order: Order) -> tuple[Shipment, dict[str, int]] | None:
    """The oldest shipment with pieces to take out, and those to leave in it."""
    excess = _excess(order)
    if not excess:
        return None
    for shipment in order.shipments.values():
        if shipment.status != "planned":
            continue
        out = {
            key: max(excess.get((key, shipment.location), 0), excess.get((key, None), 0))
            for key in shipment.lines
        }
        if any(out.values()):
            left = {key: n - out[key] for key, n in shipment.lines.items()}
            return shipment, {key: n for key, n in left.items() if n > 0}
    return None


def _excess(order: Order) -> dict[tuple[str, str | None], int]:
    """Pieces that are planned but not reserved at a location, or (None) not to be shipped at all.

    By line id and location.
    """
    excess: dict[tuple[str, str | None], int] = {}
    for (line_id, location), pieces in order.planned_pieces.items():
        line = order.lines[line_id]
        wanted = line.unshipped if location is None else line.reserved.get(location, 0)
        if pieces > wanted:
            excess[line_id, location] = pieces - wanted
    return excess


def _book(order: Order) -> OrderEvent | None:
    """Books a shipment; a new one only when no other shipment can still take its pieces.

    Only as many at once as have room, with their addresses and pieces, beside the order. A booking
    under way is replaced at once: its result must not confirm other pieces than it requests.
    """
    is_full = order.count_steps(Book) >= BOOKINGS_AT_ONCE or not _may_stop(order)
    under_way = order.remember(_booked_now, "steps") if is_full else set()
    for shipment in order.shipments.values():
        if shipment.status != "planned" or not shipment.needs_rebooking:
            continue
        if is_full and shipment.shipment_id not in under_way:
            continue
        if shipment.confirmed_lines or not order.may_ship_excess:
            return e.ShipmentBookingRequested(
                shipment_id=shipment.shipment_id, step_id=order.next_step_id("book")
            )
    return None


def _booked_now(order: Order) -> set[str]:
    return {step.shipment_id for step in order.steps.values() if isinstance(step, Book)}


def _stop_all_shipments(order: Order) -> OrderEvent | None:
    if not _may_stop(order):
        return None
    for shipment in order.shipments.values():
        if shipment.status == "planned":
            return _stop(order, shipment)
    return None


def _may_stop(order: Order) -> bool:
    """Whether one more shipment can be stopped; the others wait, and what depends on them."""
    return order.count_steps(Stop) < STOPS_AT_ONCE


def _stop(order: Order, shipment: Shipment) -> OrderEvent:
    if not shipment.confirmed_lines:  # It was never sent to the carrier.
        return e.ShipmentStopped(shipment_id=shipment.shipment_id)
    return e.ShipmentStopRequested(
        shipment_id=shipment.shipment_id, step_id=order.next_step_id("stop")
    )


def _plan_shipments(order: Order) -> OrderEvent | None:
    """One shipment for each stock location with reserved pieces."""
    if order.missing() or ledger.to_authorise(order) or _is_all_planned(order):
        return None
    planned = order.planned_pieces
    for location in order.stock_locations():
        unplanned = {
            # Excess stock cannot be released while more is being reserved: do not plan it.
            key: min(
                line.reserved.get(location, 0) - planned.get((key, location), 0),
                line.unshipped - planned.get((key, None), 0),
            )
            for key, line in order.lines.items()
        }
        unplanned = {key: n for key, n in unplanned.items() if n > 0}
        if unplanned:
            names = (f"shipment-{number}" for number in count(order.version + 1))
            return e.ShipmentCreated(
                # The caller may have used the name as the client id of a shipment.
                shipment_id=next(name for name in names if name not in order.shipments),
                location=location,
                lines=line_counts(unplanned),
                fingerprint="",
            )
    return None


def _is_all_planned(order: Order) -> bool:
    """Whether all reserved pieces are planned: no shipment has more, or it would be trimmed."""
    return order.sums.reserved == order.remember(_planned, "shipments")


def _planned(order: Order) -> int:
    planned = order.planned_pieces.items()
    return sum(pieces for (_, location), pieces in planned if location is None)


# Money


def _authorise(order: Order) -> OrderEvent | None:
    amount = ledger.to_authorise(order)
    if not amount or order.missing() or order.owes(Reserve, Authorise):
        return None
    return e.AuthorisationRequested(
        step_id=order.next_step_id("authorise"), amount=amount, method=order.payment_method
    )


def _capture(order: Order) -> OrderEvent | None:
    missing = ledger.due(order) - ledger.net_captured(order)
    if missing <= 0:
        return None
    for authorisation in order.authorisations.values():
        if authorisation.capturable:
            return e.CaptureRequested(
                step_id=order.next_step_id("capture"),
                authorisation_id=authorisation.authorisation_id,
                amount=min(missing, authorisation.capturable),
            )
    return None


def _refund(order: Order) -> OrderEvent | None:
    if order.may_ship_excess:
        return None
    excess = ledger.to_refund(order)
    if not excess:
        return None
    for authorisation in order.authorisations.values():
        refundable = authorisation.refundable
        if refundable > 0:
            return e.RefundRequested(
                step_id=order.next_step_id("refund"),
                authorisation_id=authorisation.authorisation_id,
                amount=min(excess, refundable),
            )
    return None  # A capture that has no result yet can be refunded only after it.


def _void(order: Order) -> OrderEvent | None:
    """Voids an authorisation that will not be needed."""
    if order.may_ship_excess or ledger.to_capture(order) or order.owes(Authorise, Capture):
        return None
    for authorisation in order.authorisations.values():
        if authorisation.capturable:
            return e.VoidRequested(
                step_id=order.next_step_id("void"), authorisation_id=authorisation.authorisation_id
            )
    return None


# Stock


def _reserve(order: Order) -> OrderEvent | None:
    missing = order.missing()
    # Stock moves by number: a pending release must not take the newly reserved pieces.
    if not missing or order.owes(Reserve, Release, Withdraw) or order.may_ship_excess:
        return None
    return e.StockRequested(step_id=order.next_step_id("reserve"), lines=line_counts(missing))


def _release(order: Order) -> OrderEvent | None:
    """Releases reserved stock that will not be shipped; of a cancelled order after its money."""
    if order.may_ship_excess or order.owes(Reserve):
        return None
    is_cancelling = order.status is Status.CANCELLING
    if is_cancelling and (
        order.owes(Authorise, Capture, Void, Refund) or ledger.holds_money(order)
    ):
        return None
    if not (order.sums.reserved if is_cancelling else order.sums.excess_lines):
        return None
    held: list[Held] = []
    for line in order.lines.values():
        held += _releasable(order, line, keep=0 if is_cancelling else line.unshipped)
    if not held:
        return None
    return e.StockReleaseRequested(step_id=order.next_step_id("release"), held=held)


def _releasable(order: Order, line: Line, keep: int) -> list[Held]:
    """The reserved pieces beyond those to keep that are in no planned shipment."""
    held: list[Held] = []
    excess = line.reserved_quantity - keep
    for location, pieces in line.reserved.items():
        quantity = min(excess, pieces - order.planned(line.line_id, location))
        if quantity > 0:
            excess -= quantity
            held.append(
                Held(line_id=line.line_id, sku=line.sku, location=location, quantity=quantity)
            )
    return held


# Lifecycle


def _confirm(order: Order) -> OrderEvent | None:
    if order.missing() or order.owes(Reserve, Authorise) or ledger.to_authorise(order):
        return None
    return e.OrderConfirmed()


def _clear_awaiting(order: Order) -> OrderEvent | None:
    """Stops awaiting a decision that is no longer needed."""
    if order.awaiting == "payment" and ledger.to_authorise(order):
        return None
    if order.awaiting == "shortfall" and order.missing():
        return None
    return e.AnswerNotNeeded()


def _cancel_if_empty(order: Order) -> OrderEvent | None:
    """Cancels an order whose pieces are all cancelled; it is not completed."""
    if order.sums.kept:
        return None
    return e.OrderCancellationRequested(reason=order.cancel_reason or "nothing is left of it")


def _finish_cancelling(order: Order) -> OrderEvent | None:
    if order.has_shipped:
        return e.OrderCancellationOvertaken(lines=line_counts(order.unshipped()))
    if order.steps or ledger.holds_money(order) or order.stock_locations():
        return None
    return e.OrderCancelled(reason=order.cancel_reason)


def _complete(order: Order) -> OrderEvent | None:
    if order.steps or not order.return_window_closed or not order.has_arrived:
        return None
    if any(any(back.outstanding.values()) for back in order.returns.values()):
        return None
    return e.OrderCompleted()


Rule = Callable[[Order], OrderEvent | None]
_FULFILMENT_RULES: tuple[Rule, ...] = (
    _cancel_if_empty,
    _trim_shipments,
    _book,
    _capture,
    _refund,
    _void,
    _release,
)
_RULES: dict[Status, tuple[Rule, ...]] = {
    Status.PLACED: (*_FULFILMENT_RULES, _reserve, _authorise, _confirm),
    Status.AWAITING_CUSTOMER: (*_FULFILMENT_RULES, _clear_awaiting),
    Status.CONFIRMED: (*_FULFILMENT_RULES, _reserve, _authorise, _plan_shipments, _complete),
    # In this order: shipments, money, stock; each rule waits for the ones before it.
    Status.CANCELLING: (_stop_all_shipments, _finish_cancelling, _refund, _void, _release),
    Status.COMPLETED: (_refund,),
    Status.CANCELLED: (_refund,),
}
