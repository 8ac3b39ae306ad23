"""What travels between versions: commands as they were set, and states with their shapes."""

from __future__ import annotations

import base64
import json
import zlib
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_core import to_json

from api.commands.bodies import NewOrder
from orders.commands import (
    COMMAND_TYPES,
    AddItemToOrder,
    AddLine,
    AddNote,
    AmendOrder,
    OrderCommand,
    PlaceOrder,
)
from orders.order import Order
from orders.policy import Policy
from orders.steps import StepDone, StepResult
from tests.support.given import NOW, bagels_added, opened, published
from tests.support.order_fixtures import LATER, NEWS, a_delivered_order, a_sent_order
from workflows import idempotency
from workflows.command_handler import Rejected, decide_batch
from workflows.messages import NOT_KNOWN_YET, CommandBatch, QueuedCommands, UnreadCommand
from workflows.snapshot import (
    KEPT_NOWHERE_ELSE,
    Snapshot,
    WorkflowInput,
    differences,
    digest,
    fingerprint,
)
from workflows.stored_results import ResultChunk, StoredResult, merged, of_results

NEWER = {"type": "set-gift-message", "text": None, "copies": 2}
NEWER_FIELD = {"type": "add-note", "text": "hi", "language": "en"}


def batch_of(*commands: OrderCommand | StepResult | UnreadCommand) -> CommandBatch:
    return CommandBatch(commands=[*commands], actor="x", payload_hash="h", attempt_id="a")


def sent(batch: CommandBatch) -> list[Any]:
    """The commands of a batch, as the Temporal client writes them."""
    commands: list[Any] = json.loads(to_json(batch))["commands"]
    return commands


def received(*commands: Any) -> CommandBatch:
    content = {"commands": commands, "actor": "x", "payload_hash": "h", "attempt_id": "a"}
    return CommandBatch.model_validate_json(json.dumps(content))


def test_command_travels_without_defaults_that_nothing_set() -> None:
    item = AddItemToOrder(sku="S", title="T", quantity=1, unit_price=5)
    assert sent(batch_of(item)) == [
        {"type": "add-item-to-order", "sku": "S", "title": "T", "quantity": 1, "unit_price": 5}
    ]
    assert sent(batch_of(PlaceOrder())) == [{"type": "place-order"}]


def test_field_that_was_set_to_its_default_travels() -> None:
    assert sent(batch_of(PlaceOrder(payment_method=None))) == [
        {"type": "place-order", "payment_method": None}
    ]


def test_parts_of_a_command_travel_as_they_were_set() -> None:
    change = AddLine(line_id="l", sku="S", title="T", quantity=1, unit_price=5)
    ((amendment,),) = (sent(batch_of(AmendOrder(changes=[change]))),)
    assert amendment["changes"] == [
        {"type": "add-line", "line_id": "l", "sku": "S", "title": "T"}
        | {"quantity": 1, "unit_price": 5}
    ]


def test_new_order_sends_what_its_caller_set_and_the_policy() -> None:
    body = {"customer_id": "900", "currency": "USD", "place": True}
    opening, placing = NewOrder.model_validate(body).commands(Policy())
    assert isinstance(opening, OrderCommand) and isinstance(placing, OrderCommand)
    ((first, second),) = (sent(batch_of(opening, placing)),)
    assert first == {
        "type": "open-order",
        "customer_id": "900",
        "currency": "USD",
        "policy": Policy().model_dump(),
    }
    assert second == {"type": "place-order"}


def test_every_command_is_read_as_it_was_sent() -> None:
    messages: list[OrderCommand | StepResult] = [*NEWS, StepDone(step_id="void-1")]
    for message in messages:
        batch = batch_of(message)
        assert CommandBatch.model_validate_json(to_json(batch)).commands == [message]


@pytest.mark.parametrize("newer", [NEWER, NEWER_FIELD, {"type": "place-order", "at": [1]}])
def test_what_cannot_be_read_is_kept_as_it_was_sent(newer: dict[str, Any]) -> None:
    batch = received(newer, {"type": "add-note", "text": "known"})
    assert isinstance(batch.commands[0], UnreadCommand)
    assert batch.commands[1] == AddNote(text="known")
    assert not batch.is_readable
    assert sent(batch)[0] == newer
    queued = QueuedCommands(command_id="c", batch=batch, pointer="#")
    assert queued.read_again() == queued


def test_kept_command_is_read_by_the_version_that_knows_it() -> None:
    kept = UnreadCommand.model_validate({"type": "add-note", "text": "hi"})
    queued = QueuedCommands(command_id="c", batch=batch_of(AddNote(text="hi")), pointer="#")
    batch = queued.batch.model_copy(update={"commands": [kept]})
    assert not batch.is_readable
    assert queued.model_copy(update={"batch": batch}).read_again() == queued


@pytest.mark.parametrize("changes", [{"attempt_id": None}, {"expected_versions": {"at": 3}}])
def test_signal_that_cannot_be_read_is_kept_whole(changes: dict[str, Any]) -> None:
    queued = QueuedCommands(command_id="c", batch=batch_of(AddNote(text="hi")), pointer="#")
    sent = json.loads(to_json(queued))
    newer = {**sent, "batch": {**sent["batch"], **changes}}
    kept = QueuedCommands.model_validate_json(to_json(QueuedCommands.read(newer)))
    assert (kept.command_id, kept.batch.payload_hash, kept.unread_signal) == ("c", "h", newer)
    assert not kept.batch.is_readable
    assert kept.read_again() == kept


def test_signal_that_was_kept_whole_is_read_by_the_version_that_knows_it() -> None:
    queued = QueuedCommands(command_id="c", batch=batch_of(AddNote(text="hi")), pointer="#")
    sent = json.loads(to_json(queued))
    newer = QueuedCommands.read({**sent, "batch": {**sent["batch"], "attempt_id": None}})
    (whole,) = newer.batch.commands
    known = UnreadCommand.model_validate({"type": whole.type, "signal": sent})
    batch = newer.batch.model_copy(update={"commands": [known]})
    kept = newer.model_copy(update={"batch": batch, "received_at": NOW})
    assert kept.read_again() == queued.model_copy(update={"received_at": NOW})


@pytest.mark.parametrize("sent", [None, {}, {"command_id": "c"}, {"command_id": 1, "batch": {}}])
def test_signal_without_a_key_is_none(sent: Any) -> None:
    with pytest.raises(ValidationError):
        QueuedCommands.read(sent)


@pytest.mark.parametrize("newer", [NEWER, NEWER_FIELD])
def test_what_cannot_be_read_is_rejected_for_now(newer: dict[str, Any]) -> None:
    order = a_sent_order.order
    batch = received({"type": "add-note", "text": "known"}, newer)
    with pytest.raises(Rejected) as rejected:
        decide_batch(batch, order, "c", NOW)
    rejection = rejected.value.rejection
    assert (rejection.code, rejection.index) == (NOT_KNOWN_YET, 1)
    assert str(newer["type"]) in rejection.message


def test_every_command_has_a_type_that_can_be_read() -> None:
    """Otherwise it would be taken for one of a newer version, and wait."""
    for kind in COMMAND_TYPES:
        assert kind.model_fields["type"].default


# States


def stored(**changes: Any) -> dict[str, Any]:
    snapshot = Snapshot(made_by="another", order=a_delivered_order.order)
    content: dict[str, Any] = json.loads(snapshot.model_dump_json())
    return content | changes


def test_own_snapshot_is_trusted_and_read_as_it_was_written() -> None:
    snapshot = Snapshot(made_by=fingerprint(), order=a_delivered_order.order)
    read = WorkflowInput.model_validate_json(WorkflowInput(snapshot=snapshot).model_dump_json())
    assert read.snapshot == snapshot
    assert snapshot.is_own and not snapshot.has_lost


def test_snapshot_of_a_version_that_says_nothing_is_not_trusted() -> None:
    assert not Snapshot.model_validate({}).is_own


def test_reading_the_same_fields_of_another_version_loses_nothing() -> None:
    read = Snapshot.model_validate_json(json.dumps(stored()))
    assert read.order == a_delivered_order.order
    assert not read.is_own and not read.has_lost


def renamed(content: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    return {new if key == old else key: part for key, part in content.items()}


def test_field_of_the_order_that_this_version_does_not_know_is_noticed() -> None:
    content = stored(order=renamed(stored()["order"], "goodwill", "courtesy"))
    assert Snapshot.model_validate_json(json.dumps(content)).has_lost


def test_field_of_a_part_of_the_order_that_this_version_does_not_know_is_noticed() -> None:
    order = stored()["order"]
    shipments = {k: renamed(s, "needs_rebooking", "old") for k, s in order["shipments"].items()}
    assert shipments
    content = stored(order=order | {"shipments": shipments})
    assert Snapshot.model_validate_json(json.dumps(content)).has_lost


def test_field_of_the_snapshot_that_this_version_does_not_know_is_noticed() -> None:
    content = renamed(stored(), "results", "answers")
    assert Snapshot.model_validate_json(json.dumps(content)).has_lost


def test_order_under_another_name_is_noticed() -> None:
    for content in (renamed(stored(), "order", "state"), stored(order=None)):
        read = Snapshot.model_validate_json(json.dumps(content))
        assert (read.order, read.has_lost) == (Order(), True)


def test_order_that_cannot_be_read_at_all_is_lost_and_no_error() -> None:
    order = stored()["order"] | {"lines": {"x": {"what": "ever"}}}
    read = Snapshot.model_validate_json(json.dumps(stored(order=order)))
    assert (read.order, read.has_lost) == (Order(), True)


def test_part_that_cannot_be_read_is_left_to_the_log() -> None:
    chunk = {"packed": "", "marks": "", "count": 1, "last_at": "2026-03-01T12:00:00Z"}
    read = Snapshot.model_validate_json(json.dumps(stored(results=[chunk])))
    assert (read.order, read.results, read.has_lost) == (a_delivered_order.order, [], True)
    assert not read.is_incomplete


@pytest.mark.parametrize("part", sorted(KEPT_NOWHERE_ELSE))
def test_commands_and_events_under_another_name_are_no_state_to_continue_from(part: str) -> None:
    for content, is_incomplete in (([{"some": "thing"}], True), ([], False)):
        text = json.dumps(renamed(stored(**{part: content}), part, "waiting"))
        assert Snapshot.model_validate_json(text).is_incomplete is is_incomplete


@pytest.mark.parametrize("part", sorted(KEPT_NOWHERE_ELSE))
def test_commands_and_events_that_cannot_be_read_are_no_state_to_continue_from(part: str) -> None:
    read = Snapshot.model_validate_json(json.dumps(stored(**{part: [{"some": "thing"}]})))
    assert read.is_incomplete
    own = stored(**{part: [{"some": "thing"}], "made_by": fingerprint()})
    with pytest.raises(ValidationError):
        Snapshot.model_validate_json(json.dumps(own))


def test_version_that_renames_where_commands_wait_does_not_pass_over_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fields = {k: f for k, f in Snapshot.model_fields.items() if k != "queued"}
    monkeypatch.setattr(Snapshot, "__pydantic_fields__", fields)
    read = Snapshot.model_validate_json(json.dumps(stored(queued=[{"some": "thing"}])))
    assert read.is_incomplete


def test_snapshot_has_the_parts_that_are_kept_nowhere_else() -> None:
    assert Snapshot.model_fields.keys() >= KEPT_NOWHERE_ELSE


def test_further_part_of_a_newer_version_is_not_missed() -> None:
    read = Snapshot.model_validate_json(json.dumps(stored(gifts=["a"])))
    assert not read.is_incomplete


def test_results_that_cannot_be_read_are_left_to_the_log() -> None:
    garbage = ResultChunk(
        text=packed('[{"command_id": "c"}]'), marks=" c", count=1, last_at=datetime.now(UTC)
    )
    read = Snapshot(made_by="another", order=Order(), results=[garbage])
    assert read.stored_results().all() == []
    with pytest.raises(ValueError, match="result"):
        read.model_copy(update={"made_by": fingerprint()}).stored_results().all()


def packed(text: str) -> str:
    return base64.b64encode(zlib.compress(text.encode())).decode()


def test_fingerprint_is_the_same_each_time() -> None:
    first = fingerprint()
    fingerprint.cache_clear()
    assert fingerprint() == first


def test_digest_is_equal_for_equal_states_only() -> None:
    order = a_delivered_order.order
    read = Snapshot.model_validate_json(Snapshot(order=order).model_dump_json()).order
    assert digest(read) == digest(order)
    assert digest(a_sent_order.order) != digest(order)


def test_digest_does_not_depend_on_the_order_of_a_set() -> None:
    ids = [f"d{n}" for n in range(50)]
    assert digest(Order(removed_lines=frozenset(ids))) == digest(
        Order(removed_lines=frozenset(reversed(ids)))
    )


def test_differences_are_named_by_field() -> None:
    assert differences(Order(), Order()) == []
    assert differences(Order(version=1, goodwill=5), Order(version=1)) == ["goodwill"]


def test_results_of_the_log_join_those_that_are_stored_oldest_first() -> None:
    _, logged = idempotency.from_stream(published([opened, bagels_added], "opening"))
    opening = logged["opening"]
    other = opening.result.model_copy(update={"version": 9})
    stored = {
        "no-op": StoredResult(command_id="no-op", at=opening.at + LATER, result=other),
        "opening": opening.model_copy(update={"result": other}),
    }
    assert merged(of_results(stored), logged).all() == [opening, stored["no-op"]]
