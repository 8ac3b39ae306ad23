"""`orderly verify` finds what differs between the log, its views and Temporal's own history."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from temporalio.testing import WorkflowEnvironment

from cli.verify import Report, _state_differences, verify
from eventlog import log
from tests.support.command_builders import bagels, message, new_order_id, opening
from tests.support.orphans import forget, terminate
from tests.support.processes import assert_one_sentence, run_inside
from tests.support.servers import Running, run_orderly
from tests.support.visibility import listed
from workflows.comparison import read_runs


@pytest.fixture
async def own(temporal: WorkflowEnvironment, dsn: str) -> AsyncIterator[Running]:
    """All of orderly, on a database that may be damaged."""
    async with run_orderly(temporal.client, dsn) as running:
        yield running


@pytest.fixture
async def order_id(own: Running) -> str:
    """An order of two items, in the view."""
    order_id = new_order_id()
    await own.gateway.execute(opening(order_id, bagels()), 30)
    await own.gateway.execute(message(order_id, bagels()), 30)
    await shown(own, order_id, 3)
    return order_id


async def shown(own: Running, order_id: str, version: int) -> None:
    """Waits until the view has an order up to a version: the projector writes no row after that."""
    response = await own.http.get(f"/v1/orders/{order_id}", params={"min_version": version})
    assert response.status_code == 200, response.text


async def verified(own: Running, sample: int | None = None) -> Report:
    *_, report = [report async for report in verify(own.pool, own.client, sample)]
    return report


async def test_undamaged_orders_have_no_differences(own: Running, order_id: str) -> None:
    other = new_order_id()
    await own.gateway.execute(opening(other), 30)
    await shown(own, other, 1)
    assert await verified(own) == Report(orders=2, histories=2)
    assert await verified(own, sample=1) == Report(orders=1, histories=1)


async def test_damaged_row_is_found(own: Running, order_id: str) -> None:
    await own.pool.execute(
        "UPDATE order_view.orders SET document = jsonb_set(document::jsonb, '{total}', '7')"
        " WHERE order_id = $1",
        order_id,
    )
    (found,) = (await verified(own)).differences
    assert found == f"order {order_id}: total is 7 in its view, 100 by its events"


async def test_missing_row_is_found(own: Running, order_id: str) -> None:
    await own.pool.execute("DELETE FROM order_view.orders WHERE order_id = $1", order_id)
    (found,) = (await verified(own)).differences
    assert "version 0, and the projection has passed version 3" in found


async def test_log_that_differs_from_temporal_history_is_found(own: Running, order_id: str) -> None:
    await own.pool.execute("ALTER TABLE order_events DISABLE TRIGGER USER")
    await own.pool.execute(
        "UPDATE order_events SET data = jsonb_set(data, '{quantity}', '9')"
        " WHERE order_id = $1 AND version = 3",
        order_id,
    )
    await own.pool.execute("ALTER TABLE order_events ENABLE TRIGGER USER")
    found = (await verified(own)).differences
    assert any("version 3 is item-added in Temporal's history" in one for one in found), found
    assert any(one.startswith(f"order {order_id}: total") for one in found), found


async def test_damaged_entry_of_the_journal_is_found(own: Running, order_id: str) -> None:
    """Also of an order that was never opened."""
    rejected = new_order_id()
    await own.pool.execute("ALTER TABLE order_events DISABLE TRIGGER USER")
    await own.pool.execute(
        "UPDATE order_events SET intent = substr(intent, 1, length(intent) - 9)"
        " WHERE order_id = $1 AND version = 3",
        order_id,
    )
    await own.pool.execute(
        "INSERT INTO ineffective_intents VALUES ($1, 0, now(), 'key', 'no-lines', $2)",
        rejected,
        b"\x01" + zlib.compress(b"[1,2]"),
    )
    history = await own.http.get(f"/v1/orders/{order_id}/history", params={"include": "intents"})
    *_, last = history.json()["intents"]
    assert (last["version"], last["messages"]) == (2, None)
    damaged = "cannot be read: the journal is damaged"
    assert (await verified(own)).differences == [
        f"order {order_id}: what it decided on at version 2 {damaged}",
        f"order {rejected}: what it decided on at version 0 {damaged}",
    ]


async def test_orphaned_orders_are_found_and_the_command_that_continues_them_is_named(
    own: Running, order_id: str
) -> None:
    vanished, unlogged = new_order_id(), new_order_id()
    for each in (vanished, unlogged):
        await own.gateway.execute(opening(each), 30)
        await acknowledged(own, each, 1)
        await shown(own, each, 1)
    await forget(own.client, vanished)
    await own.pool.execute("ALTER TABLE order_events DISABLE TRIGGER USER")
    await own.pool.execute("DELETE FROM order_events WHERE order_id = $1", unlogged)
    await own.pool.execute("DELETE FROM order_view.orders WHERE order_id = $1", unlogged)
    for each in (order_id, unlogged):
        await terminate(own.client, each)
    lacking = (
        f"order {unlogged}: the log lacks version 1, which was published by Temporal's history;"
        " `orderly restore apply` publishes it again"
    )

    *_, report = [
        report async for report in verify(own.pool, own.client, task_queue=own.task_queue)
    ]

    reasons = {
        order_id: "its workflow was terminated",
        vanished: "Temporal has no workflow of it",
        unlogged: "its workflow was terminated",
    }
    expected = {
        f"order {key}: {reason}; `orderly resume {key}` continues it"
        + (", of which the log has nothing" if key == unlogged else "")
        for key, reason in reasons.items()
    }
    assert set(report.differences) == {*expected, lacking}


async def test_command_finds_an_orphan_and_resume_continues_it(own: Running, order_id: str) -> None:
    async def orderly(*command: str) -> tuple[int, str, str]:
        ended = await asyncio.to_thread(
            run_inside,
            *command,
            ORDERLY_POSTGRES_DSN=own.dsn,
            ORDERLY_TASK_QUEUE=own.task_queue,
            TEMPORAL_ADDRESS=own.client.service_client.config.target_host,
        )
        return ended.returncode, ended.stdout, ended.stderr

    await terminate(own.client, order_id)
    code, printed, _ = await orderly("verify")
    assert (code, printed.rpartition(": ")[2]) == (1, "1 differences\n")
    assert f"`orderly resume {order_id}` continues it" in printed

    resumed = f"Order {order_id} continues: its workflow was terminated.\n"
    assert await orderly("resume", order_id) == (0, resumed, "")

    for not_orphaned, sentence in (
        (order_id, f"Order {order_id} is not orphaned"),
        ("ord_none", "There is no order ord_none."),
    ):
        code, printed, error = await orderly("resume", not_orphaned)
        assert (code, printed) == (2, "")
        assert sentence in error
        assert_one_sentence(error)
    assert await orderly("resume") == (0, "No order is orphaned.\n", "")
    assert (await orderly("verify"))[0] == 0


async def test_command_prints_each_difference_and_exits_with_1(own: Running, order_id: str) -> None:
    async def run() -> tuple[int, str]:
        ended = await asyncio.to_thread(
            run_inside, "verify", "--no-history", ORDERLY_POSTGRES_DSN=own.dsn
        )
        return ended.returncode, ended.stdout

    code, printed = await run()
    assert (code, printed.rpartition(": ")[2]) == (0, "0 differences\n")
    await own.pool.execute("UPDATE order_view.orders SET version = 2")
    code, printed = await run()
    assert code == 1
    assert f"order {order_id}: version is 3 in its view, 2 by its events\n" in printed


async def acknowledged(own: Running, order_id: str, version: int) -> None:
    """Waits until Temporal knows that the log has an order up to a version."""
    async with asyncio.timeout(30):
        while True:
            runs = await read_runs(own.client, order_id)
            if any(event.version == version for run in runs for event in run.published):
                return
            await asyncio.sleep(0.02)


async def lose(own: Running, order_id: str, after: int) -> None:
    """Removes an order's last events from the log and the view, as a restore does."""
    await own.pool.execute("ALTER TABLE order_events DISABLE TRIGGER USER")
    await own.pool.execute(
        "DELETE FROM order_events WHERE order_id = $1 AND version > $2", order_id, after
    )
    await own.pool.execute("ALTER TABLE order_events ENABLE TRIGGER USER")
    await own.pool.execute("DELETE FROM order_view.orders WHERE order_id = $1", order_id)


async def test_events_that_were_published_and_that_the_log_lacks_are_differences(
    own: Running, order_id: str
) -> None:
    whole = new_order_id()
    await own.gateway.execute(opening(whole, bagels()), 30)
    for each, version in ((order_id, 3), (whole, 2)):
        await acknowledged(own, each, version)
        await shown(own, each, version)
        await listed(own.client, f"WorkflowId = '{each}'")
    await lose(own, order_id, after=1)
    await lose(own, whole, after=0)

    *_, report = [
        report async for report in verify(own.pool, own.client, task_queue=own.task_queue)
    ]

    lacking = [difference for difference in report.differences if "the log lacks" in difference]
    assert [each.partition(",")[0] for each in lacking] == [
        f"order {order_id}: the log lacks version 2 to 3",
        f"order {whole}: the log lacks version 1 to 2",
    ]


async def test_event_that_is_still_on_its_way_is_no_difference(own: Running, order_id: str) -> None:
    await acknowledged(own, order_id, 3)
    async with own.pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE order_events IN SHARE MODE")
        await own.gateway.execute(message(order_id, bagels()), 30)
        assert (await verified(own)).differences == []
    await acknowledged(own, order_id, 4)
    assert (await verified(own)).differences == []


async def test_event_that_is_published_meanwhile_is_no_difference_of_the_state(
    own: Running, order_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await acknowledged(own, order_id, 3)
    async with own.pool.acquire() as connection:
        locked = connection.transaction()
        await locked.start()
        await connection.execute("LOCK TABLE order_events IN SHARE MODE")
        await own.gateway.execute(message(order_id, bagels()), 30)

        async def read_before_it_is_published(*args: Any, **options: Any) -> Any:
            monkeypatch.undo()
            found = await log.read_order(*args, **options)
            await locked.commit()
            await acknowledged(own, order_id, 4)
            return found

        monkeypatch.setattr(log, "read_order", read_before_it_is_published)
        report = Report()
        assert await _state_differences(own.client, own.pool, order_id, report) == []
        assert report.states == 1
    await lose(own, order_id, after=3)
    found = await _state_differences(own.client, own.pool, order_id, report)
    assert found == ["it is at version 4, and the log lacks 4"]


async def test_event_that_the_workflow_does_not_know_is_a_difference(
    own: Running, order_id: str
) -> None:
    await acknowledged(own, order_id, 3)
    await own.pool.execute(
        "INSERT INTO order_events"
        " (order_id, version, type, schema_version, occurred_at, data, metadata)"
        " SELECT order_id, 4, type, schema_version, occurred_at, data, metadata"
        " FROM order_events WHERE order_id = $1 AND version = 3",
        order_id,
    )
    found = [each for each in (await verified(own)).differences if "its workflow" in each]
    assert [each.partition(", as after")[0] for each in found] == [
        f"order {order_id}: its workflow lacks the last events of the log, 1 in number"
    ]
