"""Worker, API and projector are killed at random times under load; nothing is lost."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from dev.stack import StackOptions, run_stack
from eventlog import log
from eventlog.postgres import connect_pool
from readside.order_view import queries as order_lists
from readside.order_view.row import order_row
from readside.order_view.view import OrderView, fold_view
from tests.support.api_requests import BAGELS

KILLED = ("worker", "api", "projector")
SECONDS_OF_KILLING = 20.0
SHOPPERS = 8
ITEMS = 6


class Shopper:
    """Opens orders and adds items; repeats a request under its key until it is answered.

    It adds every other item asynchronously and polls its result.
    """

    def __init__(self, http: httpx.AsyncClient, name: str) -> None:
        self._http = http
        self._name = name
        self.acknowledged: dict[str, list[dict[str, Any]]] = {}
        self.repeated = 0
        self.left = 0

    async def shop(self, until: float) -> None:
        basket = 0
        while time.monotonic() < until:
            basket += 1
            key = f"{self._name}-{basket}"
            opened = await self._post(
                "/v1/orders", {"customer_id": self._name, "currency": "USD"}, key
            )
            path = f"/v1/orders/{opened['order_id']}"
            added = [
                await self._post(
                    f"{path}/commands/add-item-to-order",
                    {**BAGELS, "line_id": f"line-{item}"},
                    f"{key}-{item}",
                    {"Prefer": "respond-async"} if item % 2 else {},
                )
                for item in range(ITEMS)
            ]
            self.acknowledged[opened["order_id"]] = [opened, *added]

    async def _post(
        self, path: str, body: dict[str, Any], key: str, prefer: dict[str, str] | None = None
    ) -> dict[str, Any]:
        headers = {"Idempotency-Key": key, **(prefer or {})}
        result = await self._request_until_answered("POST", path, json=body, headers=headers)
        if "state" not in result:
            return result
        self.left += 1
        while result["state"] == "pending":
            result = await self._request_until_answered("GET", result["href"])
        assert result["state"] == "done", result
        done: dict[str, Any] = result["result"]
        return done

    async def _request_until_answered(
        self, method: str, path: str, **request: Any
    ) -> dict[str, Any]:
        while True:
            try:
                response = await self._http.request(method, path, **request)
            except httpx.TransportError:
                response = None  # The API was killed: the outcome is unknown.
            if response is not None and response.status_code in (200, 201, 202):
                result: dict[str, Any] = response.json()
                return result
            assert response is None or response.status_code in (429, 503), response.text
            self.repeated += 1
            await asyncio.sleep(0.2)


async def test_random_kills_under_load_lose_and_repeat_nothing(
    tmp_path: Path,
) -> None:
    info_file = tmp_path / "info.json"
    options = StackOptions(
        tmp_path / "data", api_port=0, temporal_port=0, ui_port=0, info_file=info_file
    )
    dice = random.Random(17)
    async with (
        run_stack(options) as stack,
        httpx.AsyncClient(base_url=stack.api_url, timeout=20) as http,
    ):
        until = time.monotonic() + SECONDS_OF_KILLING
        shoppers = [Shopper(http, f"shopper-{number}") for number in range(SHOPPERS)]
        shopping = asyncio.gather(*(shopper.shop(until) for shopper in shoppers))
        killed = await kill_at_random(info_file, dice, until)
        await shopping

        assert set(killed) == set(KILLED)
        assert sum(shopper.repeated for shopper in shoppers) > 0, "no kill was ever noticed"
        assert all(shopper.left > 0 for shopper in shoppers)
        acknowledged = {k: v for shopper in shoppers for k, v in shopper.acknowledged.items()}
        assert len(acknowledged) >= SHOPPERS
        async with await connect_pool(stack.postgres_dsn) as pool:
            for order_id, results in acknowledged.items():
                await assert_kept(http, pool, order_id, results)


async def kill_at_random(info_file: Path, dice: random.Random, until: float) -> list[str]:
    """Kills one process after the other without warning, and says which."""
    killed: list[str] = []
    while time.monotonic() < until:
        await asyncio.sleep(dice.uniform(0.3, 2.0))
        name = dice.choice(KILLED)
        pid = json.loads(info_file.read_text())["pids"][name]
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue  # It was killed a moment ago and is not back yet.
        killed.append(name)
    return killed


async def assert_kept(
    http: httpx.AsyncClient, pool: asyncpg.Pool, order_id: str, results: list[dict[str, Any]]
) -> None:
    """The log has each acknowledged change once, and the read model is the fold of the log."""
    versions = list(range(1, ITEMS + 2))
    assert [result["version"] for result in results] == versions
    async with asyncio.timeout(60):
        while await log.head(pool, order_id) < versions[-1]:
            await asyncio.sleep(0.1)
        row = None
        while row is None or row.version < versions[-1]:
            row = await order_lists.find(pool, order_id)
            await asyncio.sleep(0.01)
    stream = await log.read_stream(pool, order_id)
    assert [envelope.version for envelope in stream] == versions
    lines = [envelope.data["line_id"] for envelope in stream[1:]]
    assert lines == [f"line-{item}" for item in range(ITEMS)]
    assert row == order_row(fold_view(OrderView(order_id), stream))
    assert json.loads(row.document)["total"] == results[-1]["total"]
