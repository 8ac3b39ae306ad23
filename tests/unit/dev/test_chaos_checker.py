"""The chaos checker complains of every broken promise, and of nothing else."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest

from dev.chaos.checker import check
from dev.chaos.history import Attempt, History, Message, trace_id
from dev.chaos.schedule import schedule
from dev.chaos.workload import plan

PATH = "/v1/orders/ord_1"
NOTE = f"{PATH}/commands/add-note"
STATUS = f"{PATH}/commands/async/1"


def event(
    version: int, type: str, key: str, actor: str = "anonymous", **data: Any
) -> dict[str, Any]:
    return {
        "id": f"ord_1@{version}",
        "subject": "ord_1",
        "sequence": f"{version:010}",
        "type": f"orderly.order.{type}.v1",
        "correlationid": trace_id(key),
        "actor": actor,
        "data": data,
    }


def result(version: int, *types: str) -> dict[str, Any]:
    first = version - len(types) + 1
    events = [{"version": first + n, "type": type} for n, type in enumerate(types)]
    return {
        "order_id": "ord_1",
        "version": version,
        "status": "confirmed",
        "total": 300,
        "events": events,
    }


def post(path: str, key: str, status: int | None, response: Any = None, **more: Any) -> Attempt:
    return Attempt("POST", path, status, response or {}, key, **more)


def clean() -> History:
    """One order, opened, paid, shipped and annotated by commands of every outcome."""
    feed = [
        event(1, "order-opened", "open"),
        event(2, "order-placed", "open"),
        event(3, "payment-authorised", "open", "payments"),
        event(4, "note-added", "note", text="Ring twice."),
        event(5, "note-added", "queued", text="Mind the dog."),
        event(6, "note-added", "unknown", text="Or not."),
    ]
    payment = {"earned": 100, "captured": 150, "refunded": 50, "authorised": 300, "voided": 0}
    order = {
        "order_id": "ord_1",
        "version": 6,
        "status": "confirmed",
        "total": 300,
        "pending": [],
        "needs_attention": [],
        "payment": payment,
        "lines": [{"sku": "MILK", "reserved": 1, "shipped": 2, "returned": 0}],
        "shipments": [{"shipment_id": "s1", "status": "dispatched", "tracking": "T"}],
    }
    return History(
        attempts=[
            post("/v1/orders", "open", None),
            post("/v1/orders", "open", 201, result(2, "order-opened", "order-placed")),
            post(NOTE, "note", 503),
            post(NOTE, "note", 200, result(4, "note-added"), if_match=3, began_s=1, ended_s=2),
            post(NOTE, "queued", 202, {"href": STATUS}),
            Attempt("GET", STATUS, 200, {"state": "pending"}),
            Attempt("GET", STATUS, 200, {"state": "done", "result": result(5, "note-added")}),
            post(NOTE, "unknown", None),
            post(NOTE, "rejected", 409),
            post(NOTE, "no-op", 200, result(6)),
            Attempt("GET", PATH, 200, {"version": 6}, query={"min_version": "6"}),
        ],
        feed=feed,
        followers={"pages": list(feed), "stream": list(feed)},
        webhooks=[*feed[:3], *feed[1:]],
        messages=[*map(message, feed[:3]), *map(message, feed[1:])],
        orders=[order],
        ledgers={
            "payments": {"ord_1": {"captured": 150, "refunded": 50, "authorised": 150}},
            "stock": {"ord_1": {"held": {"MILK": 1}, "withdrawn": {"MILK": 2}, "returned": {}}},
            "shipping": {"ord_1": {"s1": {"status": "gone"}}},
        },
        runs={"ord_1": 2},
    )


def message(event: dict[str, Any]) -> Message:
    """An event as a broker has it."""
    return Message(f"{event['type']}.{event['subject']}", event["id"], event)


def append(history: History, *events: dict[str, Any]) -> None:
    """Adds events everywhere, as if they had been published."""
    history.feed += events
    history.messages += map(message, events)
    for seen in (*history.followers.values(), history.webhooks):
        seen += events
    history.orders[0]["version"] += len(events)


def lose_the_last_event(history: History) -> None:
    for events in (history.feed, *history.followers.values(), history.webhooks):
        events.pop()
    history.messages.pop()
    history.orders[0]["version"] -= 1
    history.attempts[-2] = post(NOTE, "unknown", 200, result(6, "note-added"))
    history.attempts.pop()


def answer_differently(history: History) -> None:
    history.attempts.append(post(NOTE, "note", 200, {**result(4, "note-added"), "total": 1}))


def reject_after_an_acknowledgement(history: History) -> None:
    history.attempts.append(post(NOTE, "note", 409, began_s=3, ended_s=4))


def pass_a_wrong_if_match(history: History) -> None:
    history.attempts[3] = replace(history.attempts[3], if_match=2)


def never_finish_a_queued_command(history: History) -> None:
    del history.attempts[6]
    history.attempts.append(post("/v1/orders", "queued", None))


def shift(history: History, service: str, ledger: dict[str, Any]) -> None:
    history.ledgers[service]["ord_1"] |= ledger


def skip_a_version(history: History) -> None:
    append(history, event(8, "shipment-dispatched", "open", "shipping"))
    history.orders[0]["version"] = 8


def book_another_shipment(history: History) -> None:
    history.ledgers["shipping"]["ord_1"]["s2"] = {"status": "booked"}


def name_an_address(history: History) -> None:
    """In the feed it is readable, as it is at the broker."""
    history.feed[0]["data"]["address"] = {"city": "London"}


DOCTORED: list[tuple[str, str, int, Callable[[History], object]]] = [
    ("lost", "an acknowledged event is not in the feed", 1, lose_the_last_event),
    ("lost", "a queued command has no result", 1, never_finish_a_queued_command),
    (
        "twice", "an acknowledged command has another event", 1,
        lambda h: append(h, event(7, "note-added", "note", text="Ring twice.")),
    ),
    (
        "twice", "a command of unknown outcome is repeated", 1,
        lambda h: append(h, event(7, "note-added", "unknown", text="Or not.")),
    ),
    (
        "twice", "a no-op has an event", 1,
        lambda h: append(h, event(7, "note-added", "no-op", text="?")),
    ),
    (
        "phantom", "a rejected command has an event", 1,
        lambda h: append(h, event(7, "note-added", "rejected", text="?")),
    ),
    (
        "phantom", "an event without a command", 1,
        lambda h: append(h, event(7, "note-added", "never sent", text="?")),
    ),
    ("answer", "the same key, another answer", 1, answer_differently),
    ("answer", "acknowledged, rejected later", 1, reject_after_an_acknowledgement),
    ("answer", "If-Match is ignored", 1, pass_a_wrong_if_match),
    ("gap", "a follower skipped an event", 1, lambda h: h.followers["pages"].pop(2)),
    ("gap", "a follower stands still", 2, lambda h: h.followers.update(stream=h.feed[:4])),
    ("gap", "a follower got an event twice", 1, lambda h: h.followers["pages"].append(h.feed[-1])),
    (
        "gap", "a version is missing in the feed", 1,
        skip_a_version,
    ),
    ("webhook", "an event never arrived", 1, lambda h: h.webhooks.pop()),
    (
        "webhook", "an event arrived before an earlier one", 1,
        lambda h: h.webhooks.insert(2, h.feed[3]),
    ),
    (
        "webhook", "an event arrived with other data", 1,
        lambda h: h.webhooks.append({**h.feed[0], "data": {"customer_id": "c"}}),
    ),
    ("webhook", "an event was made up", 1, lambda h: h.webhooks.append({**h.feed[5], "id": "?"})),
    ("webhook", "a webhook has no valid signature", 1, lambda h: h.unsigned.append("ord_1@1")),
    ("message", "an event was never published", 1, lambda h: h.messages.pop()),
    (
        "message", "an event was published before an earlier one", 1,
        lambda h: h.messages.insert(2, message(h.feed[3])),
    ),
    (
        "message", "an event was published again under another id", 1,
        lambda h: h.messages.append(message(h.feed[0])._replace(event_id="ord_1@2")),
    ),
    (
        "message", "an event was published without an id", 1,
        lambda h: h.messages.append(message(h.feed[0])._replace(event_id=None)),
    ),
    (
        "message", "an event was published under the subject of another", 1,
        lambda h: h.messages.append(message(h.feed[0])._replace(subject=h.feed[1]["type"])),
    ),
    (
        "message", "a message was made up", 1,
        lambda h: h.messages.append(message({**h.feed[5], "id": "?"})),
    ),
    ("message", "an address was published", 1, lambda h: name_an_address(h)),
    (
        "stale", "a read is older than it asks for", 1,
        lambda h: h.attempts.append(
            Attempt("GET", PATH, 200, {"version": 5}, query={"min_version": "6"})
        ),
    ),
    ("stale", "an order is shown at an old version", 1, lambda h: h.orders[0].update(version=5)),
    ("stale", "an order is shown with another total", 1, lambda h: h.orders[0].update(total=301)),
    ("cents", "payments captured more", 7, lambda h: shift(h, "payments", {"captured": 157})),
    ("pieces", "stock still holds pieces", 2, lambda h: shift(h, "stock", {"held": {"MILK": 3}})),
    ("shipments", "the carrier has another", 1, book_another_shipment),
    ("stuck", "a step is pending", 1, lambda h: h.orders[0]["pending"].append({"step_id": "x"})),
    ("stuck", "money is owed", 1, lambda h: h.orders[0]["payment"].update(earned=101)),
    ("stuck", "a shopper waits", 1, lambda h: h.stuck.append("a shopper waits")),
    ("5xx", "a read fails", 1, lambda h: h.attempts.append(Attempt("GET", PATH, 500))),
    ("status", "an order is forgotten", 1, lambda h: h.attempts.append(Attempt("GET", PATH, 404))),
    ("verify", "verify finds a difference", 1, lambda h: h.differences.append("ord_1: differs")),
    ("replay", "a history does not replay", 1, lambda h: h.unreplayable.append("ord_1, run 1")),
    ("replay", "a history is missing", 1, lambda h: vars(h).update(runs={})),
]  # fmt: skip


def test_clean_history_has_no_complaint() -> None:
    assert check(clean()) == []


@pytest.mark.parametrize(
    ("kind", "size", "doctor"), [pytest.param(k, s, d, id=what) for k, what, s, d in DOCTORED]
)
def test_doctored_history_has_one_complaint(
    kind: str, size: int, doctor: Callable[[History], object]
) -> None:
    history = clean()
    doctor(history)
    complaints = check(history)
    assert [(complaint.kind, complaint.size) for complaint in complaints] == [(kind, size)]


def test_second_order_of_one_opening_is_done_twice() -> None:
    history = clean()
    copy = {**deepcopy(history.feed[0]), "subject": "ord_2", "id": "ord_2@1"}
    history.feed.append(copy)
    for seen in (*history.followers.values(), history.webhooks):
        seen.append(copy)
    history.messages.append(message(copy))
    history.orders.append({**deepcopy(history.orders[0]), "order_id": "ord_2", "version": 1})
    for ledger in history.ledgers.values():
        ledger["ord_2"] = ledger["ord_1"]
    history.runs = {"ord_1": 1, "ord_2": 1}
    assert [complaint.kind for complaint in check(history)] == ["twice"]


def test_same_seed_gives_same_faults_and_orders() -> None:
    assert list(islice(schedule(7), 30)) == list(islice(schedule(7), 30))
    assert list(islice(schedule(7), 30)) != list(islice(schedule(8), 30))
    assert [plan("a", 7, 1, n)[0] for n in range(20)] == [plan("a", 7, 1, n)[0] for n in range(20)]


def test_each_round_of_faults_has_all_kinds() -> None:
    faults = [fault for step in islice(schedule(7), 80) for fault in step.faults][:35]
    assert len({(fault.kind, fault.target) for fault in faults if fault.kind != "lock"}) == 33
