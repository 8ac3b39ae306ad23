"""Hostile requests are rejected with a problem document, and change no order."""

from __future__ import annotations

import asyncio
import gzip
import json
import secrets
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from api import server
from api.limits import json_body
from eventlog import log
from tests.support.api_requests import opened, problem, until_ready
from tests.support.servers import Running

TIMEOUT_SECONDS = 60
JSON = {"Content-Type": "application/json"}
HOSTILE_ID = f"hostile-{secrets.token_hex(6)}"
"""The request id of hostile requests: none of them may cause an event."""
MALFORMED, MEDIA_TYPE = (422, "malformed-request"), (415, "unsupported-media-type")

# {} is an order. All routes with a body, one of them optional.
ROUTES = (
    "/v1/orders",
    "{}/commands",
    "{}/commands/add-note",
    "{}/commands/place-order",
    "{}/commands/amend-order/preview",
    "/v1/callbacks/payments",
)


@dataclass
class Victim:
    """An order that no hostile request may change."""

    running: Running
    path: str

    @property
    def order_id(self) -> str:
        return self.path.split("/")[-1]

    async def state(self) -> tuple[int, list[int]]:
        """The version of the order itself, and its versions in the log."""
        stale = await self.running.http.post(
            f"{self.path}/commands/add-note",
            json={"text": "a"},
            headers={"If-Match": '"999"', "Prefer": "wait=30"},
        )
        stream = await log.read_stream(self.running.pool, self.order_id)
        version = problem(stale, 412, "version-conflict")["current_version"]
        return version, [envelope.version for envelope in stream]


async def events_caused(running: Running, request_id: str) -> int:
    """The number of events that requests with this id have caused, of any order."""
    count: int = await running.pool.fetchval(
        "SELECT count(*) FROM order_events WHERE metadata ->> 'request_id' = $1", request_id
    )
    return count


@pytest.fixture
async def victim(orderly: Running) -> AsyncIterator[Victim]:
    victim = Victim(orderly, await opened(orderly.http))
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while await log.head(orderly.pool, victim.order_id) < 3:
            await asyncio.sleep(0.02)
    before = await victim.state()
    assert before == (3, [1, 2, 3])
    yield victim
    assert await victim.state() == before
    read = await orderly.http.get(
        victim.path, params={"min_version": 3}, headers={"Prefer": "wait=30"}
    )
    assert read.json()["version"] == 3
    await until_ready(orderly.http)


BODIES: dict[str, tuple[bytes, str, str]] = {
    # The body, and code and pointer of its first error.
    "a key twice": (b'{"text": "a", "text": "b"}', "duplicate-key", "#/text"),
    "a key twice, deep inside": (
        b'{"commands": [{"type": "add-note", "text": "a", "text": "b"}]}',
        "duplicate-key",
        "#/commands/0/text",
    ),
    "a key twice, once escaped": (b'{"text": "a", "te\\u0078t": "b"}', "duplicate-key", "#/text"),
    "NaN": (b'{"quantity": NaN}', "number-too-large", "#/quantity"),
    "Infinity": (b'{"quantity": Infinity}', "number-too-large", "#/quantity"),
    "-Infinity": (b'{"quantity": [-Infinity]}', "number-too-large", "#/quantity/0"),
    "1e999": (b'{"quantity": 1e999}', "number-too-large", "#/quantity"),
    "2^63": (b'{"quantity": 9223372036854775808}', "number-too-large", "#/quantity"),
    "-2^63-1": (b'{"quantity": -9223372036854775809}', "number-too-large", "#/quantity"),
    "5,000 digits": (b'{"quantity": ' + b"7" * 5_000 + b"}", "number-too-large", "#/quantity"),
    "20,001 values": (b"[" + b"1," * 20_000 + b"1]", "too-many-values", "#"),
    "33 levels": (b"[" * 33 + b"]" * 33, "too-deep", "#" + "/0" * 32),
    "10,000 levels": (b"[" * 10_000 + b"]" * 10_000, "too-deep", "#"),
    "10,000 objects in one another": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "too-deep", "#"),
    "100,000 levels": (b"[" * 100_000 + b"]" * 100_000, "too-many-values", "#"),
    "half a surrogate pair": (b'{"text": "\\ud800"}', "not-unicode", "#/text"),
    "the other half": (b'{"text": "a\\udfffb"}', "not-unicode", "#/text"),
    "half a pair in a key": (b'{"\\ud800": 1}', "not-unicode", "#"),
    "half a pair as bytes": (b'{"text": "\xed\xa0\x80"}', "json-invalid", "#"),
    "not UTF-8": (b'{"text": "\xff"}', "json-invalid", "#"),
    "UTF-16": ('{"text": "a"}'.encode("utf-16"), "json-invalid", "#"),
    "a byte order mark": (b'\xef\xbb\xbf{"text": "a"}', "json-invalid", "#"),
    "a line break in a text": (b'{"text": "a\nb"}', "json-invalid", "#"),
    "half an object": (b'{"text": ', "json-invalid", "#"),
    "more after the end": (b'{"text": "a"} {"text": "b"}', "json-invalid", "#"),
    "a comment": (b'{"text": "a"} // ring twice', "json-invalid", "#"),
}


@pytest.mark.parametrize("name", BODIES)
async def test_ambiguous_body_is_rejected_on_every_route(victim: Victim, name: str) -> None:
    body, code, pointer = BODIES[name]
    for response in await send_to_all_routes(victim, body, JSON):
        first = problem(response, *MALFORMED)["errors"][0]
        assert (first["code"], first["pointer"]) == (code, pointer)
        assert first["detail"]


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({}, "Content-Type"),
        ({"Content-Type": ""}, "Content-Type"),
        ({"Content-Type": "text/plain"}, "Content-Type"),
        ({"Content-Type": "text/json"}, "Content-Type"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "Content-Type"),
        ({"Content-Type": "multipart/form-data; boundary=x"}, "Content-Type"),
        ({"Content-Type": "application/jsonp"}, "Content-Type"),
        ({"Content-Type": "application/json, text/plain"}, "Content-Type"),
        ({**JSON, "Content-Encoding": "gzip"}, "Content-Encoding"),
    ],
)
async def test_body_not_declared_as_json_is_rejected(
    victim: Victim, headers: dict[str, str], named: str
) -> None:
    body = b'{"text": "a"}' if named == "Content-Type" else gzip.compress(b'{"text": "a"}')
    for response in await send_to_all_routes(victim, body, headers):
        assert problem(response, *MEDIA_TYPE)["errors"][0]["header"] == named


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/merge-patch+json"]
)
async def test_other_json_media_types_are_accepted(orderly: Running, kind: str) -> None:
    path, request_id = await opened(orderly.http), f"good-{secrets.token_hex(6)}"
    response = await orderly.http.post(
        f"{path}/commands/add-note",
        content=NOTE,
        headers={"Content-Type": kind, "X-Request-Id": request_id},
    )
    assert response.status_code == 200
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while await events_caused(orderly, request_id) != 1:
            await asyncio.sleep(0.02)


async def test_largest_number_and_depth_reach_the_schema(victim: Victim) -> None:
    number = json.dumps({"amount": 2**63 - 1}).encode()
    deep = b'{"amount": ' + b"[" * 31 + b"]" * 31 + b"}"
    for body in (number, deep):
        response = await victim.running.http.post(
            f"{victim.path}/commands/set-shipping-charge", content=body, headers=JSON
        )
        errors = problem(response, *MALFORMED)["errors"]
        assert [error["pointer"] for error in errors] == ["#/amount"]
        assert errors[0]["code"] not in {"too-deep", "number-too-large"}


async def test_errors_in_a_response_are_limited(victim: Victim) -> None:
    long_key = "k" * 5_000
    many = b'{"%s": [%s]}' % (long_key.encode(), b",".join([b"NaN"] * 15_000))
    for response in await send_to_all_routes(victim, many, JSON):
        assert len(problem(response, *MALFORMED)["errors"]) == 100
        assert len(response.content) < 50_000
    lines = [{"": 1} for _ in range(500)]
    response = await victim.running.http.post(
        "/v1/orders", json={"customer_id": "1", "currency": "USD", "lines": lines}
    )
    assert len(problem(response, *MALFORMED)["errors"]) == 100


async def test_too_large_body_is_rejected_on_every_route(victim: Victim) -> None:
    body = b'{"text": "%s"}' % (b"x" * json_body.BYTES_MAX)
    for response in await send_to_all_routes(victim, body, JSON):
        problem(response, 413, "body-too-large")


async def send_to_all_routes(
    victim: Victim, body: bytes, headers: dict[str, str]
) -> list[httpx.Response]:
    """Sends the same body to every route; none of them may cause an event."""
    headers = {**headers, "X-Request-Id": HOSTILE_ID}
    responses = [
        await victim.running.http.post(route.format(victim.path), content=body, headers=headers)
        for route in ROUTES
    ]
    assert await events_caused(victim.running, HOSTILE_ID) == 0
    return responses


# Ids and headers

TRICKS = (
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e",
    "%00",
    "ord_%0d%0aSet-Cookie:%20a=b",
    "ord_x%2fcommands",
    "%c0%ae%c0%ae",
    "%ed%a0%80",
    "%F0%9F%A5%AF",
    "ord_x;a=b",
    "ord_x%3fversion=1",
    "'%20OR%201=1--",
    "$%7bjndi:ldap:x%7d",
    "x" * 5_000,
)


@pytest.mark.parametrize("trick", TRICKS)
async def test_hostile_ids_are_rejected(victim: Victim, trick: str) -> None:
    http = victim.running.http
    note = {"text": "a"}
    responses = [
        await http.get(f"/v1/orders/{trick}"),
        await http.get(f"/v1/orders/{trick}/history"),
        await http.post(f"/v1/orders/{trick}/commands/add-note", json=note),
        await http.post(f"{victim.path}/commands/{trick}", json=note),
        await http.get(f"{victim.path}/commands/async/{trick}"),
        await http.get(f"/v1/problems/{trick}"),
    ]
    for response in responses:
        assert response.status_code in (404, 405, 422), response.text
        assert "set-cookie" not in response.headers
        assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Request-Id": "a b"},
        {"X-Request-Id": "x" * 65},
        {"X-Request-Id": b"\xff\xfe"},
        {"traceparent": "00-zz-zz-zz"},
        {"traceparent": b"\xff" * 100},
        {"tracestate": b"\xff" * 100},
        {"Accept": b"\xff"},
        {"Host": "evil.example"},
        {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "gopher"},
    ],
)
async def test_hostile_headers_are_not_echoed(victim: Victim, headers: dict[str, Any]) -> None:
    response = await victim.running.http.get("/v1/orders/ord_x/", headers=headers)
    problem(response, 404, "not-found")
    assert response.headers["X-Request-Id"] not in headers.values()
    assert "evil" not in str(response.headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"If-Match": b"\xff"},
        {"If-Match": '"' + "9" * 5_000 + '"'},
        {"Idempotency-Key": b""},
        {"Idempotency-Key": b"\xff" * 256},
    ],
)
async def test_malformed_header_is_named(victim: Victim, headers: dict[str, Any]) -> None:
    response = await victim.running.http.post(
        f"{victim.path}/commands/add-note", json={"text": "a"}, headers=headers
    )
    (named,) = headers
    assert problem(response, *MALFORMED)["errors"][0]["header"] == named


# Invalid HTTP


def request(*headers: str, route: str = "/v1/orders", body: bytes = b"") -> bytes:
    lines = [f"POST {route} HTTP/1.1", "Host: x", "Content-Type: application/json"]
    lines += [f"X-Request-Id: {HOSTILE_ID}", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


NOTE = b'{"text": "a"}'
INVALID_HTTP: dict[str, tuple[bytes, list[tuple[int, str]]]] = {
    # The bytes, and the responses; then the server closes the connection.
    "two lengths": (
        request("Content-Length: 13", "Content-Length: 12", body=NOTE),
        [(400, "invalid-http")],
    ),
    "a length and chunks": (
        request("Content-Length: 13", "Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
        [(400, "invalid-http")],
    ),
    "a negative length": (request("Content-Length: -1", body=NOTE), [(400, "invalid-http")]),
    "a length in words": (request("Content-Length: all", body=NOTE), [(400, "invalid-http")]),
    "a length beyond 64 bits": (request(f"Content-Length: {10**30}"), [(400, "invalid-http")]),
    "a length of too little": (
        request("Content-Length: 3", body=NOTE),
        [(400, "invalid-http")],
    ),
    "chunks of no number": (
        request("Transfer-Encoding: chunked", body=b"many\r\n"),
        [(400, "invalid-http")],
    ),
    "a NUL in a header": (request("X-Request-Id: a\0b"), [(400, "invalid-http")]),
    "a header without a name": (request(": a"), [(400, "invalid-http")]),
    "a line break in a header": (
        request("X-Request-Id: a\nSet-Cookie: b", "Content-Length: 2", body=b"{}"),
        [(400, "invalid-http")],
    ),
    "another protocol": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", [(400, "invalid-http")]),
    "1,000 headers": (
        request(*(f"X-{n}: a" for n in range(1_000))),
        [(431, "headers-too-large")],
    ),
    "a path of 70 kilobytes": (request(route="/v1/" + "a" * 70_000), [(431, "headers-too-large")]),
}


@pytest.mark.parametrize("name", INVALID_HTTP)
async def test_invalid_http_is_rejected_and_the_connection_closed(
    victim: Victim, name: str
) -> None:
    sent, responses = INVALID_HTTP[name]
    assert await exchange(victim, [sent]) == responses
    assert await events_caused(victim.running, HOSTILE_ID) == 0


async def test_endless_body_or_headers_are_cut_off_on_every_route(
    victim: Victim,
) -> None:
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    endless = dict.fromkeys(ROUTES, (413, "body-too-large"))
    endless |= {"{}/commands/teleport": (404, "not-found"), "/nowhere": (404, "not-found")}
    for route, expected in endless.items():
        begun = request("Transfer-Encoding: chunked", route=route.format(victim.path))
        assert await cut_off(victim, [begun, *[chunk] * 1_000]) in ([expected], [])
    header = [request()[:-2], *[b"X-A: " + b"a" * 65_536] * 1_000]
    assert await cut_off(victim, header) in ([(431, "headers-too-large")], [])


async def cut_off(victim: Victim, parts: list[bytes]) -> list[tuple[int, str]]:
    """The responses; empty if the connection ends before they arrive."""
    rest = iter(parts)
    responses = await exchange(victim, rest)
    assert len([*rest]) > len(parts) / 2, "the server must stop reading early"
    return responses


async def test_slow_body_times_out(victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_body, "SECONDS_MAX", 0.2)
    for route in ROUTES:
        sent = request("Content-Length: 1000", route=route.format(victim.path), body=NOTE)
        assert await exchange(victim, [sent], half_closes=False) == [(408, "body-timeout")]
    # The time limit is for the whole body, however it is split.
    drops = [request("Content-Length: 1000"), *[b" "] * 100]
    assert await exchange(victim, drops, pause=0.02, half_closes=False) == [(408, "body-timeout")]


async def test_slow_headers_time_out(victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEADER_SECONDS_MAX", 0.2)
    half = request()[:-2]
    assert await exchange(victim, [half], half_closes=False) == [(408, "headers-timeout")]
    drops = [half, *[b"X-A: b\r\n"] * 100]
    assert await exchange(victim, drops, pause=0.02, half_closes=False) == [
        (408, "headers-timeout")
    ]
    assert await exchange(victim, [], half_closes=False) == []


async def test_connection_is_kept_after_a_rejected_request(victim: Victim) -> None:
    """As long as the client sends valid HTTP."""
    good = request("Content-Length: 2", body=b"{}")
    nowhere = request("Content-Length: 13", route="/nowhere", body=NOTE)
    assert await exchange(victim, [nowhere, good, nowhere, good]) == [
        *[(404, "not-found"), MALFORMED] * 2
    ]


async def exchange(
    victim: Victim, parts: Iterable[bytes], pause: float = 0, half_closes: bool = True
) -> list[tuple[int, str]]:
    """Status and code of each response until the server closes the connection.

    `half_closes`: whether the client closes its sending side after the last part.
    """
    url = victim.running.http.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    responses = []
    async with asyncio.timeout(TIMEOUT_SECONDS):
        sending = asyncio.create_task(send(writer, parts, pause, half_closes))
        try:
            while head := await head_of(reader):
                length = int(head["content-length"])
                document = json.loads(await reader.readexactly(length))
                assert head["content-type"] == "application/problem+json"
                assert "set-cookie" not in head
                responses.append((document["status"], document["code"]))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # The server closed it while the client was still sending.
        finally:
            sending.cancel()
            await asyncio.wait([sending])
            writer.close()
    return responses


async def send(
    writer: asyncio.StreamWriter, parts: Iterable[bytes], pause: float, half_closes: bool
) -> None:
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)
        if half_closes:
            writer.write_eof()
    except (ConnectionError, RuntimeError):
        pass  # The server has closed the connection.


async def head_of(reader: asyncio.StreamReader) -> dict[str, str]:
    """The headers of the next response, in lower case; none if the server closes."""
    try:
        _, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except asyncio.IncompleteReadError:
        return {}
    return dict(line.lower().split(": ", 1) for line in lines if line)
