"""Clients of the event feed: page by page, and as a stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

TIMEOUT_S = 60


async def page(http: httpx.AsyncClient, after: str | None = None, **more: Any) -> dict[str, Any]:
    query = {**({"cursor": after} if after else {}), **more}
    response = await http.get("/v1/events", params=query)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def read_on(
    http: httpx.AsyncClient, after: str | None = None, **more: Any
) -> tuple[list[dict[str, Any]], str]:
    """All events after a cursor, page by page, and the cursor of the end."""
    items: list[dict[str, Any]] = []
    while True:
        found = await page(http, after, **more)
        items += found["items"]
        previous, after = after, str(found["next"])
        if after == previous:
            return items, after


def order_versions(items: list[dict[str, Any]]) -> list[tuple[str, int]]:
    """The order id and the version of each event."""
    return [(item["subject"], int(item["sequence"])) for item in items]


SSE = {"Accept": "text/event-stream"}


class Stream:
    """A reader of a stream, with the id of its last event."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.last_id = ""
        self._lines = response.aiter_lines()

    async def next(self) -> dict[str, Any]:
        """The next event."""
        block: dict[str, str] = {}
        async with asyncio.timeout(TIMEOUT_S):
            async for line in self._lines:
                field, _, value = line.partition(": ")
                block[field] = value
                self.last_id = block.get("id", self.last_id)
                if not line and "data" in block:
                    event: dict[str, Any] = json.loads(block["data"])
                    assert event["type"] == block["event"]
                    return event
                if not line:
                    block = {}
        raise EOFError("the stream has ended")

    async def take(self, count: int) -> list[dict[str, Any]]:
        return [await self.next() for _ in range(count)]


@asynccontextmanager
async def streaming(
    http: httpx.AsyncClient, last_id: str | None = None, **query: Any
) -> AsyncIterator[Stream]:
    headers = SSE | ({"Last-Event-ID": last_id} if last_id else {})
    async with http.stream("GET", "/v1/events", params=query, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield Stream(response)
