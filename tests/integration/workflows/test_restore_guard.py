"""A process notices that Postgres or Temporal was restored, at its start and while it runs."""

from __future__ import annotations

import asyncio
import secrets

import asyncpg
import pytest
from temporalio.testing import WorkflowEnvironment

from eventlog.epochs import FIRST, read_epochs
from eventlog.postgres import connect_pool
from tests.support.processes import UNREACHABLE_DSN
from workflows import restore_guard
from workflows.restore_guard import RestoreNoticed, check_markers, guarded
from workflows.restore_marker import accept, read_markers, renew


@pytest.fixture
def queue() -> str:
    return f"guarded-{secrets.token_hex(4)}"


async def set_back(pool: asyncpg.Pool) -> None:
    """Makes Postgres take another token for Temporal's, as a restore of either does."""
    await pool.execute("UPDATE restore_marker SET current = 'older', next = 'older'")


async def test_no_restore_is_noticed_where_there_was_none(
    temporal: WorkflowEnvironment, pool: asyncpg.Pool, queue: str
) -> None:
    await check_markers(temporal.client, pool, queue)
    for _ in range(2):
        await asyncio.gather(*(renew(pool, temporal.client, queue, 0) for _ in range(3)))
        await check_markers(temporal.client, pool, queue)


async def test_token_of_another_time_is_noticed_until_it_is_accepted(
    temporal: WorkflowEnvironment, pool: asyncpg.Pool, queue: str
) -> None:
    await renew(pool, temporal.client, queue, 0)
    await set_back(pool)

    with pytest.raises(RestoreNoticed, match="earlier time: run `orderly restore status`"):
        await check_markers(temporal.client, pool, queue)

    assert (await read_epochs(pool)).current == FIRST
    assert await accept(pool, temporal.client, queue, "a test")
    await check_markers(temporal.client, pool, queue)
    assert (await read_epochs(pool)).current > FIRST
    assert not await accept(pool, temporal.client, queue, "a test")


async def test_token_that_is_being_replaced_is_not_noticed(
    temporal: WorkflowEnvironment, pool: asyncpg.Pool, queue: str
) -> None:
    await renew(pool, temporal.client, queue, 0)
    await pool.execute("UPDATE restore_marker SET next = 'newer'")
    await check_markers(temporal.client, pool, queue)
    await pool.execute("UPDATE restore_marker SET next = current, current = 'replaced'")
    await check_markers(temporal.client, pool, queue)


async def test_renewals_that_were_interrupted_are_not_noticed(
    temporal: WorkflowEnvironment,
    pool: asyncpg.Pool,
    queue: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise ConnectionError("a test")

    await renew(pool, temporal.client, queue, 0)
    await pool.execute("UPDATE restore_marker SET current = 'before'")
    monkeypatch.setattr(temporal.client, "start_workflow", fail)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await renew(pool, temporal.client, queue, 0)
        await check_markers(temporal.client, pool, queue)


async def test_empty_temporal_and_other_database_are_noticed(
    temporal: WorkflowEnvironment, pool: asyncpg.Pool, queue: str
) -> None:
    await renew(pool, temporal.client, queue, 0)
    await pool.execute("UPDATE restore_marker SET task_queue = $1", f"{queue}-2")
    with pytest.raises(RestoreNoticed, match="Temporal has no trace"):
        await check_markers(temporal.client, pool, f"{queue}-2")

    markers = await read_markers(pool, temporal.client, queue)
    assert "earlier time" in (markers.difference or "")
    assert "not the one" in (markers._replace(identity="1/00000002/5").difference or "")


async def test_running_process_stops_when_it_notices(
    temporal: WorkflowEnvironment,
    pool: asyncpg.Pool,
    queue: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(restore_guard, "CHECK_SECONDS", 0.1)
    stopped = asyncio.Event()

    async def run() -> None:
        async with guarded(temporal.client, pool, queue, stopped.set, renews=True):
            await asyncio.sleep(0.3)
            assert not stopped.is_set()
            await set_back(pool)
            async with asyncio.timeout(60):
                await stopped.wait()

    with pytest.raises(RestoreNoticed):
        await run()


async def test_process_starts_while_postgres_is_unavailable(
    temporal: WorkflowEnvironment, queue: str
) -> None:
    stopped = asyncio.Event()
    async with (
        await connect_pool(UNREACHABLE_DSN) as unreachable,
        asyncio.timeout(60),
        guarded(temporal.client, unreachable, queue, stopped.set, renews=True),
    ):
        assert not stopped.is_set()
