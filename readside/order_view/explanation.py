"""Why an order is where it is: the question that people ask of it, and the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, NamedTuple, Protocol

from orders.events import LineCount
from orders.lifecycle import Status
from readside.order_view.document import Attention, OrderDocument, PendingStep
from readside.order_view.waiting_words import STEPS, service_of
from readside.order_view.words import Words, as_written, clause, joined

Urgency = Literal["attention", "decision", "progress", "rest"]
"""Who is next: a person, who has to settle something; a person, who has to decide; no person, as
the order goes on by itself; or none, as it has not been placed, or is ending or has ended."""

NOT_PLACED = "Why has it not been placed?"
NOT_PAID = "Why has it not been paid?"
NOT_SHIPPED = "Why has it not shipped?"
NOT_REFUNDED = "Why has it not been refunded?"
NOT_COMPLETED = "Why is it not completed?"
NOT_ENDED = "Why has it not ended?"
OUTCOME = "What became of it?"
_STUCK = {
    "authorise": NOT_PAID,
    "capture": NOT_PAID,
    "refund": NOT_REFUNDED,
    **dict.fromkeys(("void", "release", "stop"), NOT_ENDED),
    **dict.fromkeys(("withdraw", "restock"), NOT_COMPLETED),
}
"""By type of a stuck step, the question; for all others, NOT_SHIPPED."""
_OTHERWISE = (
    "Without an answer, an unpaid amendment is reverted, or else what has not left is cancelled."
)
_NO_REASON = "no reason was given"


class Explanation(NamedTuple):
    """A question and its answer."""

    question: str
    urgency: Urgency
    sentences: Sequence[str]


class Tries(Protocol):
    """How often a service was called for a step, and when it is next."""

    @property
    def begun(self) -> int: ...
    @property
    def next_at(self) -> datetime | None: ...


def explain(
    order: OrderDocument, words: Words, tries: Mapping[str, Tries] | None = None
) -> Explanation:
    """The question that people are most likely to ask of the order as it is, and the answer.

    `tries` are those of its steps by id, as far as they are known.
    """
    found = (
        _attention(order, words, tries or {}),
        _held(order, words),
        _customer(order, words),
        _ending(order, words),
        _draft(order, words),
        _under_way(order, words),
        _delivered(order, words),
    )
    return next(one for one in found if one is not None)


def _answer(question: str, urgency: Urgency, *sentences: str | None) -> Explanation:
    return Explanation(question, urgency, [one for one in sentences if one])


def _attention(order: OrderDocument, w: Words, tries: Mapping[str, Tries]) -> Explanation | None:
    by_kind: dict[str, list[Attention]] = {}
    for one in order.needs_attention:
        by_kind.setdefault(one.kind, []).append(one)
    if "unpaid" in by_kind:
        return _unpaid(by_kind["unpaid"][0], order, w)
    if "chargeback" in by_kind:
        (chargeback, *_) = by_kind["chargeback"]
        taken = f"The customer's bank took back {w.money(chargeback.amount or 0)}"
        return _answer(
            NOT_PAID,
            "attention",
            f"{taken}{_since(chargeback, w)}: {clause(chargeback.reason)}.",
            "Answer it at the payment service, which reports its outcome.",
        )
    if "stuck-step" in by_kind:
        stuck = [step for step in order.pending if step.reason is not None]
        return _stuck(stuck, order, w, tries.get(stuck[0].step_id))
    if not order.needs_attention:
        return None
    (first, *_) = order.needs_attention
    return _answer(
        NOT_COMPLETED,
        "attention",
        f"{_capital(clause(first.reason))}{_since(first, w)}.",
        f"To settle it: {first.remedy}.",
    )


def _unpaid(unpaid: Attention, order: OrderDocument, w: Words) -> Explanation:
    missing = f"Goods were shipped, and {w.money(unpaid.amount or 0)} of their payment is missing"
    declined = order.payment.decline_reason
    return _answer(
        NOT_PAID,
        "attention",
        f"{missing}{_since(unpaid, w)}.",
        declined and f"The payment service declined: {clause(declined)}.",
        "Retry the payment once the customer has another payment method.",
    )


def _stuck(
    stuck: Sequence[PendingStep], order: OrderDocument, w: Words, tries: Tries | None
) -> Explanation:
    (first, *_) = stuck
    same = [one for one in stuck if (one.type, one.reason) == (first.type, first.reason)]
    times = f" ({len(same)} steps)" if len(same) > 1 else ""
    since = f", since {w.time(first.stuck_since)}" if first.stuck_since else ""
    others = len(stuck) - len(same)
    deadline = order.deadline
    return _answer(
        _STUCK.get(first.type, NOT_SHIPPED),
        "attention",
        f"{_task(first)}{times}, and does not{since}: {clause(first.reason or '')}.",
        f"{others} other step{'s are' if others > 1 else ' is'} stuck, too." if others else None,
        _tried(tries, w),
        f"The payment is captured by {w.time(deadline.at)} at the latest."
        if deadline and deadline.name == "capture"
        else None,
    )


def _tried(tries: Tries | None, w: Words) -> str:
    at_once = "and at once on `retry-step`."
    if tries is None:
        return f"It is tried again and again by itself, {at_once}"
    times = f"It was tried {tries.begun:,} time{'s' * (tries.begun != 1)}"
    if tries.next_at is None:
        return f"{times}, and a call is under way or due."
    return f"{times}. It is tried next at {w.time(tries.next_at)}, {at_once}"


def _held(order: OrderDocument, w: Words) -> Explanation | None:
    if order.status != Status.ON_HOLD:
        return None
    since = f" since {w.time(order.held_since)}" if order.held_since else ""
    reason = clause(order.hold_reason or _NO_REASON)
    held = f"It is on hold{since}: {reason}."
    return _answer(NOT_SHIPPED, "decision", held, "`release-order` continues it.")


def _customer(order: OrderDocument, w: Words) -> Explanation | None:
    until = f" until {w.time(order.deadline.at)}" if order.deadline else ""
    if order.awaits == "payment":
        declined = order.payment.decline_reason
        since = f" on {w.time(order.awaits_since)}" if order.awaits_since else ""
        return _answer(
            NOT_PAID,
            "decision",
            f"Its payment failed{since}: {clause(declined or _NO_REASON)}.",
            f"The customer can pay by another method{until}.",
            _OTHERWISE,
        )
    if order.awaits == "shortfall":
        return _answer(
            NOT_SHIPPED,
            "decision",
            f"Not in stock: {w.pieces(order.missing)}.",
            f"The customer can accept what there is{until}.",
            "Without an answer, what has not left is cancelled.",
        )
    return None


def _ending(order: OrderDocument, w: Words) -> Explanation | None:
    reason = f" ({clause(order.cancel_reason)})" if order.cancel_reason else ""
    money = order.payment
    match order.status:
        case Status.CANCELLING:
            return _answer(NOT_ENDED, "rest", f"It is being cancelled{reason}.", *_running(order))
        case Status.CANCELLED:
            kept = f"Of {w.money(money.captured)} captured, {w.money(money.refunded)} went back."
            pending = f"A refund of {w.money(money.refund_pending)} is under way."
            return _answer(
                OUTCOME,
                "rest",
                f"It was cancelled{reason}.",
                kept if money.captured else "Nothing was captured.",
                pending if money.refund_pending else None,
            )
        case Status.EXPIRED:
            return _answer(OUTCOME, "rest", "The draft was not placed in time.")
        case Status.COMPLETED:
            paid = f"It is completed, and {w.money(money.captured - money.refunded)} were paid."
            return _answer(OUTCOME, "rest", paid, *_running(order))
    return None


def _draft(order: OrderDocument, w: Words) -> Explanation | None:
    if order.status != Status.DRAFT:
        return None
    expires = f"It expires on {w.time(order.deadline.at)}." if order.deadline else None
    return _answer(NOT_PLACED, "rest", "It is a draft, which may still change.", expires)


def _under_way(order: OrderDocument, w: Words) -> Explanation | None:
    """Before all of it has arrived."""
    planned = [one for one in order.shipments if one.status == "planned"]
    is_booking = {"book", "stop", "reserve", "authorise"} & {step.type for step in order.pending}
    if order.pending and (is_booking or not order.shipments):
        return _answer(NOT_SHIPPED, "progress", *_running(order))
    if planned:
        where = joined(sorted({as_written(one.location) for one in planned}))
        waits = (
            "A booked shipment waits"
            if len(planned) == 1
            else f"{len(planned)} booked shipments wait"
        )
        capturable = order.payment.capturable
        later = f"{w.money(capturable)} are authorised, and captured when their goods leave."
        return _answer(
            NOT_SHIPPED,
            "progress",
            f"{waits} at {where} for the carrier.",
            later if capturable else None,
        )
    travelling = [one for one in order.shipments if one.status == "dispatched"]
    if travelling:
        pieces = sum(_count(one.lines) for one in travelling)
        numbers = [as_written(one.tracking) for one in travelling if one.tracking]
        on_the_way = f"{_pieces(pieces)} {'are' if pieces != 1 else 'is'} on the way."
        tracking = f"Tracking: {joined(numbers)}." if numbers else None
        return _answer(NOT_COMPLETED, "progress", on_the_way, tracking)
    return None


def _delivered(order: OrderDocument, w: Words) -> Explanation:
    """Also of an order of which nothing is left to ship."""
    for back in order.returns:
        if back.status == "requested":
            asked = f"A return of {_pieces(_count(back.lines))} waits for approval."
            return _answer(NOT_COMPLETED, "decision", asked)
    for back in order.returns:
        if back.status == "approved":
            coming = f"A return of {_pieces(_count(back.lines))} is approved, and on its way."
            return _answer(NOT_COMPLETED, "progress", coming)
    if order.deadline and order.deadline.name == "return-window":
        delivered = f"It was delivered, and can be returned until {w.time(order.deadline.at)}."
        return _answer(NOT_COMPLETED, "progress", delivered, "Then it is completed.")
    running = _running(order) or ["It waits for nothing."]
    return _answer(NOT_COMPLETED, "progress", *running)


def _running(order: OrderDocument) -> list[str]:
    """What services have not answered yet: the first step stands for all."""
    if not order.pending:
        return []
    (first, *others) = order.pending
    more = f"; {len(others)} more step{'s run' if len(others) > 1 else ' runs'} beside it"
    return [f"{_task(first)}{more if others else ''}."]


def _task(step: PendingStep) -> str:
    return f"{_capital(service_of(step.type))} has to {STEPS[step.type]}"


def _since(attention: Attention, w: Words) -> str:
    return f", since {w.time(attention.since)}" if attention.since else ""


def _count(lines: Sequence[LineCount]) -> int:
    return sum(line.quantity for line in lines)


def _pieces(number: int) -> str:
    return f"{number:,} piece{'s' * (number != 1)}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
