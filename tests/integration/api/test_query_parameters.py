"""Every route rejects unknown and repeated parameters: a typo never widens a filter."""

from __future__ import annotations

import json
import re
from difflib import get_close_matches
from typing import Any
from unittest.mock import Mock

import httpx
import pytest

from api.openapi import METHODS
from api.problems import handlers, strict_route
from api.problems.problem import ERRORS_MAX
from contracts.openapi_document import FILE
from tests.support.api_requests import problem

ROUTES: dict[str, tuple[str, str, list[dict[str, Any]]]] = {
    operation["operationId"]: (
        method.upper(),
        re.sub(r"\{\w+\}", "x", path),
        [p for p in operation.get("parameters", []) if p.get("in") == "query"],
    )
    for path, methods in json.loads(FILE.read_text())["paths"].items()
    for method, operation in methods.items()
    if method in METHODS
}


async def errors_of(http: httpx.AsyncClient, name: str, query: str) -> list[tuple[str, str]]:
    """The parameters that a route rejects, each with the code of its error."""
    method, path, _ = ROUTES[name]
    body: dict[str, Any] | None = {} if method == "POST" else None
    response = await http.request(method, f"{path}?{query}", json=body)
    errors = problem(response, 422, "malformed-request")["errors"]
    return [(error["parameter"], error["code"]) for error in errors]


@pytest.mark.parametrize("name", ROUTES)
async def test_route_rejects_an_unknown_parameter(http: httpx.AsyncClient, name: str) -> None:
    for query in ("colour=blue", "colour=", "colour", "colour=blue&colour=red"):
        assert await errors_of(http, name, query) == [("colour", "unknown-parameter")]


@pytest.mark.parametrize("name", [name for name in ROUTES if ROUTES[name][2]])
async def test_route_rejects_a_repeated_parameter_that_takes_one_value(
    http: httpx.AsyncClient, name: str
) -> None:
    for parameter in ROUTES[name][2]:
        repeated, shape = parameter["name"], json.dumps(parameter["schema"])
        if '"array"' not in shape:
            query = f"{repeated}=1&{repeated}=1"
            assert await errors_of(http, name, query) == [(repeated, "repeated")]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/v1/orders", "status=draft&status=placed"),
        ("/v1/events", "type=order-opened&type=order-placed"),
    ],
)
async def test_lists_of_values_are_read_completely(
    http: httpx.AsyncClient, path: str, query: str
) -> None:
    assert (await http.get(f"{path}?{query}")).status_code == 200
    broken = await http.get(f"{path}?{query}&{query.partition('=')[0]}=lost")
    name = problem(broken, 422, "malformed-request")["errors"][0]["parameter"]
    assert name == f"{query.partition('=')[0]}.2"


async def test_work_for_a_response_does_not_grow_with_the_mistakes(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = Mock(wraps=get_close_matches)
    monkeypatch.setattr(strict_route, "get_close_matches", compare)
    query = "&".join(f"statu{number}" for number in range(3_000))
    rejected = problem(await http.get(f"/v1/orders?{query}"), 422, "malformed-request")
    assert rejected["detail"].startswith("3000 parts of the request are invalid")
    assert len(rejected["errors"]) == ERRORS_MAX
    assert rejected["errors"][0]["detail"].endswith("did you mean status?")
    assert compare.call_count <= strict_route.HINTS_MAX

    describe = Mock(wraps=handlers._field_error)
    monkeypatch.setattr(handlers, "_field_error", describe)
    body = dict.fromkeys(f"field{number}" for number in range(3_000))
    rejected = problem(await http.post("/v1/orders", json=body), 422, "malformed-request")
    assert len(rejected["errors"]) == ERRORS_MAX
    assert describe.call_count == ERRORS_MAX
