"""Conventions of all responses: rejections, request ids, and no cross-origin access."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.support.api_requests import BAGELS, BASKET, opened, problem, shown


@pytest.mark.parametrize(
    ("command", "body", "headers", "status", "code"),
    [
        ("release-order", {}, {}, 409, "not-allowed-now"),
        ("remove-item-from-order", {"line_id": "none"}, {}, 409, "unknown-id"),
        ("add-note", {"text": "hi"}, {"If-Match": '"1"'}, 412, "version-conflict"),
    ],
)
async def test_rejection_lists_the_allowed_commands(
    http: httpx.AsyncClient,
    command: str,
    body: dict[str, Any],
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    path = await opened(http)
    allowed = (await shown(http, path, 3))["allowed_commands"]
    response = await http.post(f"{path}/commands/{command}", json=body, headers=headers)
    document = problem(response, status, code)
    assert document["current_version"] == 3
    assert sorted(document["allowed_commands"]) == sorted(allowed)


async def test_browsers_are_not_allowed_to_call_from_other_origins(http: httpx.AsyncClient) -> None:
    path = await opened(http)
    origin = {"Origin": "https://shop.example"}
    preflight = {**origin, "Access-Control-Request-Method": "POST"}
    responses = [
        await http.options("/v1/orders", headers=preflight),
        await http.options(f"{path}/commands/add-note", headers=preflight),
        await http.get(path, headers=origin),
        await http.get("/v1/orders", headers=origin),
        await http.get("/v1/problems", headers=origin),
        await http.post("/v1/orders", json=BASKET, headers=origin),
        await http.post("/v1/orders", json={}, headers=origin),
    ]
    for response in responses:
        assert [name for name in response.headers if name.startswith("access-control")] == []
    assert [response.status_code for response in responses[:2]] == [405, 405]


async def test_every_response_has_the_request_id(http: httpx.AsyncClient) -> None:
    path = await opened(http)
    await shown(http, path, 3)
    named, note = {"X-Request-Id": "req-1"}, {"text": "hi"}
    responses = [
        await http.get("/healthz", headers=named),
        await http.get("/nowhere", headers=named),
        await http.get(path, headers={**named, "If-None-Match": "*"}),
        await http.post("/v1/orders", json=BASKET, headers=named),
        await http.post(f"{path}/commands/add-note", json=note, headers=named),
        await http.post(
            f"{path}/commands/add-note", json=note, headers={**named, "Prefer": "respond-async"}
        ),
        await http.post("/v1/orders", json={**BASKET, "lines": [BAGELS] * 501}, headers=named),
        await http.post("/v1/orders", content=b"a", headers=named),
        await http.post(
            "/v1/orders",
            content=b" " * 300_000,
            headers={**named, "Content-Type": "application/json"},
        ),
    ]
    assert [response.status_code for response in responses] == [
        *(200, 404, 304, 201, 200, 202, 422, 415, 413),
    ]
    assert {response.headers["X-Request-Id"] for response in responses} == {"req-1"}
