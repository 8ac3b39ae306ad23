"""Each server is restored to an earlier time, by itself or both, and repaired without loss.

One history is recorded, with three points in time. Each drill restores Postgres to one of them by
point-in-time recovery, and Temporal to another by a copy of its database.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from temporalio.client import Client

from api.gateway.command_message import CommandMessage
from api.gateway.gateway import Gateway
from cli.restore_apply import REASON, apply
from cli.restore_differences import Kind
from cli.restore_survey import Survey, survey
from cli.verify import Report, verify
from eventlog import log
from eventlog.cursor import encode_cursor
from orders.commands import CancelOrder, OrderCommand, SetShippingAddress
from privacy.address import Address
from privacy.keys import PostgresKeys
from privacy.sealing import seal
from readside.engine.checkpoints import order_progress
from readside.engine.migrate import migrate
from readside.registry import PROJECTIONS
from settings import Settings
from tests.support.command_builders import bagels, message, opening
from tests.support.processes import run
from tests.support.restorable import QUEUE, Site, restorable_site
from tests.support.servers import run_api
from workflows.comparison import Run, read_runs
from workflows.history import all_runs_of
from workflows.restore_guard import RestoreNoticed, check_markers, check_newest_orders
from workflows.restore_marker import renew
from workflows.visibility import RUNNING

pytestmark = [pytest.mark.drill, pytest.mark.xdist_group("restore_drills")]

WAIT_SECONDS = 30.0
GROWING, ENDING, YOUNG, YOUNGEST, ADDRESSED = (
    f"ord_{name}" for name in ("growing", "ending", "young", "youngest", "addressed")
)

Rows = list[dict[str, Any]]


@dataclass
class Past:
    """What was in the log and in `order_view` at the end, and how long the log was before."""

    events: Rows
    orders: Rows
    versions: dict[str, dict[str, int]]
    """By point in time and order, its version."""

    cursors: dict[str, str]
    """Of the feed, by point in time."""

    def lost(self, since: str, until: str = "end") -> int:
        return sum(self.versions[until].values()) - sum(self.versions[since].values())


@pytest.fixture(scope="module")
async def recorded() -> AsyncIterator[tuple[Site, Past]]:
    with restorable_site() as site:
        await migrate(site.dsn, PROJECTIONS)
        await site.back_up()
        await site.connect()
        async with site.serving() as gateway, site.pool() as pool:
            await renew(pool, site.client, QUEUE, 0)
            past = await _live(site, gateway, pool)
        await site.archive()
        yield site, past


async def _live(site: Site, gateway: Gateway, pool: asyncpg.Pool) -> Past:
    versions: dict[str, dict[str, int]] = {}
    cursors: dict[str, str] = {}
    acknowledged: dict[str, int] = {}

    async def send(order: CommandMessage) -> None:
        acknowledged[order.order_id] = (await gateway.execute(order, WAIT_SECONDS)).version

    async def mark(point: str) -> None:
        await _settled(site, pool, acknowledged)
        await site.mark(point)
        versions[point] = dict(acknowledged)
        cursors[point] = encode_cursor(await log.settled_head(pool))

    await send(opening(GROWING, bagels()))
    await send(opening(ENDING, bagels()))
    await mark("early")
    await send(message(GROWING, bagels(), key="grown"))
    await send(message(ENDING, CancelOrder()))
    await send(opening(YOUNG, bagels()))
    await mark("middle")
    await send(message(GROWING, bagels(), bagels()))
    await send(opening(YOUNGEST))
    await send(opening(ADDRESSED, await _addressing(pool)))
    await mark("end")
    return Past(await _events(pool), await _orders(pool), versions, cursors)


async def _addressing(pool: asyncpg.Pool) -> OrderCommand:
    key = await PostgresKeys(pool).current("900")
    address = Address(
        name="Ada", line1="1 Main St", postal_code="1011 AB", city="Delft", country="NL"
    )
    return SetShippingAddress(address=seal(address, key))


async def _settled(site: Site, pool: asyncpg.Pool, versions: dict[str, int]) -> None:
    """Waits until log, view and Temporal have these versions of the orders, and lists them."""
    async with asyncio.timeout(WAIT_SECONDS):
        for order_id, version in versions.items():
            while True:
                logged = await log.head(pool, order_id)
                seen = (await order_progress(pool, "order_view", order_id)).version
                newest, *_ = await read_runs(site.client, order_id)
                is_settled = logged == seen == newest.head == version and not newest.pending
                if is_settled and await _is_listed(site.client, newest):
                    break
                await asyncio.sleep(0.05)


async def _is_listed(client: Client, run: Run) -> bool:
    """Whether Temporal's list has a run as it is: its copy would else lack it, or show it open."""
    status = "ExecutionStatus != 'Running'" if run.is_closed else RUNNING
    return (await client.count_workflows(f"RunId = '{run.run_id}' AND {status}")).count == 1


async def _events(pool: asyncpg.Pool) -> Rows:
    """All that the log has of each event, but for its place in the log."""
    return [
        dict(row)
        for row in await pool.fetch(
            "SELECT order_id, version, type, schema_version, occurred_at, data, metadata"
            " FROM order_events ORDER BY order_id, version"
        )
    ]


async def _orders(pool: asyncpg.Pool) -> Rows:
    rows = await pool.fetch(
        "SELECT order_id, version, status, document::text FROM order_view.orders ORDER BY order_id"
    )
    return [dict(row) for row in rows]


async def surveyed(site: Site) -> Survey:
    async with site.pool() as pool:
        *_, found = [found async for found in survey(pool, site.client, QUEUE)]
    return found


async def repairing(site: Site, *, dry_run: bool = False) -> AsyncGenerator[str, None]:
    async with (
        site.pool() as pool,
        aclosing(apply(pool, site.client, QUEUE, dry_run=dry_run)) as repairs,
    ):
        async for done in repairs:
            yield done


async def applied(site: Site, *, dry_run: bool = False) -> list[str]:
    return [done async for done in repairing(site, dry_run=dry_run)]


async def verified(site: Site, versions: dict[str, int]) -> Report:
    """What `verify` reports once all have these versions of the orders."""
    async with site.serving(), site.pool() as pool:
        await _settled(site, pool, versions)
        *_, report = [report async for report in verify(pool, site.client, task_queue=QUEUE)]
    return report


async def orderly(site: Site, *command: str) -> subprocess.CompletedProcess[str]:
    variables = {
        "ORDERLY_POSTGRES_DSN": site.dsn,
        "ORDERLY_TASK_QUEUE": QUEUE,
        "ORDERLY_AUTH": "none",
        "TEMPORAL_ADDRESS": site.address,
    }
    return await asyncio.to_thread(run, *command, **variables)


async def assert_refuses_to_start(site: Site, process: str) -> None:
    ended = await orderly(site, process)
    assert ended.returncode == 1, ended
    assert "run `orderly restore status`" in ended.stderr.splitlines()[-1]


def kinds(found: Survey) -> Counter[Kind]:
    return Counter(difference.kind for difference in found.differences)


async def test_older_log_gets_its_lost_events_back(recorded: tuple[Site, Past]) -> None:
    site, past = recorded
    await site.restore(postgres="early", temporal="end")

    for process in ("worker", "api"):
        await assert_refuses_to_start(site, process)
    found = await surveyed(site)
    assert found.events_with(Kind.MISSING) == past.lost("early")
    assert found.ended_with_missing_tail == 1
    assert kinds(found) == {Kind.MISSING: 5, Kind.KEY: 1}
    assert len(await applied(site, dry_run=True)) == 5
    assert await surveyed(site) == found, "a dry run changes nothing"

    async with aclosing(repairing(site)) as interrupted:
        await anext(interrupted)
    assert len(await applied(site)) == 4
    assert await applied(site) == []
    # The key was created in the lost time, and no event holds a key.
    (unreadable,) = (await surveyed(site)).differences
    assert (unreadable.order_id, unreadable.kind) == (ADDRESSED, Kind.KEY)
    async with site.pool() as pool:
        assert await _events(pool) == past.events
    assert (await verified(site, past.versions["end"])).differences == []
    async with site.pool() as pool:
        assert await _orders(pool) == past.orders
        await PostgresKeys(pool).forget(unreadable.text.rpartition(" ")[2])
    await assert_refuses_to_start(site, "worker")
    ended = await orderly(site, "restore", "status")
    assert (ended.returncode, "API and workers may start" in ended.stdout) == (0, True)
    async with site.pool() as pool:
        await check_markers(site.client, pool, QUEUE)
    await assert_followers_notice(site, past)


async def assert_followers_notice(site: Site, past: Past) -> None:
    async with run_api(site.client, Settings(postgres_dsn=site.dsn, task_queue=QUEUE)) as http:
        survived = await http.get("/v1/events", params={"cursor": past.cursors["early"]})
        rejected = await http.get("/v1/events", params={"cursor": past.cursors["end"]})
        again = re.search(r"continue with (\S+),", rejected.json()["detail"])
        assert (rejected.status_code, rejected.json()["title"]) == (400, "Invalid cursor")
        assert again is not None
        resumed = await http.get("/v1/events", params={"cursor": again[1]})

    assert survived.json()["items"] == resumed.json()["items"]
    assert len(resumed.json()["items"]) == past.lost("early")


async def test_older_temporal_continues_from_the_log(recorded: tuple[Site, Past]) -> None:
    site, past = recorded
    await site.restore(postgres="end", temporal="early")

    found = await surveyed(site)
    assert kinds(found) == {Kind.AHEAD: 2, Kind.UNKNOWN: 3}
    async with site.pool() as pool:
        with pytest.raises(RestoreNoticed, match="Temporal lacks events of order"):
            await check_newest_orders(site.client, pool, QUEUE)

    # As after an `apply` that was killed between the two halves of a repair.
    await site.client.get_workflow_handle(GROWING).terminate(reason="a test")
    assert len(await applied(site)) == 5
    runs = [run for each in past.versions["end"] async for run in all_runs_of(site.client, each)]
    ends = [run.events[-1].workflow_execution_terminated_event_attributes for run in runs]
    assert {end.reason for end in ends} == {"", "a test", REASON}
    assert await applied(site) == []
    async with site.pool() as pool:
        await check_newest_orders(site.client, pool, QUEUE)
    assert (await surveyed(site)).differences == []
    async with site.serving() as gateway:
        repeated = await gateway.execute(message(GROWING, bagels(), key="grown"), WAIT_SECONDS)
        assert repeated.version == past.versions["middle"][GROWING]
        added = await gateway.execute(message(GROWING, bagels()), WAIT_SECONDS)
        assert added.version == past.versions["end"][GROWING] + 1
    versions = past.versions["end"] | {GROWING: added.version}
    assert (await verified(site, versions)).differences == []


@pytest.mark.parametrize(
    ("postgres", "temporal", "expected"),
    [
        ("early", "middle", {Kind.MISSING: 3}),
        ("middle", "early", {Kind.AHEAD: 2, Kind.UNKNOWN: 1}),
    ],
)
async def test_both_older_by_different_amounts_agree_on_the_newer(
    recorded: tuple[Site, Past], postgres: str, temporal: str, expected: dict[Kind, int]
) -> None:
    site, past = recorded
    await site.restore(postgres=postgres, temporal=temporal)

    assert kinds(await surveyed(site)) == expected
    await applied(site)
    assert (await surveyed(site)).differences == []
    report = await verified(site, past.versions["middle"])
    assert (report.orders, report.differences) == (3, [])


async def test_forked_order_is_named_and_left_to_a_person(recorded: tuple[Site, Past]) -> None:
    site, past = recorded
    await site.restore(postgres="early", temporal="end")
    async with site.serving() as gateway, site.pool() as pool:
        # It was cancelled in the time that the log has lost.
        await gateway.execute(message(ENDING, bagels()), WAIT_SECONDS)
        async with asyncio.timeout(WAIT_SECONDS):
            while await log.head(pool, ENDING) == past.versions["early"][ENDING]:
                await asyncio.sleep(0.05)

    await applied(site)
    left = [each for each in (await surveyed(site)).differences if each.kind is not Kind.KEY]
    assert [(each.order_id, each.kind) for each in left] == [(ENDING, Kind.FORKED)]

    ended = await orderly(site, "restore", "status")
    assert ended.returncode == 1
    assert f"order {ENDING}: version 3 is another event in the log than in Temporal" in ended.stdout
    ended = await orderly(site, "restore", "overrule", "--yes", "--because", "it was called")
    assert (ended.returncode, ended.stdout.count("accepted: ")) == (0, 2)
    found = await surveyed(site)
    assert (found.differences, len(found.accepted)) == ([], 2)
    async with site.pool() as pool:
        await check_markers(site.client, pool, QUEUE)
