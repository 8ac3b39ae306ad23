"""What an order answers, and how long it remembers having answered it."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from eventlog.envelope import Envelope
from orders.commands import COMMAND_TYPES, OrderCommand, type_of
from orders.order import Order
from tests.support.given import add_bagels, add_note, apply_welcome, but, cancel, open_order, place
from workflows.command_handler import Rejected, decide_batch
from workflows.idempotency import (
    REJECTIONS_MAX,
    REMEMBER_AT_LEAST,
    REMEMBER_AT_MOST,
    REMEMBER_FOR,
    StoredRejection,
    StoredResult,
    from_stream,
    packed,
    packed_rejections,
    recent,
    result_of,
    unpacked,
    unpacked_rejections,
)
from workflows.messages import CommandBatch, CommandResult, Rejection

NOW = datetime(2017, 1, 2, 12, 0, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)
RANDOM = Random("as unlike one another as hashes are")


def hash_() -> str:
    """As long as a hash of the API: 96 bits in base32."""
    return base64.b32encode(RANDOM.randbytes(12)).decode().rstrip("=").lower()


def noise(bytes: int) -> str:
    """Text that no compression makes shorter than `bytes`."""
    return base64.urlsafe_b64encode(RANDOM.randbytes(bytes)).decode()


def attempt() -> str:
    """As long as an attempt id of the API: 72 bits in base64."""
    return noise(9)


def remembered(number: int, age: timedelta = timedelta(0), events: int = 1) -> StoredResult:
    """The `number`th answer of an order that grows by one item each time."""
    last = number + events - 1
    return StoredResult(
        command_id=hash_(),
        at=NOW - age,
        answer=CommandResult(
            version=last,
            status="draft",
            total=number * RANDOM.randrange(1_000),
            currency="USD",
            event_types=["item-added"] * events,
            payload_hash=hash_(),
            attempt_id=attempt(),
        ),
    )


def many(count: int, age: timedelta) -> list[StoredResult]:
    return [remembered(number, age) for number in range(2, count + 2)]


OPENING = remembered(1, age=timedelta(days=365))


@pytest.mark.parametrize(
    "later",
    [
        [],
        many(3, timedelta(days=30)),
        many(REMEMBER_AT_LEAST, timedelta(days=30)),
        many(REMEMBER_AT_MOST, REMEMBER_FOR),
        many(10, timedelta(days=30)) + many(REMEMBER_AT_LEAST - 10, timedelta(0)),
    ],
    ids=["opening only", "a few", "a thousand", "a full day", "a thousand, some old"],
)
def test_what_is_young_or_few_is_remembered(later: list[StoredResult]) -> None:
    assert recent([OPENING, *later], NOW) == [OPENING, *later]


def test_of_old_answers_the_last_thousand_and_the_opening_are_remembered() -> None:
    old = many(REMEMBER_AT_LEAST + 7, REMEMBER_FOR + MOMENT)
    assert recent([OPENING, *old], NOW) == [OPENING, *old[7:]]


def test_young_answers_push_out_old_ones_only() -> None:
    old, young = many(500, REMEMBER_FOR + MOMENT), many(REMEMBER_AT_LEAST + 500, REMEMBER_FOR)
    assert recent([OPENING, *old, *young], NOW) == [OPENING, *young]


def test_even_of_young_answers_only_so_many_are_remembered() -> None:
    young = many(REMEMBER_AT_MOST + 7, timedelta(0))
    assert recent([OPENING, *young], NOW) == [OPENING, *young[7:]]


def test_what_is_packed_can_be_unpacked() -> None:
    answers = {a.command_id: a for a in [OPENING, *many(20, timedelta(days=2))]}
    again = unpacked(packed(answers, NOW))
    assert again == answers
    assert list(again) == list(answers)
    assert unpacked(packed({}, NOW)) == unpacked("") == {}


def test_only_what_is_recent_is_packed() -> None:
    answers = [OPENING, *many(REMEMBER_AT_LEAST + 7, timedelta(days=2))]
    kept = unpacked(packed({a.command_id: a for a in answers}, NOW))
    assert list(kept.values()) == recent(answers, NOW)


def test_a_full_memory_takes_less_than_300_kb() -> None:
    basket = remembered(1, events=21)
    later = [
        remembered(21 + n, age=timedelta(milliseconds=RANDOM.randrange(86_400_000)))
        for n in range(1, REMEMBER_AT_MOST + 1)
    ]
    text = packed({a.command_id: a for a in [basket, *later]}, NOW)
    assert len(unpacked(text)) == REMEMBER_AT_MOST + 1
    assert len(text) < 300_000


def test_answers_of_huge_instructions_still_fit_and_the_newest_are_kept() -> None:
    kinds = ["item-added", "item-removed", "item-quantity-changed", "note-added"]
    huge = []
    for number in range(1, REMEMBER_AT_MOST + 1):
        answer = remembered(number).answer.model_copy(
            update={"event_types": RANDOM.choices(kinds, k=600)}
        )
        huge.append(remembered(number).model_copy(update={"answer": answer}))
    text = packed({a.command_id: a for a in [OPENING, *huge]}, NOW)
    kept = list(unpacked(text).values())
    assert len(text) < 300_000
    assert kept == [OPENING, *huge[-len(kept) + 1 :]]


def refusals(count: int, characters: int) -> list[StoredRejection]:
    """Refusals whose messages are that long, and unlike one another."""
    allowed = [type_of(command_type) for command_type in COMMAND_TYPES]
    return [
        StoredRejection(
            command_id=hash_(),
            place="#/commands/{}",
            refusal=Rejection(
                code="unknown-id",
                message=f"the order has no line {noise(characters)[:characters]}",
                version=number,
                allowed_commands=RANDOM.sample(allowed, 9),
                payload_hash=hash_(),
            ),
        )
        for number in range(count)
    ]


def test_all_refusals_worth_remembering_fit_and_can_be_unpacked() -> None:
    named = {no.command_id: no for no in refusals(REJECTIONS_MAX, characters=64)}
    text = packed_rejections(named)
    assert len(text) < 30_000
    assert unpacked_rejections(text) == named
    assert unpacked_rejections(packed_rejections({})) == unpacked_rejections("") == {}


def test_of_refusals_that_are_too_long_the_newest_are_kept() -> None:
    huge = refusals(REJECTIONS_MAX, characters=2_000)
    text = packed_rejections({no.command_id: no for no in huge})
    kept = list(unpacked_rejections(text).values())
    assert len(text) < 30_000
    assert kept
    assert kept == huge[-len(kept) :]


# Deciding on instructions, and remembering the answers from what they left in the log


def instruction(
    *commands: OrderCommand, expected_versions: list[int] | None = None
) -> CommandBatch:
    return CommandBatch(
        commands=list(commands),
        expected_versions=expected_versions,
        actor="anonymous",
        payload_hash=hash_(),
        attempt_id=attempt(),
        request_id="request-7",
        traceparent="00-trace-span-01",
    )


TOLD = {
    "open with a line": instruction(open_order, add_bagels, expected_versions=[0]),
    "off": instruction(apply_welcome),
    "ask for what is so": instruction(apply_welcome, expected_versions=[3]),
    "order": instruction(add_note, place),
    "think again": instruction(cancel),
}


def history() -> tuple[list[Envelope], Order, dict[str, StoredResult]]:
    """What comes of TOLD, an hour apart: all events, the order, and what it would remember."""
    stream: list[Envelope] = []
    order, answers, now = Order(), dict[str, StoredResult](), NOW
    for command_id, told in TOLD.items():
        events, order = decide_batch(told, order, command_id, now)
        stream += events
        answer = result_of(order, events, told.payload_hash, told.attempt_id)
        answers[command_id] = StoredResult(command_id=command_id, at=now, answer=answer)
        now += timedelta(hours=1)
    return stream, order, answers


def test_an_answer_says_what_the_order_came_to() -> None:
    *_, answers = history()
    assert answers["order"].answer == CommandResult(
        version=5,
        status="placed",
        total=286,
        currency="USD",
        event_types=["note-added", "order-placed"],
        payload_hash=TOLD["order"].payload_hash,
        attempt_id=TOLD["order"].attempt_id,
    )
    assert answers["ask for what is so"].answer.event_types == []


def test_an_event_says_who_asked_for_it_and_how() -> None:
    stream, *_ = history()
    assert [e.version for e in stream] == [1, 2, 3, 4, 5, 6]
    assert [e.occurred_at - NOW for e in stream] == [timedelta(hours=h) for h in (0, 0, 1, 3, 3, 4)]
    placed = stream[4].metadata
    assert placed.command == "place-order"
    assert placed.command_id == "order"
    assert placed.model_dump(exclude={"command", "command_id"}) == TOLD["order"].model_dump(
        include={"actor", "payload_hash", "request_id", "traceparent"}
    )


def test_the_answers_of_an_ended_order_come_back_from_the_log() -> None:
    stream, order, answers = history()
    del answers["ask for what is so"]  # It left no event; asked again, it is decided again.
    assert from_stream(stream) == (
        order,
        {
            command_id: but(a, answer=but(a.answer, attempt_id=None))
            for command_id, a in answers.items()
        },
    )
    assert list(from_stream(stream)[1]) == list(answers)


def test_an_order_without_events_remembers_nothing() -> None:
    assert from_stream([]) == (Order(), {})


def test_a_refusal_says_which_command_and_field_and_what_is_allowed() -> None:
    _, order, _ = history()
    with pytest.raises(Rejected, match=r"^bell already exists, with other content$") as no:
        decide_batch(instruction(cancel, but(add_note, text="It rings.")), order, "again", NOW)
    refusal = no.value.refusal
    assert (refusal.code, refusal.index, refusal.field) == ("id-already-used", 1, "note_id")
    assert (refusal.version, refusal.allowed_commands) == (6, ["add-note"])


def test_another_version_than_expected_is_refused_first_of_all() -> None:
    _, order, _ = history()
    with pytest.raises(Rejected, match=r"^the order is at version 6, not 5$") as no:
        decide_batch(instruction(place, expected_versions=[5]), order, "late", NOW)
    assert no.value.refusal.code == "version-conflict"
