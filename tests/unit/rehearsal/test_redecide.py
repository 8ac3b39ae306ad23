"""Rehearsal finds exactly the orders that other rules would have decided otherwise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import pytest

from dev.demo.recorded_orders import (
    ENDED,
    LIVES,
    Shop,
    delivered,
    demo_orders,
    differing,
    send_back,
)
from orders import commands as c
from orders import steps as o
from rehearsal.child import outcome_of
from rehearsal.recorded import RecordedInput, RecordedOrder
from rehearsal.redecide import missed_deadline
from tests.support.order_lives import BASKET, order_of
from tests.support.rule_changes import RULE_CHANGES, RuleChange, applied

COUNT = 3 * len(LIVES)


@cache
def demo(count: int) -> Sequence[RecordedOrder]:
    return demo_orders(count)


def recorded() -> Sequence[RecordedOrder]:
    """A sample; call it before rules are changed."""
    return demo(COUNT)


def facts(orders: Sequence[RecordedOrder]) -> dict[str, Any]:
    """Everything that was decided, and when, by order."""
    return {each.order_id: [(i.at, i.code, i.events) for i in each.inputs] for each in orders}


def outcome(order: RecordedOrder, until: datetime = ENDED) -> dict[str, Any]:
    return outcome_of(json.loads(order.line(until)))


def changed(name: str) -> RuleChange:
    return next(change for change in RULE_CHANGES if change.name == name)


def assert_finds_exactly_what_differs(change: RuleChange, count: int) -> None:
    """The orders that differ are those that come to something else when they are made again."""
    recorded = demo(count)
    was = facts(recorded)
    with applied(change):
        now = facts(demo_orders(count))
        found = differing(recorded)

    assert was.keys() == now.keys()
    assert found.keys() == {order_id for order_id in was if was[order_id] != now[order_id]}
    assert all("first" in each for each in found.values())
    assert found or count > COUNT, "no order of the sample shows it"


def test_same_rules_decide_the_same() -> None:
    assert differing(demo(COUNT)) == {}


def test_seeded_changes_change_something() -> None:
    assert len(RULE_CHANGES) >= 20
    assert len({change.name for change in RULE_CHANGES}) == len(RULE_CHANGES)


@pytest.mark.parametrize("change", RULE_CHANGES, ids=lambda change: change.name)
def test_exactly_the_orders_are_found_that_differ(change: RuleChange) -> None:
    assert_finds_exactly_what_differs(change, COUNT)


@pytest.mark.soak
@pytest.mark.parametrize("change", RULE_CHANGES, ids=lambda change: change.name)
def test_exactly_the_orders_are_found_among_all_baskets(change: RuleChange) -> None:
    assert_finds_exactly_what_differs(change, 1_000)


def outcomes_by(name: str, life: int) -> dict[str, Any]:
    """The outcome of the first order with a life, by a changed rule."""
    order = recorded()[life]
    with applied(changed(name)):
        return outcome(order)


def test_recorded_answers_fit_steps_of_the_same_content() -> None:
    found = outcomes_by("cancellations name no reason", life=2)

    assert found["first"]["input"] == "cancel-order"
    assert found["matched"] and not found["imagined"]
    assert found["unclaimed"] == 0
    assert found["flow"]["imagined"] == found["flow"]["recorded"]


def test_simulators_answer_steps_that_nobody_asked_in_fact() -> None:
    found = outcomes_by("authorise a tenth more", life=0)

    assert found["imagined"]["authorise"] == 1
    assert found["unclaimed"] == 1  # The answer to the amount that is not asked for any more.
    assert found["matched"]["book"] >= 1  # The parcel is the same.


def test_shipments_keep_their_reports_under_other_ids() -> None:
    """One event more before it gives a shipment another id; its departure is still applied."""
    long = next(
        each
        for each in recorded()
        if "shipment-delivered" in {type_ for type_, _, _ in each.events} and "first" in _bulk(each)
    )
    found = _bulk(long)

    assert found["flow"]["imagined"] == found["flow"]["recorded"]
    types = [type_ for type_, _, _ in found["events"]]
    assert {type_ for type_, _, _ in long.events} - {"discount-applied"} <= {
        *types,
        *(type_ for type_, _, _ in long.events[: found["factual_events"]]),
    }


def _bulk(order: RecordedOrder) -> dict[str, Any]:
    with applied(changed("five per cent off from eight lines on")):
        return outcome(order)


def test_rejected_command_that_is_accepted_now_is_named() -> None:
    found = outcomes_by("orders can be cancelled after they have shipped", life=5)

    (change,) = found["changes"]
    assert (change["types"], change["now"]) == (["cancel-order"], "accepted")
    assert change["code"] == "already-shipped"


def test_deadline_of_other_rules_passes_by_itself() -> None:
    found = outcomes_by("a deadline for capture is ignored", life=7)

    assert found["first"]["input"] == "deadline-passed"
    assert found["first"]["imagined"]["events"] == []


def returned_on_day_ten(store: Shop) -> None:
    delivered(store)
    store.pass_time(10)
    send_back(store)
    store.end()


def test_earlier_deadline_passes_before_what_came_after_it() -> None:
    """The rest is as if the order had been made by the changed rules, with its money."""
    order = order_of(returned_on_day_ten)
    with applied(changed("five days to return")):
        real = order_of(returned_on_day_ten)
        found = json.loads(json.dumps(outcome(order)))

    assert found["first"]["input"] == "deadline-passed"
    assert [(change["now"], change["code"]) for change in found["changes"]] == [
        ("rejected", "not-allowed-now")
    ] * 3
    factual = order.events[: found["factual_events"]]
    assert [*map(list, factual), *found["events"]] == [*map(list, real.events)]
    refunded = {which: found["money"][which]["USD"]["refunded"] for which in found["money"]}
    assert refunded["recorded"] > 0 == refunded["imagined"]


def test_deadline_passes_between_inputs_that_come_all_the_time() -> None:
    """None of them comes a minute after the one before it."""
    shop = Shop(0, BASKET)
    delivered(shop)
    shop.now += timedelta(days=5, minutes=-1)
    for number in range(6):
        shop.now += timedelta(seconds=30)
        shop.tell(c.AddNote(note_id=f"note-{number}", text="Where is the bell?"))
    order = shop.recorded()

    assert "first" not in outcome(order, shop.now)
    with applied(changed("five days to return")):
        found = outcome(order, shop.now)
    assert found["first"]["input"] == "deadline-passed"
    assert found["factual_events"] < len(order.events)


def test_deadline_after_the_last_input_passes_before_the_end_of_the_log() -> None:
    order = order_of(delivered)
    end = datetime.fromisoformat(order.inputs[-1].at) + timedelta(days=20)

    assert "first" not in outcome(order, end)
    with applied(changed("five days to return")):
        found = outcome(order, end)
    assert found["first"]["input"] == "deadline-passed"
    assert found["factual_events"] == len(order.events)
    assert found["flow"]["imagined"] == ["confirmed", "completed"]


def test_order_that_no_worker_runs_is_told_from_one_that_other_rules_end() -> None:
    order = order_of(delivered)
    delivered_at = datetime.fromisoformat(order.inputs[-1].at)
    while_open, after = delivered_at + timedelta(days=20), delivered_at + timedelta(days=40)

    assert outcome(order, after)["differs_only_at_end"]
    assert missed_deadline(order.events, after)
    assert not missed_deadline(order.events, while_open)


def test_deadline_that_may_not_be_in_the_log_yet_is_no_difference() -> None:
    """Its event can be on its way when the log is read."""
    order = order_of(delivered)
    closes = datetime.fromisoformat(order.inputs[-1].at) + timedelta(days=30)

    assert "first" not in outcome(order, closes + timedelta(minutes=50))
    assert "first" in outcome(order, closes + timedelta(minutes=70))


def test_rules_that_ask_without_end_fail_on_the_order() -> None:
    endless = RuleChange(
        "endless",
        "orders.rules.results",
        "    if not short or order.status is Status.CANCELLING:\n",
        "    if True:\n",
    )
    short = recorded()[3]
    with applied(endless):
        found = outcome(short)

    assert found["failure"].endswith("the rules request steps without end")


def test_failure_of_rules_is_one_line() -> None:
    several_lines = RuleChange(
        "several lines",
        "orders.rules.draft",
        "            if not order.lines:\n",
        '            if order.lines:\n                raise ValueError("one\\ntwo")\n',
    )
    order = recorded()[0]
    with applied(several_lines):
        assert outcome(order)["failure"] == "ValueError: one two"


def first_intent(order: RecordedOrder, text: str | None) -> RecordedOrder:
    first = order.inputs[0]._replace(intent=text)
    return order._replace(inputs=[first, *order.inputs[1:]])


def test_entry_that_does_not_parse_any_more_is_named_without_its_content() -> None:
    intent = json.loads(recorded()[0].inputs[0].intent or "")
    intent["messages"][0]["nickname"] = "a secret"
    found = outcome(first_intent(recorded()[0], json.dumps(intent)))

    assert found["unreadable"].startswith("what came at 2026-03-01 12:00:01: ")
    assert "nickname" in found["unreadable"]
    assert "a secret" not in str(found)


def test_input_without_journal_is_taken_as_it_happened() -> None:
    order = first_intent(recorded()[0], None)

    assert order.without_journal == 1
    assert "first" not in outcome(order)
    assert outcome(order)["decisions"] < outcome(recorded()[0])["decisions"]


def test_late_deadline_is_no_difference() -> None:
    """After an outage, commands may come before a deadline that was due earlier."""
    order = next(each for each in recorded() if '"deadline-passed"' in str(each.inputs[-1].intent))
    at = (ENDED - timedelta(days=1)).isoformat()
    late = [*order.inputs[:-1], order.inputs[-1]._replace(at=at)]
    note = o.StepFailed(type="step-failed", step_id="none", reason="late")
    intent = json.dumps({"messages": [note.model_dump()]})

    found = outcome(
        order._replace(inputs=[*late[:-1], RecordedInput(at, intent, None, []), late[-1]])
    )
    assert "first" not in found
