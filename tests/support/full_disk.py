"""A stack whose disk is full for a while, and what its operator sees; prints it as JSON.

A program of its own, because the disk is mounted before the process has any thread.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from dev.chaos.small_disk import SmallDisk, small_disk
from dev.stack import Stack, StackOptions, run_stack

LOOK_AGAIN_SECONDS = 0.5
WAIT_SECONDS = 120.0  # It shows soon after something could not be written.
DRAFT = {"customer_id": "900", "currency": "USD"}
METRIC = 'orderly_dependency_ok{dependency="temporal"} '

Look = Callable[[], Awaitable[bool]]


def main() -> None:
    folder = Path(sys.argv[1])
    with small_disk(folder) as disk:
        print(json.dumps(asyncio.run(_live_through(folder / "data", disk))))


async def _live_through(data_dir: Path, disk: SmallDisk) -> dict[str, Any]:
    """The seconds until each way of looking shows it, and until each is well again."""
    async with (
        run_stack(StackOptions(data_dir, 0, 0, 0)) as stack,
        httpx.AsyncClient(base_url=stack.api_url, timeout=WAIT_SECONDS) as http,
        httpx.AsyncClient(base_url=stack.admin_urls["api"], timeout=WAIT_SECONDS) as admin,
    ):
        looks = _looks(stack, admin)
        await _seconds_until(True, looks)

        async def is_executed() -> bool:
            return (await http.post("/v1/orders", json=DRAFT)).status_code == 201

        async def is_executed_on_a_full_disk() -> bool:
            disk.fill()
            return await is_executed()

        await _seconds_until(False, {"command": is_executed_on_a_full_disk})
        shown = await _seconds_until(False, looks)
        disk.free()
        well = await _seconds_until(True, looks | {"command": is_executed})
        return {"shown": shown, "well": well}


def _looks(stack: Stack, admin: httpx.AsyncClient) -> dict[str, Look]:
    async def readiness() -> bool:
        ready: bool = (await admin.get("/readyz", params={"for": "commands"})).status_code == 200
        return ready

    async def metrics() -> bool:
        return f"{METRIC}1" in (await admin.get("/metrics")).text

    async def status() -> bool:
        command = (sys.executable, "-m", "cli", "status", "--url", stack.admin_urls["api"])
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        return await process.wait() == 0

    return {"readiness": readiness, "metrics": metrics, "status": status}


async def _seconds_until(wanted: bool, looks: dict[str, Look]) -> dict[str, float]:
    """The seconds until each has shown what is wanted."""
    began = time.monotonic()

    async def wait(look: Look) -> float:
        async with asyncio.timeout(WAIT_SECONDS):
            while await look() is not wanted:
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
        return time.monotonic() - began

    seconds = await asyncio.gather(*map(wait, looks.values()))
    return dict(zip(looks, seconds, strict=True))


if __name__ == "__main__":
    main()
