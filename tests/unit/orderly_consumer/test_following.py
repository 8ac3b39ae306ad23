"""A consumer that follows the feed gets every event, however its connection fails."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from random import Random
from typing import Any

import httpx
import pytest

from orderly_consumer import CursorRejected, Event, Feed, FeedRejected, follow
from tests.support.consumed_events import placed

# With line breaks of Unicode, which are no line breaks of a stream.
EVENTS = [placed(f"ord_{n}", payment_method="a\u2028b\x85c größer 注文") for n in range(6)]


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """For how long the consumer would have waited before each retry."""
    seconds: list[float] = []

    async def record(pause: float) -> None:
        seconds.append(pause)

    monkeypatch.setattr("orderly_consumer.feed.sleep", record)
    return seconds


class Chunks(httpx.AsyncByteStream):
    """A body in chunks, that may break off."""

    def __init__(self, chunks: list[bytes], error: Exception | None) -> None:
        self._chunks, self._error = chunks, error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk
        if self._error is not None:
            raise self._error


def stream_after(cursor: str | None) -> bytes:
    """The stream of EVENTS after a cursor, which is the number of an event."""
    first = 0 if cursor is None else int(cursor)
    blocks = ["retry: 1000\n\n"]
    for number, event in list(enumerate(EVENTS, 1))[first:]:
        data = json.dumps(event, ensure_ascii=False)
        blocks.append(f"event: {event['type']}\ndata: {data}\nid: {number}\n\n")
    return "".join([*blocks, f": \nid: {len(EVENTS)}\n\n"]).encode()


Answer = Callable[[httpx.Request], httpx.Response]


async def follow_all(answer: Answer, after: str | None = None, **more: Any) -> list[Event]:
    """Follows until the last of EVENTS has come."""
    found: list[Event] = []
    transport = httpx.MockTransport(answer)
    async with (
        Feed("http://orderly", transport=transport, **more) as feed,
        aclosing(follow(feed, after)) as events,
    ):
        async for event in events:
            found.append(event)
            if event.id == EVENTS[-1]["id"]:
                return found
    raise AssertionError("it has ended")


def ids(events: list[Event]) -> list[str]:
    return [event.id for event in events]


ALL = [event["id"] for event in EVENTS]


def test_stream_has_what_a_browser_would_get_wrong() -> None:
    assert len(stream_after(None).decode().splitlines()) > len(stream_after(None).split(b"\n"))


async def test_stream_that_breaks_off_anywhere_is_resumed(pauses: list[float]) -> None:
    random = Random(1)

    def answer(request: httpx.Request) -> httpx.Response:
        body = stream_after(request.url.params.get("cursor"))
        body, rest = body[: (cut := random.randrange(len(body) + 200))], body[cut:]
        cuts = sorted(random.sample(range(len(body) + 1), min(5, len(body))))
        chunks = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        error = httpx.ReadError("broken off") if rest or random.random() < 0.5 else None
        return httpx.Response(200, stream=Chunks(chunks, error))

    for _ in range(100):
        events = await follow_all(answer)
        assert ids(events) == ALL
        assert [event.cursor for event in events] == ["1", "2", "3", "4", "5", "6"]
    assert len(pauses) > 100


async def test_heartbeat_moves_the_cursor(pauses: list[float]) -> None:
    sent: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.url.params.get("cursor"))
        bodies = {None: b": \nid: 4\n\n", "4": b": \nid: 5\n\n"}
        body = bodies.get(sent[-1]) or stream_after(sent[-1])
        return httpx.Response(200, stream=Chunks([body], None))

    assert ids(await follow_all(answer)) == ALL[5:]
    assert sent == [None, "4", "5"]
    assert len(pauses) == 2


async def test_unavailable_service_is_tried_again_with_growing_pauses(pauses: list[float]) -> None:
    failures: Iterator[Exception | httpx.Response] = iter(
        [
            httpx.ConnectError("refused"),
            httpx.Response(503, headers={"Retry-After": "7"}),
            httpx.Response(429, headers={"Retry-After": "100000"}),
            httpx.Response(500, text="<html>"),
            *(httpx.ReadTimeout("silent") for _ in range(10)),
        ]
    )

    def answer(request: httpx.Request) -> httpx.Response:
        failure = next(failures, None)
        if isinstance(failure, Exception):
            raise failure
        body = stream_after(request.url.params.get("cursor"))
        return failure or httpx.Response(200, stream=Chunks([body], None))

    assert ids(await follow_all(answer)) == ALL
    assert pauses[0] <= 0.5
    assert pauses[1] == 7.0, "Retry-After is kept"
    assert pauses[2] == 600.0, "but not for ever"
    assert pauses[-1] >= 15.0


@pytest.mark.parametrize("status", [401, 403, 404, 422])
async def test_rejected_request_is_an_error_that_says_why(status: int, pauses: list[float]) -> None:
    problem = {"code": "too-bad", "detail": "Send something else."}
    with pytest.raises(FeedRejected, match=f"{status} too-bad: Send something else."):
        await follow_all(lambda _: httpx.Response(status, json=problem))
    with pytest.raises(FeedRejected, match=f"{status} unknown: <html>"):
        await follow_all(lambda _: httpx.Response(status, text="<html>"))
    assert pauses == []


async def test_cursor_from_before_a_restore_is_an_error_of_its_own() -> None:
    problem = {"code": "invalid-cursor", "detail": "Continue with Y."}
    with pytest.raises(CursorRejected, match="Continue with Y"):
        await follow_all(lambda _: httpx.Response(400, json=problem), after="X")


async def test_filters_and_a_fresh_token_are_sent(pauses: list[float]) -> None:
    requests: list[httpx.Request] = []
    tokens = iter(["one", "two"])

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        body = stream_after(request.url.params.get("cursor"))
        if len(requests) == 1:
            body = body[:-100]
        return httpx.Response(200, stream=Chunks([body], None))

    await follow_all(
        answer,
        token=lambda: next(tokens),
        types=("order-placed", "order-held"),
        customer_id="900",
        start="2026-03-02T09:30:00Z",
    )
    first = requests[0]
    assert first.url.params.get_list("type") == ["order-placed", "order-held"]
    assert first.url.params["customer_id"] == "900"
    assert first.url.params["from"] == "2026-03-02T09:30:00Z"
    assert [one.headers["Authorization"] for one in requests] == ["Bearer one", "Bearer two"]
    assert "from" not in requests[1].url.params, "it resumes after the cursor"
    assert first.headers["Accept"] == "text/event-stream"
