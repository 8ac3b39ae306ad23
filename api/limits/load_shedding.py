"""Reads beyond those that this process can serve at once are sent away before they cost much."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems.catalog import OVERLOADED
from api.problems.handlers import problem_response
from api.problems.problem import Problem

# Under which a request's state has the Reads of the application, and its own Place.
READS, PLACE = "reads", "place"


class ReadLimiter:
    """The places for reads that are served at once.

    Many may come at the same time, such as all that a page shows. If even more do, there are only
    few places, as each waits for all that are served with it: until many in a row found one.
    """

    def __init__(self, many: int) -> None:
        self._many = many
        self._few = math.ceil(many / 5)
        self._in_a_row = many
        self.taken = 0

    def take(self) -> Slot | None:
        """A place, if there is one; who takes it has to leave it."""
        is_calm = self._in_a_row >= self._many
        if self.taken >= (self._many if is_calm else self._few):
            self._in_a_row = 0
            return None
        self._in_a_row += 1
        return Slot(self)


class Slot:
    """One of the places, taken until it is left for good."""

    def __init__(self, reads: ReadLimiter) -> None:
        self._reads = reads
        self._is_taken = True
        reads.taken += 1

    def leave(self) -> None:
        if self._is_taken:
            self._reads.taken -= 1
        self._is_taken = False

    def come_back(self) -> None:
        self._reads.taken += 1
        self._is_taken = True


class LoadSheddingMiddleware:
    """Leaves each read's place at the head of its answer, as a stream may go on for hours.

    Where the server's protocol has not decided on it yet, it is done here. All that may answer in
    place of a route has to be further in: else a place would be kept for good.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"][:4] != "/v1/":
            await self._app(scope, receive, send)
            return
        state = scope["state"]
        place = state[PLACE] = state.get(PLACE) or state[READS].take()
        if place is None:
            response = problem_response(Request(scope), Problem(OVERLOADED))
            await response(scope, receive, send)
            return

        async def send_and_leave(message: Message) -> None:
            place.leave()
            await send(message)

        try:
            await self._app(scope, receive, send_and_leave)
        finally:
            place.leave()


@contextmanager
def waiting(request: Request) -> Iterator[None]:
    """Inside the `with`, a read costs nothing and needs no place.

    It is let back in even if all are taken meanwhile: what it has waited for is there.
    """
    place: Slot | None = getattr(request.state, PLACE, None)
    if place is None:
        yield
        return
    place.leave()
    try:
        yield
    finally:
        place.come_back()
