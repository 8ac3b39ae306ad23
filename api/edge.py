"""What is done to every request on its way in and to every response on its way out."""

from __future__ import annotations

from time import perf_counter

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.metrics import served
from api.requests import BODY_BYTES_MAX, context_of


class Edge:
    """Refuses a body as soon as it is too big; names the request in whatever is answered.

    Counts what is answered, and how soon its head was there: a stream may go on for hours.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = context_of(Request(scope)).request_id
        received, began, answered = 0, perf_counter(), False

        async def receive_limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > BODY_BYTES_MAX:
                # Without this the server would go on reading what nobody wants.
                raise HTTPException(413, headers={"Connection": "close"})
            return message

        async def send_named(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
                served(scope, message["status"], perf_counter() - began)
                answered = True
            await send(message)

        try:
            await self._app(scope, receive_limited, send_named)
        except Exception:
            if not answered:  # A bug, which is answered further out.
                served(scope, 500, perf_counter() - began)
            raise
