"""Signed callbacks, as external services send them."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from tests.support.servers import Running
from tests.support.webhook_signing import signed_headers


def event(type_: str, data: Mapping[str, Any], age: timedelta = timedelta()) -> bytes:
    occurred_at = datetime.now(UTC) - age
    return json.dumps({"type": type_, "timestamp": occurred_at.isoformat(), "data": data}).encode()


async def send_callback(
    orderly: Running,
    service: str,
    body: bytes,
    message_id: str | None = None,
    **changes: str | None,
) -> httpx.Response:
    """Sends a signed event; `changes` replace headers, or leave them out where they are None."""
    message_id = message_id or f"msg_{secrets.token_hex(6)}"
    headers = signed_headers(orderly.webhook_secret, message_id, time.time(), body)
    headers["Content-Type"] = "application/json"
    headers |= {f"webhook-{name}": value for name, value in changes.items() if value is not None}
    for name, value in changes.items():
        if value is None:
            del headers[f"webhook-{name}"]
    return await orderly.http.post(
        f"/v1/callbacks/{service}", content=body, headers=httpx.Headers(headers, encoding="latin-1")
    )


async def recorded(http: httpx.AsyncClient, number: int, **query: str) -> list[dict[str, Any]]:
    """The newest recorded callbacks, once there are at least `number`."""
    async with asyncio.timeout(60):
        while True:
            response = await http.get("/v1/callbacks", params=query)
            assert response.status_code == 200, response.text
            if len(items := response.json()["items"]) >= number:
                return list(items)
            await asyncio.sleep(0.05)
