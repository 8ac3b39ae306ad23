"""Reads beyond those that this process can serve at once are sent away before they cost much."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import overloaded
from api.problems import respond


@dataclass
class Reads:
    """How many more reads can be served at once; the server's protocol looks at it, too."""

    free: int


class Shedding:
    """Counts reads under way, each until the head of its answer: a stream may go on for hours."""

    def __init__(self, app: ASGIApp, reads: Reads) -> None:
        self._app = app
        self._reads = reads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"][:4] != "/v1/":
            await self._app(scope, receive, send)
            return
        if self._reads.free <= 0:
            await respond(Request(scope), overloaded())(scope, receive, send)
            return
        place = scope["state"]["place"] = _Place(self._reads)

        async def send_and_leave(message: Message) -> None:
            place.leave()
            await send(message)

        try:
            await self._app(scope, receive, send_and_leave)
        finally:
            place.leave()


class _Place:
    """One of the places, taken until it is left for good."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads
        self._is_taken = True
        reads.free -= 1

    def leave(self) -> None:
        if self._is_taken:
            self._reads.free += 1
        self._is_taken = False

    def come_back(self) -> None:
        self._reads.free -= 1
        self._is_taken = True


@contextmanager
def waiting(request: Request) -> Iterator[None]:
    """Inside the `with`, a read costs nothing and needs no place.

    It is let back in even if all are taken meanwhile: what it has waited for is there.
    """
    place: _Place | None = getattr(request.state, "place", None)
    if place is None:
        yield
        return
    place.leave()
    try:
        yield
    finally:
        place.come_back()
