"""Extreme dates, numbers and texts get no 500 in any input of any route.

The inputs are taken from the OpenAPI document, so that a new route is tested, too.
"""

from __future__ import annotations

import asyncio
import json
import re
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Iterable, Iterator
from time import time
from typing import Any

import httpx
import pytest

from api.callbacks.payloads import EVENTS
from api.openapi import METHODS
from contracts.openapi_document import FILE
from eventlog.cursor import encode_cursor
from eventlog.log import Checkpoint
from tests.support.api_requests import opened
from tests.support.servers import Running
from tests.support.webhook_signing import signed_headers

Json = dict[str, Any]

DOCUMENT: Json = json.loads(FILE.read_text())
ROUTES: dict[str, tuple[str, str, Json]] = {
    operation["operationId"]: (method.upper(), path, operation)
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
    if method in METHODS
}
# Routes with the same parameters, as all commands have, share the code that reads them.
WITH_PLACES = {
    json.dumps([re.findall(r"{\w+}", path), operation.get("parameters")]): name
    for name, (_, path, operation) in ROUTES.items()
    if "{" in path or "parameters" in operation
}.values()
# The suite covers bodies of few shapes, and `make soak` all of them.
SHAPES = ("open_order", "send_commands", "add_item_to_order", "set_shipping_address")
WITH_BODY = [
    pytest.param(name, marks=() if name in SHAPES else pytest.mark.soak)
    for name, (_, path, operation) in ROUTES.items()
    if "requestBody" in operation and "/callbacks/" not in path
]
EVENT_SHAPES = ("authorisation.approved", "stock.lost", "shipment.dispatched")
CALLBACKS = [
    pytest.param(sender, kind, marks=() if kind in EVENT_SHAPES else pytest.mark.soak)
    for sender, kinds in EVENTS.items()
    for kind in kinds
]
CONCURRENT = 8

DATES = (
    "0000-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31",
    "9999-12-31T23:59:59.999999-14:00",
    "10000-01-01T00:00:00Z",
    "2026-02-30",
)
# The last one is an Arabic digit.
NUMBERS = ("-1", "1.5", "NaN", "1e400", "1_0", str(2**31), str(2**63), str(10**400), "\u0663")
TEXTS = ("", "\0", "\u2028", "a\r\nb", "x" * 3_000)
# In a URL also bytes that are no UTF-8, and half a surrogate pair.
IN_URLS = [
    *(str(httpx.QueryParams({"v": text})).removeprefix("v=") for text in DATES + NUMBERS + TEXTS),
    *("%FF", "%ED%A0%80", "%", "%2e%2e%2f"),
]
IN_HEADERS = [
    *(text.encode() for text in NUMBERS),
    *(b"", b"\xff\xfe", b"\xed\xa0\x80", b'"', b'"9999999999"', b'"999999999"', b"x" * 3_000),
    *(b"wait=99999", b"wait=\xd9\xa3"),
]
IN_BODIES = [
    *(json.dumps(text) for text in (DATES[0], DATES[3], *TEXTS)),
    *("-1", "1.5", "NaN", "1e400", str(2**63), "null", "true", "[]", "{}"),
    *('"\\ud800"', '{"\\u0000": 1}'),
]
SORTS = ("opened_at", "-opened_at", "placed_at", "updated_at", "total", "-total")


# A version that an order does not have yet may be waited for, and within the one second that these
# requests wait, a busy worker may not answer.
BUSY = {"projection-behind", "outcome-unknown", "temporal-unavailable"}


async def assert_no_500(responses: Iterable[Awaitable[httpx.Response]]) -> None:
    limit = asyncio.Semaphore(CONCURRENT)
    wrong = list[str]()

    async def check(sending: Awaitable[httpx.Response]) -> None:
        async with limit:
            response = await sending
        request = response.request
        if response.status_code >= 500 and response.json()["code"] not in BUSY:
            sent = f"{request.url} {request.headers.raw} {request.content[:300]!r}"
            wrong.append(f"{response.status_code} {request.method} {sent}: {response.text[:300]}")

    await asyncio.gather(*(check(sending) for sending in responses))
    assert wrong == []


def filled(path: str, order: str, **values: str) -> str:
    """The path with an order's id and other values in place of its parameters."""
    known = {"order_id": order.rsplit("/", 1)[-1], "command_id": "a" * 40, **values}
    return re.sub(r"\{(\w+)\}", lambda match: known.get(match[1], "x"), path)


@pytest.mark.parametrize("name", WITH_PLACES)
async def test_extreme_parameter_makes_no_500(http: httpx.AsyncClient, name: str) -> None:
    method, path, operation = ROUTES[name]
    order = await opened(http)
    body = example(operation["requestBody"]) if "requestBody" in operation else None
    requests: list[Awaitable[httpx.Response]] = []

    def send(url: str, headers: dict[str, Any] | None = None) -> None:
        headers = {"Prefer": "wait=1", **(headers or {})}
        requests.append(http.request(method, url, json=body, headers=headers))

    for parameter in re.findall(r"\{(\w+)\}", path):
        for value in IN_URLS:
            send(filled(path, order, **{parameter: value}))
    for parameter in operation.get("parameters", []):
        if "$ref" in parameter:
            parameter = DOCUMENT["components"]["parameters"][parameter["$ref"].split("/")[-1]]
        if parameter["in"] == "query":
            for value in IN_URLS:
                send(f"{filled(path, order)}?{parameter['name']}={value}")
        if parameter["in"] == "header":
            for header in IN_HEADERS:
                send(filled(path, order), {parameter["name"]: header})
    await assert_no_500(requests)


def forged_list_cursors() -> Iterator[tuple[str, str]]:
    values = [*IN_BODIES, json.dumps("2026-01-01"), json.dumps("2026-01-01T00:00:00")]
    for sort in SORTS:
        for value in values:
            good = "7" if "total" in sort else json.dumps("2026-01-01T00:00:00+00:00")
            for text in (f'["{sort}", {value}, "ord_x"]', f'["{sort}", {good}, {value}]'):
                yield sort, urlsafe_b64encode(text.encode()).decode()
    for text in ("[" * 20_000, '"' * 9, "{}", "[]", "null", "1e400"):
        yield "opened_at", urlsafe_b64encode(text.encode()).decode()


async def test_forged_cursor_makes_no_500(http: httpx.AsyncClient) -> None:
    await assert_no_500(
        http.get("/v1/orders", params={"sort": sort, "cursor": cursor})
        for sort, cursor in forged_list_cursors()
    )
    largest = 2**63 - 1
    positions = [(largest, largest), (largest, 0), (0, largest), (2**32, 1)]
    cursors = [encode_cursor(Checkpoint(*position)) for position in positions]
    await assert_no_500(http.get("/v1/events", params={"cursor": cursor}) for cursor in cursors)


async def test_forged_token_makes_no_500(http: httpx.AsyncClient) -> None:
    tokens = [f"{text}@1" for text in TEXTS] + [f"ord_x@{number}" for number in NUMBERS]
    order = await opened(http)
    for path in ("/v1/orders", order, "/v1/stats/orders"):
        await assert_no_500(
            http.get(path, params={"consistency_token": token}, headers={"Prefer": "wait=0"})
            for token in tokens
            if not re.fullmatch(r"ord_x@\d+", token)  # It waits for a version that does not exist.
        )


def resolved(schema: Json) -> Json:
    """A schema without references and alternatives: the first that is not null."""
    while True:
        if "$ref" in schema:
            schema = DOCUMENT["components"]["schemas"][schema["$ref"].rsplit("/", 1)[-1]]
        elif alternatives := schema.get("anyOf") or schema.get("oneOf"):
            schema = next(one for one in alternatives if one.get("type") != "null")
        else:
            return schema


KNOWN = {"currency": "USD", "country": "GB", "postal_code": "SW1Y 4JH", "method": "pm_card"}


def example(schema: Json, name: str = "") -> Any:
    """A valid value of a schema, or nearly, with all fields."""
    if "content" in schema:
        schema = schema["content"]["application/json"]["schema"]
    schema = resolved(schema)
    match schema.get("type"):
        case "object":
            return {key: example(s, key) for key, s in schema.get("properties", {}).items()}
        case "array":
            return [example(schema["items"])]
        case "integer" | "number":
            return max(schema.get("minimum", 1), schema.get("exclusiveMinimum", 0) + 1)
        case "boolean":
            return False
        case _:
            constant = schema.get("const") or next(iter(schema.get("enum", [])), None)
            return constant or KNOWN.get(name, "2026-01-01T00:00:00Z" if "date" in name else "a")


def with_each_value(body: Any) -> Iterator[str]:
    """The body as JSON with each extreme value in place of each of its parts."""
    hole = "\ufffd"

    def opened_at_each_part(part: Any) -> Iterator[Any]:
        yield hole
        if isinstance(part, dict):
            for key, inner in part.items():
                yield from ({**part, key: other} for other in opened_at_each_part(inner))
        if isinstance(part, list):
            for number, inner in enumerate(part):
                for other in opened_at_each_part(inner):
                    yield [*part[:number], other, *part[number + 1 :]]

    for holed in opened_at_each_part(body):
        text = json.dumps(holed, ensure_ascii=False)
        yield from (
            text.replace(json.dumps(hole, ensure_ascii=False), value) for value in IN_BODIES
        )


@pytest.mark.parametrize("name", WITH_BODY)
async def test_extreme_value_in_a_body_makes_no_500(http: httpx.AsyncClient, name: str) -> None:
    method, path, operation = ROUTES[name]
    url = filled(path, await opened(http))
    headers = {"Content-Type": "application/json", "Prefer": "wait=30"}
    body = example(operation["requestBody"])
    await assert_no_500(
        http.request(method, url, content=text.encode(), headers=headers)
        for text in with_each_value(body)
    )


@pytest.mark.parametrize(("sender", "kind"), CALLBACKS)
async def test_extreme_value_in_a_callback_makes_no_500(
    orderly: Running, sender: str, kind: str
) -> None:
    schema = EVENTS[sender][kind].model_json_schema()
    definitions = schema.pop("$defs", {})
    DOCUMENT["components"]["schemas"] |= definitions
    text = json.dumps(schema).replace("#/$defs/", "#/components/schemas/")
    data = example(json.loads(text))
    event = {"type": kind, "timestamp": "2026-01-01T00:00:00Z", "data": data}
    data["order_id"] = "ord_x"

    def send(number: int, text: str) -> Awaitable[httpx.Response]:
        body = text.encode()
        headers = signed_headers(orderly.webhook_secret, f"msg_{number}", time(), body)
        headers |= {"Content-Type": "application/json"}
        return orderly.http.post(f"/v1/callbacks/{sender}", content=body, headers=headers)

    await assert_no_500(send(n, text) for n, text in enumerate(with_each_value(event)))
