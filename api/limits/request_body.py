"""What is done to every request on its way in and to every response on its way out."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.context import context_of
from api.limits import json_body as bodies
from api.problems.problem import BodyRejected


class RequestBodyMiddleware:
    """Rejects a body that is too large, too slow or ambiguous; adds X-Request-Id to responses."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = context_of(Request(scope)).request_id
        body = LimitedBody(Headers(scope=scope), receive)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                if not await body.is_over():
                    headers["Connection"] = "close"
            await send(message)

        await self._app(scope, body.receive, send_with_id)


class LimitedBody:
    """The body of one request, looked at while it comes in."""

    def __init__(self, headers: Headers, receive: Receive) -> None:
        self._headers = headers
        self._receive = receive
        self._deadline: float | None = None
        self._content = bytearray()
        self._is_over = "content-length" not in headers and "transfer-encoding" not in headers

    async def receive(self) -> Message:
        """The next part; raises BodyRejected."""
        if self._is_over:
            return await self._receive()  # Tells that the caller has hung up.
        message = await self._next()
        if len(self._content) > bodies.BYTES_MAX:
            raise bodies.too_large()
        if self._content:
            bodies.check_type(self._headers)
            if not message.get("more_body", False):
                bodies.check(bytes(self._content))
        return message

    async def is_over(self) -> bool:
        """Whether it has all come in; a rest that nobody wants is let in, if it is a short one.

        Without this a caller who is still sending might not see what it is answered, or the server
        would go on reading for ever.
        """
        try:
            while not self._is_over and len(self._content) <= bodies.BYTES_MAX:
                await self._next()
        except BodyRejected:
            return False
        return self._is_over

    async def _next(self) -> Message:
        loop = asyncio.get_running_loop()
        self._deadline = self._deadline or loop.time() + bodies.SECONDS_MAX
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise bodies.too_slow() from None
        self._content += message.get("body", b"")
        self._is_over = not message.get("more_body", False)
        return message
