"""The feed of events: follows it for ever, and reads parts of it."""

from __future__ import annotations

import json
import logging
import random
from asyncio import sleep
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self

import httpx

from orderly_consumer.digest import Digest
from orderly_consumer.events import Event, parse_event
from orderly_consumer.server_sent_events import messages

PAGE_EVENTS = 1_000
# The service sends something every five seconds.
READ_SECONDS_MAX = 20.0
PAUSE_SECONDS = 0.5
PAUSE_SECONDS_MAX = 30.0
RETRY_AFTER_SECONDS_MAX = 600.0

logger = logging.getLogger("orderly_consumer")


class FeedRejected(Exception):
    """The service rejects the request: it must be changed; a retry does not help."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail


class CursorRejected(FeedRejected):
    """The log was restored to before the cursor, and `detail` has the one to continue with."""


class FeedUnavailable(Exception):
    """The service cannot be reached, or cannot answer at the moment."""

    def __init__(self, reason: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


class FeedDigest(NamedTuple):
    """The digest of a slice of the events up to the cursor `until`."""

    until: str
    slice: str
    whole: Digest
    slices: dict[str, Digest]
    """Of the slices within it."""
    orders: dict[str, Digest] | None
    """Of its orders; None if they are many."""


@dataclass
class Feed:
    """A feed at the URL of a service, and which of its events are wanted; an async with closes it.

    `token` is sent with each request; a function is called for each. `start` is where it begins: an
    instant as in RFC 3339, or the id of an event.
    """

    url: str
    token: str | Callable[[], str] | None = None
    types: tuple[str, ...] = ()
    order_id: str | None = None
    customer_id: str | None = None
    start: str | None = None
    transport: httpx.AsyncBaseTransport | None = None

    def __post_init__(self) -> None:
        self._http = httpx.AsyncClient(
            base_url=self.url,
            transport=self.transport,
            timeout=httpx.Timeout(READ_SECONDS_MAX),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def stream(self, after: str | None) -> AsyncGenerator[tuple[str | None, Event | None]]:
        """Cursors and events after a cursor, until the service ends the stream.

        Raises FeedUnavailable or FeedRejected.
        """
        query = self._query(after)
        async with (
            self._answer("/v1/events", query, "text/event-stream") as answer,
            aclosing(messages(answer.aiter_bytes())) as received,
        ):
            async for message in received:
                event = parse_event(json.loads(message.data), message.id) if message.data else None
                yield message.id, event

    async def digest(self, until: str | None = None, slice: str = "") -> FeedDigest:
        """The digest up to a cursor; without one, up to the last event. It retries as `follow`.

        This is one request, or more if the slice has more orders than the service reads at once:
        then the digests of the slices within it are added up.
        """
        query = {**self._query(None), "slice": slice, **({"until": until} if until else {})}
        try:
            found = await self._read("/v1/events/digest", query)
        except FeedRejected as error:
            if error.code != "digest-too-large":
                raise
            return await self._sum_of_slices(until, slice)
        orders = found["orders"]
        return FeedDigest(
            found["until"],
            found["slice"],
            Digest.parse(found["count"], found["digest"]),
            {one["slice"]: Digest.parse(one["count"], one["digest"]) for one in found["slices"]},
            None
            if orders is None
            else {one["order_id"]: Digest.parse(one["count"], one["digest"]) for one in orders},
        )

    async def _sum_of_slices(self, until: str | None, slice: str) -> FeedDigest:
        """The digest of a slice, from those of the 16 slices within it."""
        first = await self.digest(until, f"{slice}0")
        others = [await self.digest(first.until, slice + digit) for digit in "123456789abcdef"]
        slices = {one.slice: one.whole for one in (first, *others) if one.whole.count}
        return FeedDigest(first.until, slice, sum(slices.values(), Digest()), slices, None)

    async def first_events_of(self, order_id: str, count: int) -> list[Event]:
        """The first events of an order that the feed has. It retries as `follow`."""
        query = {**self._query(None), "order_id": order_id, "limit": PAGE_EVENTS}
        events: list[Event] = []
        while len(events) < count:
            page = await self._read("/v1/events", query)
            events += [parse_event(document) for document in page["items"]]
            if page["next"] == query.get("cursor"):
                break
            query = {**query, "cursor": page["next"]}
            query.pop("from", None)
        return events[:count]

    def _query(self, after: str | None) -> dict[str, Any]:
        """The parameters that name the wanted events, after a cursor or from the start."""
        names = {"type": list(self.types), "order_id": self.order_id}
        names |= {"customer_id": self.customer_id}
        names |= {"cursor": after} if after else {"from": self.start}
        return {name: value for name, value in names.items() if value}

    async def _read(self, path: str, query: dict[str, Any]) -> Any:
        pauses = Pauses()
        while True:
            try:
                async with self._answer(path, query, "application/json") as answer:
                    return json.loads(await answer.aread())
            except FeedUnavailable as error:
                await pauses.pause(error)

    @asynccontextmanager
    async def _answer(
        self, path: str, query: dict[str, Any], accept: str
    ) -> AsyncIterator[httpx.Response]:
        """A successful response; raises FeedUnavailable or FeedRejected, also while it is read."""
        token = self.token() if callable(self.token) else self.token
        headers = {"Accept": accept, **({"Authorization": f"Bearer {token}"} if token else {})}
        try:
            async with self._http.stream("GET", path, params=query, headers=headers) as answer:
                if not answer.is_success:
                    await answer.aread()
                    raise _error(answer)
                yield answer
        except httpx.TransportError as error:
            raise FeedUnavailable(f"{error!r}") from error


async def follow(feed: Feed, after: str | None = None) -> AsyncGenerator[Event]:
    """Events after a cursor, for ever, in order within each order; it retries and resumes.

    Each event comes at least once. Store its `cursor` together with its effect, and pass it as
    `after` to resume. Raises FeedRejected.
    """
    pauses = Pauses()
    while True:
        try:
            async with aclosing(feed.stream(after)) as stream:
                async for cursor, event in stream:
                    if event is not None:
                        yield event
                    after = cursor or after
                    pauses.reset()
            await pauses.pause(FeedUnavailable("the service has ended the stream"))
        except FeedUnavailable as error:
            await pauses.pause(error)


class Pauses:
    """Growing pauses between attempts, with jitter, or as long as the service asks for."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._seconds = PAUSE_SECONDS

    async def pause(self, error: FeedUnavailable) -> None:
        seconds = self._seconds * random.uniform(0.5, 1)
        self._seconds = min(2 * self._seconds, PAUSE_SECONDS_MAX)
        if error.retry_after_seconds is not None:
            seconds = max(seconds, min(error.retry_after_seconds, RETRY_AFTER_SECONDS_MAX))
        logger.warning("retrying in %.1f s: %s", seconds, error)
        await sleep(seconds)


def _error(answer: httpx.Response) -> Exception:
    if answer.status_code in (408, 429) or answer.status_code >= 500:
        after = answer.headers.get("Retry-After", "")
        seconds = float(after) if after.isdecimal() else None
        return FeedUnavailable(f"status {answer.status_code}", seconds)
    try:
        problem = answer.json()
        code, detail = str(problem["code"]), str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        code, detail = "unknown", answer.text[:200]
    kind = CursorRejected if code == "invalid-cursor" else FeedRejected
    return kind(answer.status_code, code, detail)
