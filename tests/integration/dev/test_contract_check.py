"""`orderly check-contract`: the simulators keep the contract, and each fault of others is found."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from activities.credentials import ANONYMOUS
from dev.contract_check import Examples, Finding, calls, check
from dev.contract_check.checker import CHECKS
from tests.support.processes import UNREACHABLE_URL, assert_one_sentence, run_inside
from tests.support.servers import serving

TIMEOUT_S = 20.0
METHODS = ["POST", "PUT"]

Change = Callable[[Request, int, dict[str, Any]], tuple[int, Any]]
"""(request, status, body) of the simulator → status and body of the doctored service."""


@pytest.fixture(autouse=True)
def shorter_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """For services that are always busy."""
    monkeypatch.setattr(calls, "BUSY_S_MAX", 0.2)


async def findings(service: str, url: str, timeout_s: float = TIMEOUT_S) -> list[Finding]:
    return [found async for found in check(service, url, timeout_s, Examples(), ANONYMOUS)]


@pytest.mark.parametrize("service", CHECKS)
async def test_simulators_keep_the_contract(service: str, simulators: httpx.AsyncClient) -> None:
    url = f"{str(simulators.base_url).rstrip('/')}/{service}"
    played = await asyncio.to_thread(run_inside, "check-contract", service, url)
    assert (played.returncode, played.stderr) == (0, ""), played
    rules = len(CHECKS[service])
    assert played.stdout.count("ok  ") == rules
    assert f"{rules} of {rules} rules of the contract are kept." in played.stdout


def doctored(
    simulators: httpx.AsyncClient,
    change: Change,
    *,
    forgets_keys: bool = False,
    hangs: bool = False,
) -> Starlette:
    """A service that passes all calls on to the simulators, and changes what they answer."""

    async def answer(request: Request) -> Response:
        if hangs:
            await asyncio.sleep(0.5)
        key = secrets.token_hex(8) if forgets_keys else request.headers["idempotency-key"]
        passed_on = await simulators.request(
            request.method,
            request.url.path,
            content=await request.body(),
            headers={"Idempotency-Key": key, "Content-Type": "application/json"},
        )
        status, body = change(request, passed_on.status_code, passed_on.json())
        return Response(body if isinstance(body, str) else json.dumps(body), status)

    return Starlette(routes=[Route("/{path:path}", answer, methods=METHODS)])


def unchanged(_: Request, status: int, body: dict[str, Any]) -> tuple[int, Any]:
    return status, body


def instead(of: int, status: int, **fields: Any) -> Change:
    """Answers of one status become another one, with these fields."""
    return lambda _, was, body: (status, {**body, **fields}) if was == of else (was, body)


def without(name: str) -> Change:
    return lambda _, status, body: (status, {k: v for k, v in body.items() if k != name})


def with_field(name: str, value: object) -> Change:
    return lambda _, status, body: (status, body | {name: value} if status < 300 else body)


@pytest.mark.parametrize(
    ("service", "change", "fault"),
    [
        ("payments", without("reference"), "without the text `reference`"),
        ("payments", with_field("reference", 7), "without the text `reference`"),
        (
            "payments",
            with_field("reference", "r" * 257),
            "a `reference` that must have at most 256",
        ),
        ("payments", instead(402, 200, reference="auth_x"), "was accepted (200)"),
        ("payments", instead(402, 402, code="no-funds"), "the code no-funds instead of declined"),
        ("payments", instead(402, 400), "answered 400 instead of 402"),
        ("payments", instead(404, 500), "answered 500, which is retried for ever"),
        ("payments", instead(404, 402, code="declined"), "answered 402 instead of 404"),
        ("payments", instead(422, 201, reference="auth_x"), "was accepted (201)"),
        ("payments", without("reason"), 'without {"code", "reason"}'),
        ("payments", lambda _, status, body: (status, "OK"), "without a JSON object"),
        ("stock", with_field("held", "all"), "without `held`"),
        (
            "stock",
            with_field("held", [{"line_id": "1", "sku": "M", "location": "E", "quantity": 9}]),
            "reserved more than was requested",
        ),
        (
            "stock",
            with_field("held", [{"line_id": "1", "sku": "M", "location": "\0", "quantity": 1}]),
            "a `location` that may contain printable",
        ),
        ("stock", instead(201, 409, code="too-few", reason="none"), "answered 409 (too-few)"),
        ("stock", instead(422, 200), "was accepted (200)"),
        ("shipping", with_field("tracking", 7), "a `tracking` that is no text"),
        ("shipping", with_field("tracking", "1\0"), "a `tracking` that may contain printable"),
        ("shipping", instead(409, 409, code="conflict"), "code conflict instead of stopped"),
        ("shipping", instead(409, 200, tracking="1Z"), "was accepted (200)"),
    ],
    ids=lambda given: given if isinstance(given, str) else "changed",
)
async def test_fault_is_found(
    service: str, change: Change, fault: str, simulators: httpx.AsyncClient
) -> None:
    async with serving(doctored(simulators, change)) as http:
        found = await findings(service, f"{http.base_url}/{service}")
    assert any(fault in (each.fault or "") for each in found), found


@pytest.mark.parametrize(
    ("service", "fault"),
    [
        ("payments", "/captures answered 402 (declined)"),
        ("payments", "was executed more than once under one key"),
        ("stock", "POST /releases answered 422 (not-held)"),
        ("stock", "POST /withdrawals answered 422 (not-held)"),
        ("shipping", "was accepted (200)"),
    ],
    ids=str,
)
async def test_service_that_forgets_keys_is_found(
    service: str, fault: str, simulators: httpx.AsyncClient
) -> None:
    def as_if_new(request: Request, status: int, body: dict[str, Any]) -> tuple[int, Any]:
        if body.get("code") == "exists":  # The simulator has a second safeguard.
            return 201, {"reference": f"auth_{secrets.token_hex(4)}"}
        return status, body

    app = doctored(simulators, as_if_new, forgets_keys=True)
    async with serving(app) as http:
        found = await findings(service, f"{http.base_url}/{service}")
    assert any(fault in (each.fault or "") for each in found), found


async def test_service_that_hangs_is_found(simulators: httpx.AsyncClient) -> None:
    async with serving(doctored(simulators, unchanged, hangs=True)) as http:
        found = await findings("shipping", f"{http.base_url}/shipping", 0.1)
    assert all("no complete response (within 0.1 seconds)" in (f.fault or "") for f in found)


async def test_credentials_are_sent_with_each_call_and_must_be_needed() -> None:
    seen = []

    async def answer(request: Request) -> Response:
        seen.append(request.headers.get("authorization"))
        return Response("{}")

    app = Starlette(routes=[Route("/{path:path}", answer, methods=METHODS)])
    async with serving(app) as http:
        command = ("check-contract", "stock", str(http.base_url).rstrip("/"))
        played = await asyncio.to_thread(run_inside, *command, ORDERLY_STOCK_TOKEN="t0ken")
    assert played.returncode == 1
    assert "WRONG  A reservation names its pieces" in played.stdout
    assert "POST /reservations without credentials answered 200." in played.stdout
    assert (seen[-1], set(seen[:-1])) == (None, {"Bearer t0ken"})


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (("payments", UNREACHABLE_URL), 2, "cannot be reached"),
        (("payment", UNREACHABLE_URL), 2, "There is no service payment"),
        (("payments", "payments.internal"), 2, "The URL must be one such as"),
    ],
    ids=["unreachable", "service", "url"],
)
def test_bad_input_is_one_sentence(command: tuple[str, ...], code: int, said: str) -> None:
    ended = run_inside("check-contract", *command)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert said in ended.stderr
    assert_one_sentence(ended.stderr)
