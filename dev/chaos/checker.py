"""Judges a history: what was lost, done twice, made up, skipped, or never finished.

It knows the API's documented promises only, and imports nothing of the service.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dev.chaos.history import Attempt, History, Json, Message, trace_id

ORDERS = "/v1/orders"
CLIENT = "anonymous"  # The actor of commands that come without a token.
OK = (200, 201)
REJECTED = (409, 412)
UNAVAILABLE = (None, 408, 429, 503)
"""The outcome is unknown."""
RESULT_FIELDS = ("order_id", "version", "status", "total", "events")
MONEY = ("captured", "refunded", "authorised")
PIECES = {"held": "reserved", "withdrawn": "shipped", "returned": "returned"}
SHIPMENTS = {"planned": "booked", "dispatched": "gone"}
"""How the carrier calls the status of a shipment, where its name differs."""
TRANSIENT = ("placed", "cancelling")


@dataclass(frozen=True)
class Complaint:
    """One broken promise; `size` counts cents or pieces, else it is 1."""

    kind: str
    subject: str
    detail: str
    size: int = 1


@dataclass
class Command:
    """All attempts under one idempotency key, and the events in the feed that they caused."""

    key: str
    results: list[Json] = field(default_factory=list)
    answered_s: float = math.inf
    """When the first result came."""
    rejections: int = 0
    rejected_later: bool = False
    """Whether it was rejected although it was answered before."""
    unknown: int = 0
    queued_at: str | None = None
    """The path of its status, if it was acknowledged with a 202."""
    if_match: int | None = None
    events: list[Json] = field(default_factory=list)


def check(history: History) -> list[Complaint]:
    """All complaints; empty if every promise was kept."""
    commands = commands_of(history)
    return [
        *_check_responses(history.attempts),
        *(complaint for command in commands.values() for complaint in _check_command(command)),
        *_check_origins(history.feed, commands),
        *_check_versions("the feed", history.feed),
        *_check_followers(history),
        *_check_webhooks(history),
        *_check_messages(history),
        *_check_reads(history.attempts),
        *_check_orders(history),
        *_check_last_results(history, commands),
        *_check_ledgers(history),
        *(Complaint("stuck", "at the end", what) for what in history.stuck),
        *(Complaint("verify", "orderly verify", what) for what in history.differences),
        *_check_replays(history),
    ]


def commands_of(history: History) -> dict[str, Command]:
    """By idempotency key, every command that was sent."""
    commands: dict[str, Command] = {}
    for attempt in history.attempts:
        if attempt.method == "POST" and attempt.key:
            _add(commands.setdefault(attempt.key, Command(attempt.key)), attempt)
    queued = {c.queued_at: c for c in commands.values() if c.queued_at}
    for attempt in history.attempts:
        if attempt.method == "GET" and attempt.status == 200 and attempt.path in queued:
            command, state = queued[attempt.path], attempt.response["state"]
            if state == "done":
                command.results.append(attempt.response["result"])
            command.rejections += state == "rejected"
    by_trace = {trace_id(key): command for key, command in commands.items()}
    for event in history.feed:
        if event["actor"] == CLIENT and event["correlationid"] in by_trace:
            by_trace[event["correlationid"]].events.append(event)
    return commands


def _add(command: Command, attempt: Attempt) -> None:
    command.if_match = attempt.if_match
    if attempt.status in OK:
        command.results.append(attempt.response)
        command.answered_s = min(command.answered_s, attempt.ended_s)
    elif attempt.status == 202:
        command.queued_at = attempt.response["href"]
    elif attempt.status in REJECTED:
        command.rejections += 1
        command.rejected_later |= attempt.began_s > command.answered_s
    else:
        command.unknown += 1


def _check_responses(attempts: list[Attempt]) -> Iterator[Complaint]:
    """No 5xx but 503; and no order, cursor or request is suddenly unknown or invalid."""
    for attempt in attempts:
        expected = (*OK, *UNAVAILABLE, *((202, *REJECTED) if attempt.method == "POST" else (304,)))
        if attempt.status not in expected:
            kind = "5xx" if attempt.status and attempt.status >= 500 else "status"
            detail = f"{attempt.status} {attempt.response.get('detail', '')}"
            yield Complaint(kind, f"{attempt.method} {attempt.path}", detail)


def _check_command(command: Command) -> Iterator[Complaint]:
    """An acknowledged command happened exactly once, any other at most once."""
    results = [{name: result[name] for name in RESULT_FIELDS} for result in command.results]
    if results:
        yield from _check_acknowledged(command, results)
        return
    if command.queued_at:
        if not command.rejections:
            yield Complaint("lost", command.key, "was acknowledged with 202, and has no result")
    elif command.events and command.rejections and not command.unknown:
        yield Complaint("phantom", command.key, "was rejected, and its events are in the feed")
    seen = Counter(repr((e["type"], e["data"])) for e in command.events)
    repeated = [event for event, times in seen.items() if times > 1]
    if repeated or len({e["subject"] for e in command.events}) > 1:
        yield Complaint("twice", command.key, f"unknown outcome, repeated: {repeated}")


def _check_acknowledged(command: Command, results: list[dict[str, Any]]) -> Iterator[Complaint]:
    first = results[0]
    for other in results[1:]:
        if other != first:
            yield Complaint("answer", command.key, f"first {first}, then {other}")
    if command.rejected_later:
        yield Complaint("answer", command.key, "was acknowledged, and rejected later")
    told = {(first["order_id"], e["version"], e["type"]) for e in first["events"]}
    found = Counter((e["subject"], int(e["sequence"]), _tag(e)) for e in command.events)
    for event in sorted(told - found.keys()):
        yield Complaint("lost", command.key, f"acknowledged, and not in the feed: {event}")
    for event in sorted((found - Counter(told)).elements()):
        yield Complaint("twice", command.key, f"in the feed, and not acknowledged: {event}")
    before = first["version"] - len(first["events"])
    if command.if_match is not None and before != command.if_match:
        yield Complaint("answer", command.key, f"If-Match {command.if_match} passed at {before}")


def _tag(event: Json) -> str:
    """`item-added` of `orderly.order.item-added.v1`."""
    return str(event["type"].split(".")[-2])


def _check_origins(feed: list[Json], commands: Mapping[str, Command]) -> Iterator[Complaint]:
    """Every event of a client, and every order, comes from a command that was sent."""
    traces = {trace_id(key) for key in commands}
    opened = {event["subject"] for event in feed if _tag(event) == "order-opened"}
    for event in feed:
        is_client = event["actor"] == CLIENT
        if (is_client and event["correlationid"] not in traces) or event["subject"] not in opened:
            yield Complaint("phantom", event["id"], f"no command sent causes {event['type']}")


def _check_versions(reader: str, events: list[Json]) -> Iterator[Complaint]:
    """The events of each order come once, in order, without a gap."""
    heads: Counter[str] = Counter()
    for event in events:
        version, subject = int(event["sequence"]), event["subject"]
        if version != heads[subject] + 1:
            yield Complaint("gap", reader, f"{subject}: {version} after {heads[subject]}")
        heads[subject] = version


def _check_followers(history: History) -> Iterator[Complaint]:
    """Each follower saw what the feed has, in the same order."""
    for name, events in history.followers.items():
        pairs = zip(events, history.feed, strict=False)
        for place, (seen, expected) in enumerate(pairs):
            if seen["id"] != expected["id"]:
                yield Complaint("gap", name, f"{place}: {seen['id']}, not {expected['id']}")
                break
        else:
            if missing := abs(len(history.feed) - len(events)):
                yield Complaint("gap", name, f"{len(events)} of {len(history.feed)}", missing)


def _check_webhooks(history: History) -> Iterator[Complaint]:
    """Each event of the feed arrived at least once, as it is there, and in order per order."""
    feed = {event["id"]: event for event in history.feed}
    first: dict[str, Json] = {}
    for event in history.webhooks:
        first.setdefault(event["id"], event)
        if event != feed.get(event["id"]):
            yield Complaint("webhook", event["id"], "arrived, and is not so in the feed")
    for event_id in feed.keys() - first.keys():
        yield Complaint("webhook", event_id, "is in the feed, and never arrived")
    yield from _check_order("webhook", "arrived", first.values())
    for what in history.unsigned:
        yield Complaint("webhook", "signature", what)


def _check_messages(history: History) -> Iterator[Complaint]:
    """Each event of the feed was published, in order per order; twice only under the same id."""
    feed = {event["id"]: event for event in history.feed}
    first: dict[str, Message] = {}
    for message in history.messages:
        event_id = message.event.get("id", "")
        first.setdefault(event_id, message)
        if event_id not in feed:
            yield Complaint("message", event_id, "was published, and is not in the feed")
        elif message != Message(_subject(feed[event_id]), event_id, _sealed(feed[event_id])):
            yield Complaint("message", event_id, f"was published as {message}")
    for event_id in feed.keys() - first.keys():
        yield Complaint("message", event_id, "is in the feed, and was never published")
    published = [message.event for message in first.values() if message.event.get("id") in feed]
    yield from _check_order("message", "published", published)


def _subject(event: Json) -> str:
    return f"{event['type']}.{event['subject']}"


def _sealed(event: Json) -> Json:
    """An event as a broker has it: without addresses."""
    sealed = {"address": {"unreadable": True}} if event["data"].get("address") else {}
    return {**event, "data": {**event["data"], **sealed}}


def _check_order(kind: str, how: str, events: Iterable[Json]) -> Iterator[Complaint]:
    """The events of each order came in the order of their versions."""
    heads: Counter[str] = Counter()
    for event in events:
        version, subject = int(event["sequence"]), event["subject"]
        if version < heads[subject]:
            yield Complaint(kind, event["id"], f"{how} after version {heads[subject]}")
        heads[subject] = version


def _check_reads(attempts: list[Attempt]) -> Iterator[Complaint]:
    """A read has at least the version that it asks for."""
    for attempt in attempts:
        wanted = int(attempt.query.get("min_version", 0))
        if attempt.status == 200 and wanted > attempt.response.get("version", wanted):
            version = attempt.response["version"]
            yield Complaint("stale", attempt.path, f"version {version}, not {wanted}")


def _check_orders(history: History) -> Iterator[Complaint]:
    """Each order is shown at its last version and waits for no service or person."""
    heads = {event["subject"]: int(event["sequence"]) for event in history.feed}
    shown = {order["order_id"]: order for order in history.orders}
    for order_id in heads.keys() | shown.keys():
        order = shown.get(order_id, {"version": 0})
        if order["version"] != heads.get(order_id, 0):
            detail = f"shown at {order['version']}, in the feed at {heads.get(order_id, 0)}"
            yield Complaint("stale", order_id, detail)
    for order_id, order in shown.items():
        if unfinished := unsettled(order):
            yield Complaint("stuck", order_id, unfinished)


def _check_last_results(history: History, commands: Mapping[str, Command]) -> Iterator[Complaint]:
    """An order that has not changed since a command is shown as the command's result said."""
    shown = {(order["order_id"], order["version"]): order for order in history.orders}
    for command in commands.values():
        for result in command.results:
            order = shown.get((result["order_id"], result["version"]), result)
            if (order["status"], order["total"]) != (result["status"], result["total"]):
                yield Complaint("stale", command.key, f"{result}, shown with {order['total']}")


def unsettled(order: Json) -> str:
    """What an order waits for, other than its customer or the shop; empty if it is settled."""
    payment = order["payment"]
    steps = [step["step_id"] for step in order["pending"]]
    attention = [item["reason"] for item in order["needs_attention"]]
    owed = payment["earned"] - payment["captured"] + payment["refunded"]
    if steps or attention or owed or order["status"] in TRANSIENT:
        return f"{order['status']}, pending {steps}, attention {attention}, {owed} cents owed"
    return ""


def _check_ledgers(history: History) -> Iterator[Complaint]:
    """Payments, stock and carrier recorded what the orders show."""
    shown = {order["order_id"]: order for order in history.orders}
    for service, compare in (("payments", _cents), ("stock", _pieces), ("shipping", _shipments)):
        ledger = history.ledgers.get(service, {})
        for order_id in shown.keys() | ledger.keys():
            of_order, of_service = compare(shown.get(order_id), ledger.get(order_id, {}))
            for name in sorted(of_order.keys() | of_service.keys()):
                ours, theirs = of_order[name], of_service[name]
                if ours != theirs:
                    detail = f"{name}: {ours} in the order, {theirs} in {service}"
                    yield Complaint(compare.__name__[1:], order_id, detail, abs(ours - theirs))


def _cents(order: Json | None, ledger: Json) -> tuple[Counter[str], Counter[str]]:
    ours: Counter[str] = Counter()
    if order:
        payment = order["payment"]
        ours.update({name: payment[name] for name in MONEY})
        ours["authorised"] -= payment["captured"] + payment["voided"]
    return ours, Counter({name: ledger.get(name, 0) for name in MONEY})


def _pieces(order: Json | None, ledger: Json) -> tuple[Counter[str], Counter[str]]:
    ours: Counter[str] = Counter()
    for line in order["lines"] if order else ():
        for recorded, name in PIECES.items():
            ours[f"{recorded} {line['sku']}"] += line[name]
    kinds = {kind: ledger.get(kind, {}) for kind in PIECES}
    return ours, Counter(
        {f"{kind} {sku}": n for kind, by in kinds.items() for sku, n in by.items()}
    )


def _shipments(order: Json | None, ledger: Json) -> tuple[Counter[str], Counter[str]]:
    ours = [(s["shipment_id"], s["status"]) for s in (order["shipments"] if order else ())]
    theirs = Counter(f"{name} {shipment['status']}" for name, shipment in ledger.items())
    return Counter(f"{name} {SHIPMENTS.get(status, status)}" for name, status in ours), theirs


def _check_replays(history: History) -> Iterator[Complaint]:
    """Each order was replayed, whole: else it stands still when the next worker takes it over."""
    for failure in history.unreplayable:
        yield Complaint("replay", "a history", failure)
    for order in history.orders:
        if not history.runs.get(order["order_id"]):
            yield Complaint("replay", order["order_id"], "Temporal has no history of it")
