"""The inbox: what waits for a person, grouped by its cause."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from api.reads.inbox import InboxGroup, grouped
from orders.commands import HoldOrder
from orders.order import Order
from orders.steps import ChargebackReported, StepFailed
from readside.order_view.row import OrderRow, order_row
from readside.order_view.view import OrderView
from readside.order_view.waiting import since_after
from tests.support.given import NOW
from tests.support.order_fixtures import (
    a_booked_order,
    a_confirmed_order,
    a_declined_order,
    a_delivered_order,
    a_half_sent_order,
    a_held_order,
    a_sent_order,
    a_short_order,
)


def row(order_id: str, order: Order, hours: int = 0) -> OrderRow:
    """The row of an order that has waited for some hours for what it waits for."""
    at = NOW - timedelta(hours=hours)
    texts = {"chargeback:cb": "not received"}
    return order_row(OrderView(order_id, order, texts=texts, since=since_after({}, order, at)))


def groups_of(*rows: OrderRow, now: datetime = NOW) -> dict[str, InboxGroup]:
    return {group.kind: group for group in grouped(rows, now)}


def stuck(reason: str = "the shipping service answered 503") -> Order:
    (*_, step_id) = a_confirmed_order.order.steps
    return a_confirmed_order.having(StepFailed(step_id=step_id, reason=reason)).order


def kinds(groups: Iterable[InboxGroup]) -> list[str]:
    return [group.kind for group in groups]


def test_order_that_needs_no_person_is_not_in_it() -> None:
    quiet = (a_booked_order, a_half_sent_order, a_sent_order, a_delivered_order)
    assert grouped([row(str(n), one.order) for n, one in enumerate(quiet)], NOW) == []


def test_same_cause_is_one_group_with_its_orders_oldest_first() -> None:
    order = stuck()
    other = stuck("the shipping service does not answer")
    found = grouped([row("a", order, 1), row("b", order, 3), row("c", other, 2)], NOW)
    assert [(group.cause, [item.order_id for item in group.items]) for group in found] == [
        ("the shipping service answered 503", ["b", "a"]),
        ("the shipping service does not answer", ["c"]),
    ]
    both = found[0]
    assert both.orders == 2 and both.since == NOW - timedelta(hours=3)
    assert [(one.currency, one.amount) for one in both.amounts] == [("USD", 800)]
    item = both.items[0]
    assert (item.command, item.step_type, item.step_id) == ("retry-step", "book", "book-15")


def test_order_with_two_stuck_steps_is_at_stake_once() -> None:
    messages = [StepFailed(step_id=key, reason="503") for key in a_confirmed_order.order.steps]
    (group,) = grouped([row("a", a_confirmed_order.having(*messages).order)], NOW)
    assert (len(group.items), group.orders) == (2, 1)
    assert [one.amount for one in group.amounts] == [a_confirmed_order.order.total]


def test_most_urgent_kinds_are_first() -> None:
    disputed = a_sent_order.having(
        ChargebackReported(
            chargeback_id="cb", state="opened", amount=100, authorisation_id="authorise-9",
            reason="not received",
        )
    ).order  # fmt: skip
    rows = [
        row("held", a_held_order.order),
        row("short", a_short_order.order),
        row("declined", a_declined_order.order),
        row("stuck", stuck()),
        row("disputed", disputed),
    ]
    found = grouped(rows, NOW)
    assert kinds(found) == [
        "chargeback",
        "stuck-step",
        "awaits-payment",
        "awaits-shortfall",
        "held",
    ]
    causes = {group.kind: group.cause for group in found}
    assert causes["awaits-payment"] == "the customer has to decide"
    assert causes["awaits-shortfall"] == "1 piece missing"
    assert [item.amount for item in found[0].items] == [100]


def test_held_order_says_why_and_how_to_release_it() -> None:
    view = OrderView("a", a_held_order.order, since=since_after({}, a_held_order.order, NOW))
    said = replace(view, texts={"hold": "the address looks odd"})
    (group,) = grouped([order_row(said)], NOW)
    assert (group.cause, group.items[0].command) == ("the address looks odd", "release-order")
    (group,) = grouped([order_row(view)], NOW)
    assert group.cause == "no reason was given"


def test_authorisation_that_ends_within_a_day_is_in_it() -> None:
    waiting = a_booked_order.order
    (authorisation,) = waiting.authorisations.values()
    soon = authorisation.capture_by - timedelta(hours=23)
    assert kinds(grouped([row("a", waiting)], soon)) == ["deadline"]
    assert grouped([row("a", waiting)], soon - timedelta(hours=2)) == []
    # A return window that closes needs no person.
    delivered = a_delivered_order.order
    assert delivered.return_by is not None
    assert grouped([row("a", delivered)], delivered.return_by - timedelta(hours=1)) == []


def test_orphaned_order_is_in_it_without_a_time() -> None:
    orphan = replace(row("a", a_booked_order.order), orphaned="its workflow was terminated")
    group = groups_of(orphan, now=datetime(2026, 3, 1, tzinfo=UTC))["orphaned"]
    assert (group.cause, group.since) == ("its workflow was terminated", None)


def test_held_order_with_a_stuck_step_is_in_two_groups_and_counted_once_in_each() -> None:
    order = a_confirmed_order.having(
        StepFailed(step_id="book-15", reason="503"), HoldOrder(reason="odd")
    ).order
    assert kinds(grouped([row("a", order)], NOW)) == ["stuck-step", "held"]
