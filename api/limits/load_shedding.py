"""Load shedding: rejects reads above the concurrency limit before they cost much."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.context import context_of
from api.limits.concurrency import BurstLimit, ConcurrencyLimiter, Slot
from api.problems.canned import CannedProblem
from api.problems.catalog import OVERLOADED
from api.problems.errors import Overloaded
from api.problems.handlers import count_problem
from api.problems.problem import Problem

_OVERLOADED = CannedProblem(Problem(OVERLOADED))
_HEADERS = [(name.encode(), value.encode()) for name, value in _OVERLOADED.headers.items()]


class LoadSheddingMiddleware:
    """Gives each read a slot until its response begins, as a stream may last for hours.

    A rejection that is prepared once and sent before all other middlewares takes two thirds of the
    processor time of one that is made by the exception handlers: 0.32 ms, of 0.51 ms. The same
    decision in uvicorn's protocol class, before a request exists, takes 0.26 ms, which at twice the
    capacity leaves 5 % more reads served: not worth its dependence on uvicorn's internals.
    uvicorn's own `limit_concurrency` counts idle connections, rejects commands too, and sends
    neither a problem nor Retry-After. Measured with `python -m dev.bench load`.
    """

    def __init__(self, app: ASGIApp, max_concurrent: int) -> None:
        self._app = app
        self._limiter = ConcurrencyLimiter(BurstLimit(max_concurrent))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"][:4] != "/v1/":
            await self._app(scope, receive, send)
            return
        try:
            slot = scope["state"]["read_slot"] = self._limiter.acquire()
        except Overloaded:
            await _reject(scope, send)
            return

        async def release_and_send(message: Message) -> None:
            slot.release()
            await send(message)

        try:
            await self._app(scope, receive, release_and_send)
        finally:
            slot.release()


async def _reject(scope: Scope, send: Send) -> None:
    body = _OVERLOADED.body(context_of(Request(scope)), scope["path"])
    headers = [*_HEADERS, (b"content-length", str(len(body)).encode())]
    status = _OVERLOADED.type.status
    count_problem(OVERLOADED)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def without_slot(request: Request) -> Iterator[None]:
    """Releases the slot of a read while it waits, as it costs nothing meanwhile."""
    slot: Slot | None = getattr(request.state, "read_slot", None)
    if slot is None:
        yield
        return
    slot.release()
    try:
        yield
    finally:
        slot.reacquire()
