"""Limits on request bodies: their size, their time of arrival, and that they are plain JSON."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.limits import json_body
from api.problems.problem import BodyRejected


class RequestBodyMiddleware:
    """Rejects a body that is too large, too slow or ambiguous JSON.

    Closes the connection after a response that did not need the whole body.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = LimitedBody(Headers(scope=scope), receive)

        async def send_and_close(message: Message) -> None:
            if message["type"] == "http.response.start" and not await body.drain():
                MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        await self._app(scope, body.receive, send_and_close)


class LimitedBody:
    """The body of one request, checked while it arrives."""

    def __init__(self, headers: Headers, receive: Receive) -> None:
        self._headers = headers
        self._receive = receive
        self._deadline: float | None = None
        self._content = bytearray()
        self._is_complete = "content-length" not in headers and "transfer-encoding" not in headers

    async def receive(self) -> Message:
        """The next part; raises BodyRejected."""
        if self._is_complete:
            return await self._receive()  # Reports that the client has disconnected.
        message = await self._next()
        if len(self._content) > json_body.BYTES_MAX:
            raise json_body.too_large()
        if self._content:
            json_body.check_type(self._headers)
            if not message.get("more_body", False):
                json_body.check(bytes(self._content))
        return message

    async def drain(self) -> bool:
        """Reads the rest of a body within the limits; returns whether it is complete.

        A client that is still sending might not read the response otherwise, and a server that
        reads on without limits might never end.
        """
        try:
            while not self._is_complete and len(self._content) <= json_body.BYTES_MAX:
                await self._next()
        except BodyRejected:
            return False
        return self._is_complete

    async def _next(self) -> Message:
        loop = asyncio.get_running_loop()
        self._deadline = self._deadline or loop.time() + json_body.SECONDS_MAX
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise json_body.too_slow() from None
        self._content += message.get("body", b"")
        self._is_complete = not message.get("more_body", False)
        return message
