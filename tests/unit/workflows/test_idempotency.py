"""Command results and rejections: what they hold, and how the log restores them."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from eventlog.envelope import Envelope, NoOp
from orders.commands import COMMAND_TYPES, OrderCommand, type_of
from orders.order import Order
from tests.support.given import (
    add_bagels,
    add_note,
    apply_welcome,
    but,
    cancel,
    note_added,
    open_order,
    place,
)
from workflows.command_handler import Rejected, decide_batch
from workflows.idempotency import (
    REJECTIONS_MAX,
    StoredRejection,
    from_stream,
    pack_rejections,
    result_of,
    unpack_rejections,
)
from workflows.messages import CommandBatch, CommandResult, Rejection
from workflows.stored_results import StoredResult

NOW = datetime(2017, 1, 2, 12, 0, tzinfo=UTC)
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


def rejections(count: int, characters: int) -> list[StoredRejection]:
    """Rejections with different messages of `characters` characters."""
    allowed = [type_of(command_type) for command_type in COMMAND_TYPES]
    return [
        StoredRejection(
            command_id=hash_(),
            pointer="#/commands/{}",
            rejection=Rejection(
                code="unknown-id",
                message=f"the order has no line {noise(characters)[:characters]}",
                version=number,
                allowed_commands=RANDOM.sample(allowed, 9),
                payload_hash=hash_(),
            ),
        )
        for number in range(count)
    ]


def test_maximum_number_of_rejections_fits_and_can_be_unpacked() -> None:
    named = {no.command_id: no for no in rejections(REJECTIONS_MAX, characters=64)}
    text = pack_rejections(named)
    assert len(text) < 30_000
    assert unpack_rejections(text) == named
    assert unpack_rejections(pack_rejections({})) == unpack_rejections("") == {}


def test_of_rejections_that_are_too_long_the_newest_are_kept() -> None:
    huge = rejections(REJECTIONS_MAX, characters=2_000)
    text = pack_rejections({no.command_id: no for no in huge})
    kept = list(unpack_rejections(text).values())
    assert len(text) < 30_000
    assert kept
    assert kept == huge[-len(kept) :]


# Deciding on batches, and restoring results from the log


def batch(*commands: OrderCommand, expected_versions: list[int] | None = None) -> CommandBatch:
    return CommandBatch(
        commands=list(commands),
        expected_versions=expected_versions,
        actor="anonymous",
        payload_hash=hash_(),
        attempt_id=attempt(),
        request_id="request-7",
        traceparent="00-trace-span-01",
    )


BATCHES = {
    "open with a line": batch(open_order, add_bagels, expected_versions=[0]),
    "off": batch(apply_welcome),
    "no-op": batch(apply_welcome, expected_versions=[3]),
    "order": batch(add_note, place),
    "think again": batch(cancel),
}


def history() -> tuple[list[Envelope], Order, dict[str, StoredResult]]:
    """Executes BATCHES, an hour apart: all events, the order, and the stored results."""
    stream: list[Envelope] = []
    order, results, now = Order(), dict[str, StoredResult](), NOW
    for command_id, sent in BATCHES.items():
        events, order, _ = decide_batch(sent, order, command_id, now)
        stream += events
        result = result_of(order, events, sent.payload_hash, sent.attempt_id)
        results[command_id] = StoredResult(command_id=command_id, at=now, result=result)
        now += timedelta(hours=1)
    return stream, order, results


def test_result_holds_version_status_total_and_event_types() -> None:
    *_, results = history()
    assert results["order"].result == CommandResult(
        version=5,
        status="placed",
        total=286,
        currency="USD",
        event_types=["note-added", "order-placed"],
        payload_hash=BATCHES["order"].payload_hash,
        attempt_id=BATCHES["order"].attempt_id,
    )
    assert results["no-op"].result.event_types == []


def test_event_metadata_names_the_command_and_its_caller() -> None:
    stream, *_ = history()
    assert [e.version for e in stream] == [1, 2, 3, 4, 5, 6]
    assert [e.occurred_at - NOW for e in stream] == [timedelta(hours=h) for h in (0, 0, 1, 3, 3, 4)]
    placed = stream[4].metadata
    assert placed.command == "place-order"
    assert placed.command_id == "order"
    assert placed.model_dump(exclude={"command", "command_id"}) == BATCHES["order"].model_dump(
        include={"actor", "payload_hash", "request_id", "traceparent"}
    )


def test_results_of_an_ended_order_are_restored_from_the_log() -> None:
    stream, order, results = history()
    del results["no-op"]  # It left no event; repeated, it is decided again.
    assert from_stream(stream) == (
        order,
        {
            command_id: but(a, result=but(a.result, attempt_id=None))
            for command_id, a in results.items()
        },
    )
    assert list(from_stream(stream)[1]) == list(results)


def test_results_of_no_ops_are_restored_from_the_journal() -> None:
    stream, order, results = history()
    done = results["no-op"]
    entry = NoOp(
        version=done.result.version,
        decided_at=done.at,
        command_id="no-op",
        payload_hash=done.result.payload_hash,
    )
    folded, restored = from_stream(stream, no_ops=[entry])
    assert folded == order
    assert restored["no-op"] == but(done, result=but(done.result, attempt_id=None))
    assert list(restored) == list(results)


def test_results_of_steps_and_deadlines_take_no_room_of_commands() -> None:
    stream, order, _ = history()
    about = stream[-1].metadata.model_copy(update={"command_id": "step-done:9", "payload_hash": ""})
    told = Envelope.of(note_added, order.version + 1, NOW, about)
    assert from_stream([*stream, told])[1].keys() == from_stream(stream)[1].keys()


def test_order_without_events_has_no_results() -> None:
    assert from_stream([]) == (Order(), {})


def test_rejection_names_command_field_and_allowed_commands() -> None:
    _, order, _ = history()
    with pytest.raises(Rejected, match=r"^bell already exists, with other content$") as no:
        decide_batch(batch(cancel, but(add_note, text="It rings.")), order, "again", NOW)
    rejection = no.value.rejection
    assert (rejection.code, rejection.index, rejection.field) == ("id-already-used", 1, "note_id")
    assert (rejection.version, rejection.allowed_commands) == (
        6,
        ["add-note"],
    )


def test_unexpected_version_is_rejected_first() -> None:
    _, order, _ = history()
    with pytest.raises(Rejected, match=r"^the order is at version 6, not 5$") as no:
        decide_batch(batch(place, expected_versions=[5]), order, "late", NOW)
    assert no.value.rejection.code == "version-conflict"
