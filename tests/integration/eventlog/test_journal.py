"""The intent journal of real orders: complete, sealed, shown to whom it concerns, and rehearsed."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from api.gateway.command_message import CommandMessage
from api.gateway.gateway import Gateway
from api.gateway.journal import IntentRecorder
from api.reads import history
from background import WAITING_MAX
from dev.api_client import Json
from eventlog import journal, log
from eventlog.envelope import Ineffective
from eventlog.journal import REJECTIONS_MAX, append_ineffective, find_damaged, find_gaps
from orders.commands import RemoveItemFromOrder
from rehearsal.child import outcome_of
from rehearsal.recorded import RecordedOrder, Selection, end_of_log, read_recorded
from settings import Settings
from tests.support.command_builders import OPENING, bagels, message, new_order_id, opening
from tests.support.event_log import AT, append, note
from tests.support.histories import runs_of
from tests.support.paths import ROOT
from tests.support.personal_data import ADA, ERASED, erase, new_customer, whole
from tests.support.processes import run
from tests.support.projections import BAGELS, OPENED, publish
from tests.support.rule_changes import RULE_CHANGES, applied
from tests.support.servers import Running, run_api, run_worker
from tests.support.shop import BREAD, MILK, PlacedOrder, Shop
from workflows import publisher
from workflows.command_handler import ineffective
from workflows.messages import CommandBatch
from workflows.publisher import INEFFECTIVE_MAX, Publisher
from workflows.replay import replayer
from workflows.snapshot import Snapshot


async def intents(order: PlacedOrder) -> list[Json]:
    """All entries of the journal, as an operator sees them."""
    params: dict[str, str | int] = {"include": "intents", "min_version": order.version}
    history = await order.shop.http.get(f"{order.path}/history", params=params)
    assert history.status_code == 200, history.text
    found: list[Json] = history.json()["intents"]
    return found


async def until_kept(order: PlacedOrder, outcome: str, count: int = 1) -> list[Json]:
    """The entries with an outcome, once there are so many: they are written afterwards."""
    async with asyncio.timeout(30):
        while True:
            found = [each for each in await intents(order) if each["outcome"] == outcome]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.05)


async def opened_at(orderly: Running, order: PlacedOrder) -> datetime:
    """When an order was opened; orders of earlier tests were opened before."""
    return (await log.read_stream(orderly.pool, order.order_id))[0].occurred_at


async def recorded_since(pool: asyncpg.Pool, since: datetime) -> AsyncIterator[RecordedOrder]:
    async for order in read_recorded(pool, Selection(since)):
        yield order


async def test_journal_has_each_input_of_an_order_with_its_events(
    shop: Shop, orderly: Running
) -> None:
    customer = new_customer()
    order = await shop.place_order(MILK, BREAD, customer_id=customer, shipping_address=ADA)
    await order.ship()
    await order.deliver()
    rejected = await order.send("cancel-order", reason="too late")
    assert rejected.status_code == 409
    (no,) = await until_kept(order, "rejected")
    await order.execute("add-note", note_id="bell", text="The bell is broken.")
    await order.execute("add-note", note_id="bell", text="The bell is broken.")
    await order.execute("add-note", note_id="door", text="The door is red.")  # It goes along.
    (no_op,) = await until_kept(order, "no-op")

    found = await intents(order)
    history = await order.history()
    causes = dict.fromkeys(event["cause_id"] for event in history)
    assert [each["cause_id"] for each in found if each["outcome"] == "events"] == [*causes]
    assert found == sorted(found, key=lambda each: each["version"])
    opening = found[0]
    assert [m["type"] for m in opening["messages"]][::5] == ["open-order", "place-order"]
    assert opening["messages"][1]["sku"] == "MILK"
    address = next(m for m in opening["messages"] if m["type"] == "set-shipping-address")
    assert address["address"] == whole(ADA)
    assert opening["actor"] == history[0]["actor"]
    assert opening["trace_id"] == history[0]["trace_id"] is not None
    results = {m["type"] for each in found for m in each["messages"]}
    assert {"stock-held", "payment-approved", "booking-accepted", "shipment-gone"} <= results
    assert no["rejection"]["code"] == "already-shipped"
    assert no["messages"] == [{"type": "cancel-order", "reason": "too late"}]
    assert no["trace_id"] is not None
    assert no_op["messages"][0]["text"] == "The bell is broken."
    assert no_op["version"] == no["version"] + 1

    await assert_rehearsal_is_exact(orderly.pool, await opened_at(orderly, order), order.order_id)
    assert await find_damaged(orderly.pool, order.order_id) == []
    await assert_sealed(shop, orderly, order, customer)


async def assert_rehearsal_is_exact(pool: asyncpg.Pool, since: datetime, order_id: str) -> None:
    """The same rules find no difference; another rule, what it concerns."""
    until = await end_of_log(pool)
    assert until is not None
    orders = [each async for each in recorded_since(pool, since)]
    assert order_id in {each.order_id for each in orders}
    lines = [json.loads(each.line(until)) for each in orders]
    outcomes = [outcome_of(line) for line in lines]
    problems = {"first", "unreadable", "failure"}
    assert [each for each in outcomes if problems & each.keys()] == []
    change = next(c for c in RULE_CHANGES if c.name == "the same note again is rejected")
    with applied(change):
        (found,) = (each for each in map(outcome_of, lines) if "first" in each)
    assert found["order_id"] == order_id
    assert found["changes"][0]["now"] == "rejected"


async def assert_sealed(shop: Shop, orderly: Running, order: PlacedOrder, customer: str) -> None:
    """No entry has an address in clear, and none shows it once it is erased."""
    async for each in read_recorded(orderly.pool, Selection()):
        if each.order_id == order.order_id:
            assert "sealed.1." in str(each.inputs[0].intent)
            # Not its country: any sealed text may have two letters in a row.
            assert not any(ADA[part] in str(each.inputs) for part in ADA.keys() - {"country"})
    await erase(shop.http, customer)
    (opening, *_) = await intents(order)
    assert [m["address"] for m in opening["messages"] if "address" in m] == [ERASED]


# Parts of it


def entry(number: int, code: str | None, command_id: str = "") -> Ineffective:
    """A batch that changed nothing at version `number`."""
    batch = CommandBatch(commands=[bagels()], actor="x", payload_hash="h", attempt_id="a")
    at = AT + timedelta(seconds=number)
    kept = ineffective(batch, command_id or f"key-{number}", number, at)
    return kept.model_copy(update={"code": code})


async def count(pool: asyncpg.Pool, order_id: str) -> int:
    entries, _ = await journal.read_entries(pool, order_id, 0, journal.VERSION_MAX, 10_000)
    return len(entries)


async def test_rejections_are_bounded_and_no_ops_are_not(pool: asyncpg.Pool) -> None:
    many = [entry(number, "not-allowed-now") for number in range(REJECTIONS_MAX)]
    async with pool.acquire() as connection:
        await append_ineffective(connection, "a", many)
        await append_ineffective(connection, "a", [entry(1000, "no-lines"), entry(1001, None)])
        await append_ineffective(connection, "b", [entry(1000, "no-lines")])

    assert await count(pool, "a") == REJECTIONS_MAX + 1
    assert await count(pool, "b") == 1


async def send_in_vain(gateway: Gateway, client: Client, order_id: str, count: int) -> None:
    """Sends asynchronous commands, which an order has rejected when this returns."""
    unknown = [message(order_id, RemoveItemFromOrder(line_id="none")) for _ in range(count)]
    for each in unknown:
        assert await gateway.enqueue(each) is None
    handle = client.get_workflow_handle(order_id)
    async with asyncio.timeout(30):
        while (await handle.query("command_status", unknown[-1].command_id))["rejected"] is None:
            await asyncio.sleep(0.05)


async def test_rejections_that_wait_for_the_log_are_bounded_and_no_ops_are_not(
    orderly: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, pool, queue = orderly.client, orderly.pool, f"rejections-{new_order_id()}"
    gateway, order_id, before = Gateway(client, pool, queue), new_order_id(), new_order_id()
    async with run_worker(client, queue, pool):
        await gateway.execute(opening(before), 30)
        await send_in_vain(gateway, client, before, INEFFECTIVE_MAX)
        async with asyncio.timeout(30):
            while await count(pool, before) < INEFFECTIVE_MAX:
                await asyncio.sleep(0.05)

    monkeypatch.setattr(publisher, "REJECTIONS_WAITING_MAX", 2)
    async with run_worker(client, queue, pool):
        await gateway.execute(opening(order_id), 30)
        await send_in_vain(gateway, client, order_id, 4)
        await gateway.execute(message(order_id, OPENING), 30)
        handle = client.get_workflow_handle(order_id)
        held: Snapshot = await handle.query("snapshot", result_type=Snapshot)
        assert [each.code for each in held.ineffective] == ["unknown-id", "unknown-id", None]
    # A run from before they were bounded replays, too.
    for each in (order_id, before):
        (replayed,) = await runs_of(client, each)
        await replayer().replay_workflow(replayed)


def test_large_rejections_that_wait_for_the_log_are_fewer() -> None:
    waiting = entry(1, "no-lines").model_copy(update={"intent": "x" * 10_000})

    def has_room(count: int) -> bool:
        many = Publisher(
            [], [waiting] * count, flushes=True, has_ended=bool, after_attempt=lambda: None
        )
        return many.has_room_for_rejections

    assert has_room(9)
    assert not has_room(10)


async def test_no_ops_hide_no_rejection(
    temporal: WorkflowEnvironment, pool: asyncpg.Pool, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a page's no-ops, the newest are shown, and the response says that there are more."""
    monkeypatch.setattr(history, "NO_OPS_MAX", 10)
    await publish(pool, "a", 1, OPENED, BAGELS)
    no_ops = [entry(2, None, f"no-op-{n}") for n in range(10)]
    dated = [
        each.model_copy(update={"decided_at": AT + timedelta(seconds=n)})
        for n, each in enumerate([*no_ops, entry(2, "no-lines", "rejected")])
    ]
    older = [entry(1, None, "older")]
    async with run_api(temporal.client, Settings(postgres_dsn=dsn)) as http:

        async def shown(new: list[Ineffective]) -> tuple[list[tuple[str, str]], bool]:
            async with pool.acquire() as connection:
                await append_ineffective(connection, "a", new)
            page = (await http.get("/v1/orders/a/history?include=intents")).json()
            entries = [(each["cause_id"], each["outcome"]) for each in page["intents"]]
            return entries, page["no_ops_left_out"]

        expected = [*((f"no-op-{n}", "no-op") for n in range(10)), ("rejected", "rejected")]
        assert await shown(dated) == (expected, False)
        assert await shown(older) == (expected, True)
        plain = (await http.get("/v1/orders/a/history")).json()
        assert (plain["intents"], plain["no_ops_left_out"]) == (None, None)


async def test_repeated_rejection_of_one_command_is_kept_once(pool: asyncpg.Pool) -> None:
    again = entry(3, "no-lines", "key").model_copy(update={"decided_at": AT})
    async with pool.acquire() as connection:
        await append_ineffective(connection, "a", [entry(3, "no-lines", "key")])
        await append_ineffective(connection, "a", [again])
        await append_ineffective(connection, "a", [entry(4, "no-lines", "key")])

    assert await count(pool, "a") == 2


async def test_journal_is_append_only(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        await append_ineffective(connection, "a", [entry(3, None)])
    for change in ("UPDATE ineffective_intents SET code = 'x'", "DELETE FROM ineffective_intents"):
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            await pool.execute(change)


async def test_events_without_their_cause_are_told(pool: asyncpg.Pool) -> None:
    assert await find_gaps(pool) is None
    await append(pool, "a", note(1), note(2))
    await pool.execute("INSERT INTO ineffective_intents VALUES ('a', 7, now(), 'k', NULL, 'x')")

    gaps = await find_gaps(pool)
    assert str(gaps).startswith(
        "Decisions of which the journal has only the events: 1, of order a. "
    )
    assert await find_damaged(pool, "a") == [7]


async def test_recorder_drops_what_it_has_no_room_for() -> None:
    recorder = IntentRecorder(None)  # type: ignore[arg-type]
    batch = CommandBatch(commands=[bagels()], actor="x", payload_hash="h", attempt_id="a")
    for _ in range(WAITING_MAX + 2):
        recorder.add(CommandMessage("a", "key", batch), 1)

    assert recorder.dropped == 2


# The command


def rehearse(dsn: str, directory: Path, *options: str) -> Any:
    return run("rehearse", "--with", str(directory), *options, ORDERLY_POSTGRES_DSN=dsn)


async def test_rehearse_runs_the_rules_of_another_checkout(
    shop: Shop, orderly: Running, tmp_path: Path
) -> None:
    order = await shop.place_order(MILK, BREAD, payment_method="pm_card")
    await order.wait_until_settled(status="confirmed")
    await order.execute("cancel-order", reason="bought elsewhere")
    await order.wait_until_settled(status="cancelled")
    other, expected, report = tmp_path / "other", tmp_path / "expect.toml", tmp_path / "report.json"
    shutil.copytree(ROOT / "orders", other / "orders")
    next(c for c in RULE_CHANGES if c.name == "cancellations name no reason").apply_to(other)
    expected.write_text('because = "no reason"\n[orders]\nwith_event = ["delivery-failed"]\n')
    since = (await opened_at(orderly, order)).isoformat()
    options = ("--since", since, "--expect", str(expected), "--json", str(report))

    ended = await asyncio.to_thread(rehearse, orderly.dsn, other, *options)

    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert "1 order differs, and " in ended.stdout
    assert f"{order.order_id} after version" in ended.stdout
    assert "reason of order-cancellation-requested is None, was bought elsewhere" in ended.stdout
    assert "1 order differs without delivery-failed, such as ord_" in ended.stdout
    found = json.loads(report.read_text())
    assert found["order_ids"] == [order.order_id]
    assert len(found["violations"]) == 1
