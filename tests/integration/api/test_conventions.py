"""What every answer of the API has in common, whatever it is about."""

from __future__ import annotations

import ast
import inspect
from types import FunctionType
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from api.problems import problem as errors
from api.problems.handlers import respond
from api.problems.problem import FieldError, Problem
from tests.support.api_requests import BAGELS, BASKET, opened, problem, shown
from tests.support.paths import ROOT
from workflows.messages import LOG_BEHIND, VERSION_CONFLICT, Rejection

WAITING_HELPS = (429, 503)


def refusal(code: str) -> Rejection:
    return Rejection(code=code, message="no", version=7, allowed_commands=["add-note"])


# What each constructor in api/errors.py can be asked to make.
SAMPLES: dict[str, list[tuple[Any, ...]]] = {
    "unknown_order": [("ord_x",)],
    "unknown_command": [("ord_x",)],
    "key_reused": [()],
    "outcome_unknown": [()],
    "engine_unavailable": [()],
    "too_busy": [()],
    "overloaded": [()],
    "rate_limited": [(7,)],
    "unauthenticated": [(), ("it has expired",)],
    "insufficient_scope": [("orders:read",)],
    "storage_unavailable": [()],
    "malformed": [([FieldError(pointer="#", code="missing", detail="is missing")],)],
    "malformed_header": [("If-Match", "must be a version")],
    "not_ours": [("cursor", "is not one that a page answered")],
    "unserved_sort": [(["total"],)],
    "refused": [(refusal(c), "#") for c in (LOG_BEHIND, VERSION_CONFLICT, "no-lines")],
}


def test_whoever_should_wait_is_told_for_how_long() -> None:
    constructors = {
        name: function
        for name, function in vars(errors).items()
        if isinstance(function, FunctionType)
        and inspect.get_annotations(function).get("return") == Problem.__name__
    }
    assert constructors.keys() == SAMPLES.keys(), "a problem that this test does not know"
    for name, samples in SAMPLES.items():
        for arguments in samples:
            answer = answered(constructors[name](*arguments))
            has_it = answer.headers.get("Retry-After", "").isdecimal()
            assert has_it == (answer.status_code in WAITING_HELPS), name


def test_so_is_whoever_meets_a_problem_that_is_made_elsewhere() -> None:
    """By the source: each of these must say `retry_after` where it says its status."""
    for file in sorted((ROOT / "api").rglob("*.py")):
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "Problem":
                status = call.args[0]
                if isinstance(status, ast.Constant) and status.value in WAITING_HELPS:
                    said = {keyword.arg for keyword in call.keywords}
                    assert "retry_after" in said, f"{file.name}:{call.lineno}"


def answered(problem: Problem) -> httpx.Response:
    """The problem as it goes out."""
    request = Request({"type": "http", "path": "/", "headers": [], "server": ("x", 80)})
    response = respond(request, problem)
    return httpx.Response(response.status_code, headers=dict(response.headers))


@pytest.mark.parametrize(
    ("command", "body", "headers", "status", "code"),
    [
        ("release-order", {}, {}, 409, "not-allowed-now"),
        ("remove-item-from-order", {"line_id": "none"}, {}, 409, "unknown-id"),
        ("add-note", {"text": "hi"}, {"If-Match": '"1"'}, 412, "version-conflict"),
    ],
)
async def test_a_refusal_says_what_the_order_would_take_instead(
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


async def test_no_other_site_may_call_from_a_browser(http: httpx.AsyncClient) -> None:
    path = await opened(http)
    origin = {"Origin": "https://shop.example"}
    preflight = {**origin, "Access-Control-Request-Method": "POST"}
    answers = [
        await http.options("/v1/orders", headers=preflight),
        await http.options(f"{path}/commands/add-note", headers=preflight),
        await http.get(path, headers=origin),
        await http.get("/v1/orders", headers=origin),
        await http.get("/v1/problems", headers=origin),
        await http.post("/v1/orders", json=BASKET, headers=origin),
        await http.post("/v1/orders", json={}, headers=origin),
    ]
    for answer in answers:
        assert [name for name in answer.headers if name.startswith("access-control")] == []
    assert [answer.status_code for answer in answers[:2]] == [405, 405]


async def test_every_answer_names_its_request(http: httpx.AsyncClient) -> None:
    path = await opened(http)
    await shown(http, path, 3)
    named, note = {"X-Request-Id": "req-1"}, {"text": "hi"}
    answers = [
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
    assert [answer.status_code for answer in answers] == [
        *(200, 404, 304, 201, 200, 202, 422, 415, 413),
    ]
    assert {answer.headers["X-Request-Id"] for answer in answers} == {"req-1"}
