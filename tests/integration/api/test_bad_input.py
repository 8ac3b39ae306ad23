"""Every invalid request gets a problem that names the mistake, and changes nothing."""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from api.limits.json_body import BYTES_MAX
from settings import Settings
from tests.support.api_requests import BAGELS, BASKET, opened, problem, shown
from tests.support.servers import Running, run_api


def line(**changes: Any) -> dict[str, Any]:
    return {**BASKET, "lines": [BAGELS, {**BAGELS, **changes}]}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (line(quantity=0), "#/lines/1/quantity"),
        (line(quantity=-1), "#/lines/1/quantity"),
        (line(quantity="2"), "#/lines/1/quantity"),
        (line(quantity=1.5), "#/lines/1/quantity"),
        (line(quantity=True), "#/lines/1/quantity"),
        (line(quantity=None), "#/lines/1/quantity"),
        (line(quantity=2**80), "#/lines/1/quantity"),
        (line(unit_price=-1), "#/lines/1/unit_price"),
        (line(discount=-1), "#/lines/1/discount"),
        (line(title=""), "#/lines/1/title"),
        (line(title="a\u0000b"), "#/lines/1/title"),
        (line(title="x" * 256), "#/lines/1/title"),
        (line(sku=7), "#/lines/1/sku"),
        (line(colour="red"), "#/lines/1/colour"),
        (line(currency="dollars"), "#/lines/1/currency"),
        ({**BASKET, "currency": "XXQ"}, "#/currency"),
        ({**BASKET, "currency": "usd"}, "#/currency"),
        ({**BASKET, "customer_id": "a b"}, "#/customer_id"),
        ({**BASKET, "place": "yes"}, "#/place"),
        ({**BASKET, "lines": [BAGELS] * 501}, "#/lines"),
        ({**BASKET, "coupon": "X"}, "#/coupon"),
        ({"currency": "USD"}, "#/customer_id"),
        ([], "#"),
    ],
)
async def test_malformed_order_is_rejected_with_the_name_of_its_field(
    http: httpx.AsyncClient, body: Any, pointer: str
) -> None:
    response = await http.post("/v1/orders", json=body)
    errors = problem(response, 422, "malformed-request")["errors"]
    assert [error["pointer"] for error in errors] == [pointer]
    assert errors[0]["detail"]


async def test_every_bad_line_of_a_basket_is_named(http: httpx.AsyncClient) -> None:
    lines = [{**BAGELS, "quantity": 0}, BAGELS, {**BAGELS, "unit_price": -5}]
    response = await http.post("/v1/orders", json={**BASKET, "lines": lines})
    errors = problem(response, 422, "malformed-request")["errors"]
    assert [e["pointer"] for e in errors] == ["#/lines/0/quantity", "#/lines/2/unit_price"]


@pytest.mark.parametrize(
    ("changes", "code", "pointer"),
    [
        ({"discount": 101}, "discount-exceeds-price", "#/lines/1/discount"),
        ({"currency": "EUR"}, "currency-mismatch", "#/lines/1/currency"),
    ],
)
async def test_basket_that_breaks_a_rule_is_rejected_and_starts_no_workflow(
    orderly: Running, changes: dict[str, Any], code: str, pointer: str
) -> None:
    key = secrets.token_hex(8)
    response = await orderly.http.post(
        "/v1/orders", json=line(**changes), headers={"Idempotency-Key": key}
    )
    assert problem(response, 409, code)["errors"][0]["pointer"] == pointer
    rejected_at = datetime.now(UTC)
    good = await orderly.http.post("/v1/orders", json=BASKET, headers={"Idempotency-Key": key})
    started = await orderly.client.get_workflow_handle(good.json()["order_id"]).describe()
    assert good.status_code == 201
    assert started.start_time >= rejected_at, "the rejected request must not have started it"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"a": NaN', b"null", b"[" * 5_000])
async def test_body_that_is_not_json_is_rejected(http: httpx.AsyncClient, content: bytes) -> None:
    response = await http.post(
        "/v1/orders", content=content, headers={"Content-Type": "application/json"}
    )
    assert problem(response, 422, "malformed-request")["errors"]


async def test_large_body_is_rejected_before_it_is_read_completely(
    http: httpx.AsyncClient,
) -> None:
    note = {"text": "x" * 1_000_000}
    path = await opened(http)
    problem(await http.post(f"{path}/commands/add-note", json=note), 413, "body-too-large")

    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while sent < 100 * BYTES_MAX:
            sent += 65_536
            yield b"x" * 65_536
            await asyncio.sleep(0)

    try:
        response = await http.post(
            "/v1/orders", content=endless(), headers={"Content-Type": "application/json"}
        )
        problem(response, 413, "body-too-large")
    except httpx.TransportError:
        pass  # The connection was closed while the client was still sending.
    assert sent < 50 * BYTES_MAX
    assert (await shown(http, path, 3))["notes"] == []


async def test_unknown_command_or_order_or_path_is_not_found(http: httpx.AsyncClient) -> None:
    path = await opened(http)
    problem(await http.post(f"{path}/commands/teleport-order", json={}), 404, "not-found")
    problem(await http.put(path, json={}), 405, "method-not-allowed")
    batch = await http.post(f"{path}/commands", json={"commands": [{"type": "teleport-order"}]})
    errors = problem(batch, 422, "malformed-request")["errors"]
    assert errors[0]["pointer"] == "#/commands/0"
    problem(await http.post("/v1/orders/ord_x/commands/place-order"), 404, "unknown-order")
    for read in ("", "/history", "/commands"):
        problem(await http.get(f"/v1/orders/ord_x{read}"), 404, "unknown-order")


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"Idempotency-Key": ""}, "Idempotency-Key"),
        ({"Idempotency-Key": "x" * 256}, "Idempotency-Key"),
        ({"If-Match": "5"}, "If-Match"),
        ({"If-Match": "W/5"}, "If-Match"),
        ({"If-Match": '"5", 6'}, "If-Match"),
    ],
)
async def test_malformed_header_is_named(
    http: httpx.AsyncClient, headers: dict[str, str], named: str
) -> None:
    path = await opened(http)
    response = await http.post(f"{path}/commands/place-order", headers=headers)
    assert problem(response, 422, "malformed-request")["errors"][0]["header"] == named


@pytest.mark.parametrize(
    ("query", "status", "code", "parameter"),
    [
        ({"limit": "0"}, 422, "malformed-request", "limit"),
        ({"limit": "101"}, 422, "malformed-request", "limit"),
        ({"status": "lost"}, 422, "malformed-request", "status.0"),
        ({"sort": "colour"}, 422, "malformed-request", "sort"),
        ({"placed_from": "yesterday"}, 422, "malformed-request", "placed_from"),
        ({"placed_from": "0.5"}, 422, "malformed-request", "placed_from"),
        ({"placed_until": "2026-01-01T00:00:00"}, 422, "malformed-request", "placed_until"),
        ({"total_from": str(2**63)}, 422, "malformed-request", "total_from"),
        ({"total_until": str(2**80)}, 422, "malformed-request", "total_until"),
        ({"min_version": "1"}, 422, "malformed-request", "min_version"),
        ({"cursor": "!"}, 400, "invalid-cursor", "cursor"),
        ({"cursor": "WyJ0b3RhbCIsIDEsICJhIl0="}, 400, "invalid-cursor", "cursor"),
        ({"consistency_token": "mine"}, 400, "invalid-consistency-token", "consistency_token"),
    ],
)
async def test_invalid_list_parameter_is_named(
    http: httpx.AsyncClient, query: dict[str, str], status: int, code: str, parameter: str
) -> None:
    response = await http.get("/v1/orders", params=query)
    assert problem(response, status, code)["errors"][0]["parameter"] == parameter


@pytest.mark.parametrize("read", ["", "/history", "/commands", "lists", "stats/orders"])
async def test_read_rejects_unknown_and_repeated_parameters(
    http: httpx.AsyncClient, read: str
) -> None:
    paths = {"lists": "/v1/orders", "stats/orders": "/v1/stats/orders"}
    path = paths.get(read) or f"{await opened(http)}{read}"
    for query, parameter, code in (
        ("colour=blue", "colour", "unknown-parameter"),
        ("consistency_token=a@1&consistency_token=b@1", "consistency_token", "repeated"),
        ("status=draft&colour=blue&colour=red", "colour", "unknown-parameter"),
    ):
        response = await http.get(f"{path}?{query}")
        errors = problem(response, 422, "malformed-request")["errors"]
        assert (parameter, code) in [(e["parameter"], e["code"]) for e in errors], query


async def test_list_accepts_one_status_or_several(http: httpx.AsyncClient) -> None:
    for query in ("status=draft", "status=draft&status=placed"):
        assert (await http.get(f"/v1/orders?{query}")).status_code == 200


async def test_versions_have_an_upper_bound(http: httpx.AsyncClient) -> None:
    path = await opened(http)
    for where, name in (("", "version"), ("", "min_version"), ("/history", "cursor")):
        response = await http.get(f"{path}{where}", params={name: str(2**31)})
        assert problem(response, 422, "malformed-request")["errors"][0]["parameter"] == name


@pytest.mark.parametrize("day", ["0", "1e9", "yesterday"])
async def test_malformed_day_is_rejected(http: httpx.AsyncClient, day: str) -> None:
    response = await http.get("/v1/stats/orders", params={"until": day})
    assert problem(response, 422, "malformed-request")["errors"][0]["parameter"] == "until"


async def test_unsupported_method_gets_the_allowed_ones(
    http: httpx.AsyncClient,
) -> None:
    for path, methods in (("/v1/orders", "GET, POST"), ("/v1/orders/ord_x/commands", "GET, POST")):
        assert (await http.put(path)).headers["Allow"] == methods
    assert (await http.put("/healthz")).headers["Allow"] == "GET"


async def test_unknown_type_is_reported_without_quoting_it(http: httpx.AsyncClient) -> None:
    path = await opened(http)
    batch = {"commands": [{"type": "my-secret"}]}
    response = await http.post(f"{path}/commands", json=batch)
    (error,) = problem(response, 422, "malformed-request")["errors"]
    assert "my-secret" not in response.text
    assert "'place-order'" in error["detail"]


async def test_response_has_the_callers_request_id_and_trace(http: httpx.AsyncClient) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"X-Request-Id": "req-1", "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    response = await http.get("/v1/orders/ord_x", headers=headers)
    document = problem(response, 404, "unknown-order")
    assert (document["request_id"], document["trace_id"]) == ("req-1", trace)
    assert response.headers["X-Request-Id"] == "req-1"
    assert (await http.get("/healthz")).headers["X-Request-Id"]


async def test_without_a_worker_the_outcome_is_unknown_and_the_key_settles_it(
    orderly: Running,
) -> None:
    settings = Settings(postgres_dsn=orderly.dsn, task_queue="nobody-works-here")
    headers = {"Idempotency-Key": secrets.token_hex(8), "Prefer": "wait=1"}
    async with run_api(orderly.client, settings) as http:
        response = await http.post("/v1/orders", json=BASKET, headers=headers)
    problem(response, 503, "outcome-unknown")
    assert response.headers["Retry-After"] == "1"


async def test_bug_is_a_500_without_internal_details(
    orderly: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise RPCError("secret address 10.0.0.1", RPCStatusCode.DATA_LOSS, b"")

    monkeypatch.setattr(Client, "start_workflow", broken)
    monkeypatch.setattr(Client, "execute_update_with_start_workflow", broken)
    response = await orderly.http.post("/v1/orders", json=BASKET)
    assert "secret" not in str(problem(response, 500, "internal-error"))
