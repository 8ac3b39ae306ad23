"""Requests that many tests of the API send, and checks of the responses."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

import httpx

BAGELS = {"sku": "1095275", "title": "ROLLS: BAGELS", "quantity": 2, "unit_price": 50}
TUNA = {"sku": "1053875", "title": "TUNA", "quantity": 2, "unit_price": 179, "discount": 80}
BASKET = {"customer_id": "900", "currency": "USD", "lines": [BAGELS, TUNA]}
BAGELS_CENTS, TUNA_CENTS = 100, 278

TRANSIENT = {"temporal-unavailable", "storage-unavailable", "outcome-unknown", "projection-behind"}


class PatientClient(httpx.AsyncClient):
    """A client of an API with the time limits of production, which a busy machine may exceed.

    Repeats a request that was answered 503 for that reason, under the same idempotency key.
    """

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        if request.method == "POST":
            request.headers.setdefault("Idempotency-Key", secrets.token_hex(8))
        clock = asyncio.get_running_loop().time
        deadline = clock() + 60
        while is_transient(response := await super().send(request, **options)):
            if clock() > deadline:
                break
            await asyncio.sleep(0.2)
        return response


def is_transient(response: httpx.Response) -> bool:
    """Whether the API says that a server did not respond in time."""
    return response.status_code == 503 and response.json()["code"] in TRANSIENT


async def opened(http: httpx.AsyncClient, **changes: Any) -> str:
    """The path of a new draft."""
    response = await http.post("/v1/orders", json={**BASKET, **changes})
    assert response.status_code == 201, response.text
    path: str = response.headers["Location"]
    return path


async def shown(http: httpx.AsyncClient, path: str, version: int) -> dict[str, Any]:
    response = await http.get(path, params={"min_version": version})
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


async def until_ready(http: httpx.AsyncClient, what: str | None = None) -> dict[str, Any]:
    """The response of /readyz, once it is 200: on a busy machine, a check may take too long."""
    async with asyncio.timeout(60):
        while (response := await http.get("/readyz", params=what and {"for": what})).is_error:
            assert response.status_code == 503
            await asyncio.sleep(0.1)
    readiness: dict[str, Any] = response.json()
    return readiness


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem document, which is complete and says what is wrong in `status` and `code`."""
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert (response.status_code, document["code"]) == (status, code), response.text
    assert document["status"] == status
    assert document["instance"] == response.request.url.path
    assert all(document[field] for field in ("type", "title", "detail", "request_id", "trace_id"))
    return document
