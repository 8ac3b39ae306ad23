"""Since when an order waits for each thing, and why it is held or declined."""

from __future__ import annotations

from datetime import timedelta

from orders.events import (
    OrderEvent,
    OrderHeld,
    OrderReleased,
    PaymentDeclined,
    PaymentRetried,
    StepRetried,
    StepStuck,
    StockRequested,
)
from orders.evolve import fold
from readside.order_view.document import OrderDocument, document
from readside.order_view.view import OrderView, fold_view
from readside.order_view.waiting import settled_by_person
from tests.support.contradictions import contradicted_order
from tests.support.given import LONG_AGO, bagels_added, opened, placed, published

RETRIED = StepRetried(step_id="reserve-4")


def view_of(*events: OrderEvent) -> OrderView:
    return fold_view(OrderView("ord_1"), published(events))


def shown(*events: OrderEvent) -> OrderDocument:
    return document(view_of(opened, bagels_added, placed, *events))


def test_wait_began_with_the_first_of_the_events_after_all_of_which_it_lasts() -> None:
    kinds = set()
    for seed in range(12):
        events = contradicted_order(seed, list(range(seed, seed + 60)), lambda *_: None).events
        views = [OrderView("ord_1")]
        for event in published(events):
            views.append(fold_view(views[-1], [event]))
        for key, since in views[-1].since.items():
            began = max(v for v, view in enumerate(views) if key not in view.since) + 1
            assert since == LONG_AGO + timedelta(seconds=began), key
            kinds.add(key.partition(":")[0])
        assert {*settled_by_person(fold(events))} <= views[-1].since.keys()
    assert {"step", "chargeback", "discrepancy"} <= kinds


def test_view_is_the_same_however_its_events_are_split() -> None:
    events = published(contradicted_order(3, list(range(60)), lambda *_: None).events)
    whole = fold_view(OrderView("ord_1"), events)
    half = fold_view(OrderView("ord_1"), events[: len(events) // 2])
    assert list(fold_view(half, events[len(events) // 2 :]).since.items()) == list(
        whole.since.items()
    )


def test_stuck_step_says_when_it_was_requested_and_since_when_it_is_stuck() -> None:
    requested = StockRequested(step_id="reserve-4", lines=[])
    document = shown(requested, StepStuck(step_id="reserve-4", reason="503"))
    (step,), (attention,) = document.pending, document.needs_attention
    assert step.since == LONG_AGO + timedelta(seconds=4)
    assert step.stuck_since == attention.since == LONG_AGO + timedelta(seconds=5)
    retried = shown(requested, StepStuck(step_id="reserve-4", reason="503"), RETRIED)
    assert (retried.pending[0].since, retried.pending[0].stuck_since) == (step.since, None)


def test_hold_shows_its_own_reason_only() -> None:
    first, second = OrderHeld(reason="the address looks odd"), OrderHeld()
    assert shown().hold_reason is None and shown().held_since is None
    assert shown(first).hold_reason == "the address looks odd"
    assert shown(first).held_since == LONG_AGO + timedelta(seconds=4)
    released = shown(first, OrderReleased())
    assert (released.hold_reason, released.held_since) == (None, None)
    again = shown(first, OrderReleased(), second)
    assert (again.hold_reason, again.held_since) == (None, LONG_AGO + timedelta(seconds=6))


def test_declined_payment_shows_its_reason_until_it_is_retried() -> None:
    declined = PaymentDeclined(step_id="a", reason="no funds", answer_by=LONG_AGO)
    assert shown(declined).payment.decline_reason == "no funds"
    assert shown(declined).awaits_since == LONG_AGO + timedelta(seconds=4)
    retried = shown(declined, PaymentRetried(method="pm_card"))
    assert (retried.payment.decline_reason, retried.awaits_since) == (None, None)
