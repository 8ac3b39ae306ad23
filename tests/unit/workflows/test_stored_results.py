"""Stored results: how long they are kept, how they are found, and their size in a snapshot."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from workflows import stored_results
from workflows.messages import CommandResult
from workflows.stored_results import (
    RESULTS_BYTES_MAX,
    RESULTS_MAX,
    RESULTS_MIN,
    RESULTS_PER_CHUNK,
    RETENTION,
    ResultChunk,
    StoredResult,
    StoredResults,
)

NOW = datetime(2017, 1, 2, 12, 0, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)
RANDOM = Random("as unlike one another as hashes are")
PER_RUN = 31  # Commands, before an order continues as new.


def hash_() -> str:
    """As long as a hash of the API: 96 bits in base32."""
    return base64.b32encode(RANDOM.randbytes(12)).decode().rstrip("=").lower()


def stored(number: int, age: timedelta = timedelta(0), events: int = 1) -> StoredResult:
    """Result number `number` of an order that grows by one item each time."""
    return StoredResult(
        command_id=hash_(),
        at=NOW - age,
        result=CommandResult(
            version=number + events - 1,
            status="draft",
            total=number * RANDOM.randrange(1_000),
            currency="USD",
            event_types=["item-added"] * events,
            payload_hash=hash_(),
            attempt_id=base64.urlsafe_b64encode(RANDOM.randbytes(9)).decode(),
        ),
    )


def many(count: int, age: timedelta) -> list[StoredResult]:
    return [stored(number, age) for number in range(2, count + 2)]


OPENING = stored(1, age=timedelta(days=365))


def store_of(results: Sequence[StoredResult]) -> StoredResults:
    """A store after one run that had these results."""
    store = StoredResults()
    store.add(*results)
    return store


def retained(results: Sequence[StoredResult]) -> list[StoredResult]:
    """What the next run has of them."""
    return StoredResults(store_of(results).packed(NOW).chunks).all()


def bytes_of(chunks: Sequence[ResultChunk]) -> int:
    return sum(len(chunk.model_dump_json()) for chunk in chunks)


@pytest.mark.parametrize(
    "later",
    [
        [],
        many(3, timedelta(days=30)),
        many(RESULTS_MIN, timedelta(days=30)),
        many(RESULTS_MAX, RETENTION),
        many(10, timedelta(days=30)) + many(RESULTS_MIN - 10, timedelta(0)),
    ],
    ids=["opening only", "a few", "a thousand", "a full day", "a thousand, some old"],
)
def test_recent_or_few_results_are_retained(later: list[StoredResult]) -> None:
    assert retained([OPENING, *later]) == [OPENING, *later]


OLD = many(RESULTS_MIN + 7, RETENTION + MOMENT)
A_DAY_AGO = many(500, RETENTION + MOMENT)
YOUNG = many(RESULTS_MIN + 500, RETENTION)
YOUNGEST = many(RESULTS_MAX + 7, timedelta(0))


@pytest.mark.parametrize(
    ("later", "kept"),
    [(OLD, OLD[7:]), ([*A_DAY_AGO, *YOUNG], YOUNG), (YOUNGEST, YOUNGEST[7:])],
    ids=["the last thousand of old ones", "recent ones before old ones", "the last 3,000"],
)
def test_number_of_retained_results_is_limited(
    later: list[StoredResult], kept: list[StoredResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_chunks = retained([OPENING, *later])
    assert [with_chunks[0], *with_chunks[-len(kept) :]] == [OPENING, *kept]
    assert len(with_chunks) < len(kept) + 3 * RESULTS_PER_CHUNK
    monkeypatch.setattr(stored_results, "RESULTS_PER_CHUNK", 1)
    monkeypatch.setattr(stored_results, "RESULTS_BYTES_MAX", 10_000_000)
    assert retained([OPENING, *later]) == [OPENING, *kept]


def test_results_are_found_and_keep_their_order_over_many_runs() -> None:
    results, store = [OPENING, *many(700, timedelta(0))], StoredResults()
    for began in range(0, len(results), PER_RUN):
        store.add(*results[began : began + PER_RUN])
        store = StoredResults(store.packed(NOW).chunks)
    assert store.all() == results
    assert all(store.get(one.command_id) == one for one in results)
    assert store.get(hash_()) is None
    assert len(store.packed(NOW).chunks) <= 1 + len(results) // RESULTS_PER_CHUNK


def test_command_ids_that_begin_alike_are_told_apart() -> None:
    alike = [
        stored(number).model_copy(update={"command_id": f"samebeginning-{number}"})
        for number in range(3)
    ]
    store = StoredResults(store_of(alike[:2]).packed(NOW).chunks)
    assert [store.get(one.command_id) for one in alike] == [*alike[:2], None]
    assert "s" not in store
    assert alike[1].command_id in store


def test_new_command_unpacks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    store = StoredResults(store_of(many(RESULTS_MAX, timedelta(0))).packed(NOW).chunks)
    unpacked: list[ResultChunk] = []
    monkeypatch.setattr(stored_results, "_unpacked", unpacked.append)
    assert hash_() not in store
    assert unpacked == []


def test_order_without_results_packs_none() -> None:
    assert StoredResults().packed(NOW) == ([], None)
    assert StoredResults().packed_as_of_last() == ([], None)


def test_results_are_kept_by_the_time_of_the_newest_whatever_a_clock_says() -> None:
    recent = [OPENING, *many(RESULTS_MIN + 300, age=timedelta(hours=1)), stored(9_999)]
    assert StoredResults(store_of(recent).packed_as_of_last().chunks).all() == recent


def test_maximum_number_of_results_packs_into_less_than_300_kb() -> None:
    basket = stored(1, events=21)
    later = [
        stored(21 + n, age=timedelta(milliseconds=RANDOM.randrange(86_400_000)))
        for n in range(1, RESULTS_MAX + 1)
    ]
    packed = store_of([basket, *later]).packed(NOW)
    assert StoredResults(packed.chunks).all() == [basket, *later]
    assert packed.dropped_until is None
    assert bytes_of(packed.chunks) < RESULTS_BYTES_MAX


def test_results_of_huge_batches_fit_and_the_newest_are_kept() -> None:
    kinds = ["item-added", "item-removed", "item-quantity-changed", "note-added"]
    huge = []
    for number in range(1, RESULTS_MAX + 1):
        result = stored(number).result.model_copy(
            update={"event_types": RANDOM.choices(kinds, k=600)}
        )
        huge.append(stored(number).model_copy(update={"result": result}))
    packed = store_of([OPENING, *huge]).packed(NOW)
    kept = StoredResults(packed.chunks).all()
    assert bytes_of(packed.chunks) < 1.05 * RESULTS_BYTES_MAX
    first = packed.chunks[0].count
    later = len(kept) - first
    assert kept == [OPENING, *huge][:first] + huge[-later:]
    assert packed.dropped_until == NOW + RETENTION
