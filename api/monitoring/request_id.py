"""Names each request in its response, so that a caller can name it to an operator."""

from __future__ import annotations

import re

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.context import context_of, method_of, route_of
from log_context import FIELDS_OF_REQUEST


def _log_fields(request: Request) -> dict[str, str]:
    """What each line of the log says of the request; its context is known better as it goes on."""
    context = context_of(request)
    fields = {
        "request_id": context.request_id,
        "trace_id": context.trace_id,
        "caller": "service" if request.url.path.startswith("/v1/callbacks/") else context.caller,
        "route": f"{method_of(request.scope)} {route_of(request.scope)}",
    }
    order_id = request.path_params.get("order_id", "")
    return fields | ({"order_id": order_id} if re.fullmatch(r"[\w-]{1,64}", order_id) else {})


class RequestIdMiddleware:
    """Names the request in the log and, as X-Request-Id, in its response.

    The id is the caller's, or a generated one.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        request_id = context_of(request).request_id
        FIELDS_OF_REQUEST.set(lambda: _log_fields(request))

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        await self._app(scope, receive, send_with_id)
