"""Waiting for Temporal's visibility, which lags behind what workflows do."""

from __future__ import annotations

import asyncio

from temporalio.client import Client

WAIT_SECONDS = 30.0


async def listed(client: Client, query: str) -> None:
    """Waits until visibility lists a run that the query selects."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not (await client.count_workflows(query)).count:
            await asyncio.sleep(0.02)


async def unlisted(client: Client, query: str) -> None:
    """Waits until visibility lists no run that the query selects."""
    async with asyncio.timeout(WAIT_SECONDS):
        while (await client.count_workflows(query)).count:
            await asyncio.sleep(0.02)
