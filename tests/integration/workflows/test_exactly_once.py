"""Every acknowledged command is applied once: repeated, across runs, and after the end."""

from __future__ import annotations

import asyncio

import pytest

from api.gateway.command_message import CommandMessage
from api.problems.errors import IdempotencyKeyReused, UnknownOrder
from eventlog import log
from orders.commands import AddNote, CancelOrder, ChangeItemQuantity, PlaceOrder
from tests.support.command_builders import bagels, message, new_order_id, opening
from tests.support.histories import assert_replays, runs_of
from tests.support.servers import HISTORY_EVENTS_SUGGESTED_MAX, Running
from tests.support.workflow_runs import continue_as_new, ended, is_running, published
from workflows import stored_results
from workflows.command_handler import Rejected
from workflows.idempotency import from_stream
from workflows.messages import CommandResult
from workflows.snapshot import Snapshot, fingerprint

WAIT_SECONDS = 30.0


@pytest.mark.parametrize("count", [200, pytest.param(3_000, marks=pytest.mark.soak)])
async def test_commands_sent_twice_at_once_are_applied_once(orderly: Running, count: int) -> None:
    order_id, gateway = new_order_id(), orderly.gateway
    await gateway.execute(opening(order_id), WAIT_SECONDS)
    at_once = asyncio.Semaphore(4)

    async def send_twice(number: int) -> tuple[CommandResult, CommandResult]:
        async with at_once:
            first, second = await asyncio.gather(
                *(
                    gateway.execute(message(order_id, bagels(), key=str(number)), WAIT_SECONDS)
                    for _ in range(2)
                )
            )
        return first, second

    pairs = await asyncio.gather(*(send_twice(number) for number in range(count)))

    assert all(first == second for first, second in pairs)
    assert sorted(first.version for first, _ in pairs) == list(range(2, count + 2))
    assert max(first.total for first, _ in pairs) == count * 50
    await published(orderly, order_id, count + 1)
    stream = await log.read_stream(orderly.pool, order_id)
    assert [envelope.version for envelope in stream] == list(range(1, count + 2))
    assert len({envelope.metadata.command_id for envelope in stream}) == count + 1
    runs = await runs_of(orderly.client, order_id)
    assert len(runs) > max(1, count // 300)
    # A run is a second old before it continues as new.
    assert max(len(run.events) for run in runs) < 5 * HISTORY_EVENTS_SUGGESTED_MAX
    await assert_replays(runs)


async def test_repeated_key_gets_the_first_result_in_the_same_run_and_in_later_ones(
    orderly: Running,
) -> None:
    order_id, gateway = new_order_id(), orderly.gateway
    first_opening = await gateway.execute(opening(order_id), WAIT_SECONDS)
    first = await gateway.execute(message(order_id, bagels(), key="a"), WAIT_SECONDS)
    assert await gateway.execute(message(order_id, bagels(), key="a"), WAIT_SECONDS) == first
    await continue_as_new(orderly, order_id)
    assert await gateway.execute(message(order_id, bagels(), key="a"), WAIT_SECONDS) == first
    assert await gateway.execute(opening(order_id), WAIT_SECONDS) == first_opening


async def test_key_counts_once_although_its_result_was_dropped(
    orderly: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy order drops results before their time; the log still knows the keys."""
    for limit, number in {"RESULTS_MIN": 2, "RESULTS_MAX": 5, "RESULTS_PER_CHUNK": 1}.items():
        monkeypatch.setattr(stored_results, limit, number)
    order_id, gateway = new_order_id(), orderly.gateway
    line = bagels().model_copy(update={"line_id": "bagels"})
    await gateway.execute(opening(order_id, line), WAIT_SECONDS)

    def quantity(number: int, key: str) -> CommandMessage:
        change = ChangeItemQuantity(line_id="bagels", quantity=number)
        return message(order_id, change, key=key)

    first = await gateway.execute(quantity(7, "first"), WAIT_SECONDS)
    for number in range(9):
        await gateway.execute(quantity(2 + number, f"{number}"), WAIT_SECONDS)
    await continue_as_new(orderly, order_id)
    last = await gateway.execute(quantity(99, "last"), WAIT_SECONDS)
    await published(orderly, order_id, last.version)

    repeated = await gateway.execute(quantity(7, "first"), WAIT_SECONDS)
    assert (repeated.version, repeated.event_types) == (first.version, first.event_types)
    assert await gateway.enqueue(quantity(7, "first")) is None
    with pytest.raises(IdempotencyKeyReused):
        await gateway.execute(message(order_id, PlaceOrder(), key="first"), WAIT_SECONDS)
    new = await gateway.execute(quantity(50, "new"), WAIT_SECONDS)
    assert new.version == last.version + 1, "nothing was executed twice"


async def test_key_with_another_payload_is_rejected_in_every_run_and_after_the_end(
    orderly: Running,
) -> None:
    order_id, gateway = new_order_id(), orderly.gateway
    await gateway.execute(opening(order_id), WAIT_SECONDS)
    note, other_note = AddNote(text="ring twice"), AddNote(text="do not ring")
    await gateway.execute(message(order_id, note, key="a"), WAIT_SECONDS)
    await assert_key_reused(orderly, message(order_id, other_note, key="a"))
    await continue_as_new(orderly, order_id)
    await assert_key_reused(orderly, message(order_id, other_note, key="a"))
    await cancel_and_end(orderly, order_id)
    await assert_key_reused(orderly, message(order_id, other_note, key="a"))
    await assert_key_reused(orderly, opening(order_id, bagels()))
    await gateway.execute(message(order_id, AddNote(text="reopened"), key="b"), WAIT_SECONDS)
    await assert_key_reused(orderly, message(order_id, other_note, key="a"))
    assert [e.data.get("text") for e in await log.read_stream(orderly.pool, order_id)][1] == (
        "ring twice"
    )


async def test_ended_order_returns_results_from_the_log(orderly: Running) -> None:
    order_id, gateway = new_order_id(), orderly.gateway
    first_opening = await gateway.execute(opening(order_id, bagels()), WAIT_SECONDS)
    note = await gateway.execute(message(order_id, AddNote(text="hi"), key="note"), WAIT_SECONDS)
    await cancel_and_end(orderly, order_id)

    assert same(await gateway.execute(opening(order_id, bagels()), WAIT_SECONDS), first_opening)
    repeated = await gateway.execute(
        message(order_id, AddNote(text="hi"), key="note"), WAIT_SECONDS
    )
    assert same(repeated, note)
    already_so = await gateway.execute(message(order_id, CancelOrder()), WAIT_SECONDS)
    assert (already_so.version, already_so.event_types) == (4, [])
    with pytest.raises(Rejected) as rejected:
        await gateway.execute(message(order_id, PlaceOrder()), WAIT_SECONDS)
    assert rejected.value.rejection.code == "not-allowed-now"
    with pytest.raises(Rejected) as stale:
        await gateway.execute(
            message(order_id, AddNote(text="late"), expected_versions=[3]), WAIT_SECONDS
        )
    assert (stale.value.rejection.code, stale.value.rejection.version) == ("version-conflict", 4)
    with pytest.raises(UnknownOrder):
        await gateway.execute(message(new_order_id(), AddNote(text="late")), WAIT_SECONDS)
    assert not await is_running(orderly, order_id)


async def test_concurrent_commands_reopen_an_ended_order_once(orderly: Running) -> None:
    for _ in range(5):
        order_id, gateway = new_order_id(), orderly.gateway
        await gateway.execute(opening(order_id), WAIT_SECONDS)
        await cancel_and_end(orderly, order_id)
        results = await asyncio.gather(
            *(
                gateway.execute(message(order_id, AddNote(text=f"note {i}")), WAIT_SECONDS)
                for i in range(4)
            )
        )
        assert sorted(result.version for result in results) == [3, 4, 5, 6]
        await ended(orderly, order_id)
        stream = await log.read_stream(orderly.pool, order_id)
        assert [envelope.version for envelope in stream] == [1, 2, 3, 4, 5, 6]
        assert {e.data["text"] for e in stream[2:]} == {f"note {i}" for i in range(4)}


async def test_reopening_from_a_stale_snapshot_catches_up_from_the_log(orderly: Running) -> None:
    order_id, gateway = new_order_id(), orderly.gateway
    await gateway.execute(opening(order_id), WAIT_SECONDS)
    await cancel_and_end(orderly, order_id)
    stale, _ = from_stream(await log.read_stream(orderly.pool, order_id))
    await gateway.execute(message(order_id, AddNote(text="meanwhile")), WAIT_SECONDS)
    await ended(orderly, order_id)

    await gateway.ended_orders.reopen(
        order_id, Snapshot(made_by=fingerprint(), order=stale, reopened=True)
    )
    result = await gateway.execute(message(order_id, AddNote(text="late")), WAIT_SECONDS)

    assert result.version == 4
    await ended(orderly, order_id)
    assert await log.head(orderly.pool, order_id) == 4


def same(one: CommandResult, other: CommandResult) -> bool:
    """Equal but for the attempt id, which the log does not store."""
    return one.model_copy(update={"attempt_id": None}) == other.model_copy(
        update={"attempt_id": None}
    )


async def assert_key_reused(orderly: Running, sent: CommandMessage) -> None:
    with pytest.raises(IdempotencyKeyReused):
        await orderly.gateway.execute(sent, WAIT_SECONDS)


async def cancel_and_end(orderly: Running, order_id: str) -> None:
    await orderly.gateway.execute(message(order_id, CancelOrder()), WAIT_SECONDS)
    await ended(orderly, order_id)
