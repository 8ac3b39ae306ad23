"""Workers are killed while orders continue as new under load; nothing is lost, nothing twice."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from random import Random

import asyncpg
import httpx
import pytest
from temporalio.client import Client

from dev.api_client import ApiClient
from dev.stack import StackOptions
from tests.support.histories import runs_of
from tests.support.servers import run_replayed_stack

NOTES = 150  # Of each order: six runs or more.
ORDERS_AT_ONCE = 8
KILLS = 6
RUN_SECONDS = (1.0, 6.0)  # Between two kills.


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_killed_workers_lose_nothing_while_orders_continue_as_new(tmp_path: Path) -> None:
    options = StackOptions(tmp_path / "data", api_port=0, temporal_port=0, ui_port=0)
    async with (
        run_replayed_stack(options) as stack,
        httpx.AsyncClient(base_url=stack.api_url, timeout=60) as http,
    ):
        api, dice, done = ApiClient(http, retry_s=120, wait_s=30), Random(14), asyncio.Event()
        opening = {"customer_id": "900", "currency": "USD"}
        order_ids = [(await api.open_order(opening))["order_id"] for _ in range(ORDERS_AT_ONCE)]

        async def add_notes(order_id: str) -> None:
            for number in range(NOTES):
                note = {"text": f"{number}"}
                added = await api.send_command(
                    order_id, "add-note", note, key=f"{order_id}:{number}"
                )
                assert added.status_code == 200, added.text

        async def kill_workers() -> int:
            for count in range(KILLS):
                with suppress(TimeoutError):
                    await asyncio.wait_for(done.wait(), dice.uniform(*RUN_SECONDS))
                    return count
                with suppress(ProcessLookupError):  # It is being started again.
                    os.kill(stack.pids["worker"], signal.SIGKILL)
            return KILLS

        killing = asyncio.create_task(kill_workers())
        await asyncio.gather(*(add_notes(order_id) for order_id in order_ids))
        done.set()
        assert await killing > 1

        temporal = await Client.connect(stack.temporal_address)
        for order_id in order_ids:
            assert (await api.order(order_id, NOTES + 1))["version"] == NOTES + 1
            assert len(await runs_of(temporal, order_id)) > NOTES // 40
        connection = await asyncpg.connect(stack.postgres_dsn)
        texts = await connection.fetch(
            "SELECT order_id, data->>'text' AS text FROM order_events WHERE type = 'note-added'"
        )
        await connection.close()
        assert sorted((row["order_id"], int(row["text"])) for row in texts) == sorted(
            (order_id, number) for order_id in order_ids for number in range(NOTES)
        )
