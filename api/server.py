"""The server's HTTP protocol: what is to be no request is answered here, and costs little."""

from __future__ import annotations

import asyncio
import json

from starlette.datastructures import Headers
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.context import RequestContext, new_context
from api.limits.load_shedding import PLACE, READS, Slot
from api.monitoring.metrics import record_request
from api.problems.catalog import HEADERS_TIMEOUT, HEADERS_TOO_LARGE, INVALID_HTTP, OVERLOADED
from api.problems.handlers import MEDIA_TYPE, problem_details
from api.problems.problem import Problem

HEAD_BYTES_MAX = 64 * 1024
HEADERS_MAX = 100
HEAD_SECONDS_MAX = 10.0

_HANGS_UP = {"Connection": "close"}


class _CannedResponse:
    """An answer that is ready, but for what it says of the one request."""

    def __init__(self, problem: Problem) -> None:
        document = problem_details(problem, new_context({}), "")
        self._document = document.model_dump(mode="json", exclude_none=True)
        head = [
            f"HTTP/1.1 {problem.type.status} {problem.type.code}",
            f"Content-Type: {MEDIA_TYPE}",
        ]
        head += [f"{name}: {value}" for name, value in problem.headers.items()]
        self._head = "\r\n".join(head)
        self.status = problem.type.status

    def answer(self, context: RequestContext, instance: str) -> bytes:
        """The whole answer; `instance` is the path that was asked for."""
        own = {"request_id": context.request_id, "trace_id": context.trace_id}
        body = json.dumps(self._document | {"instance": instance} | own)
        return (
            f"{self._head}\r\nX-Request-Id: {context.request_id}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()


_OVERLOADED = _CannedResponse(Problem(OVERLOADED))
_INVALID = _CannedResponse(Problem(INVALID_HTTP, headers=_HANGS_UP))
_TOO_LARGE = _CannedResponse(
    Problem(
        HEADERS_TOO_LARGE,
        f"Headers may have at most {HEAD_BYTES_MAX:,} bytes, and be at most {HEADERS_MAX}.",
        headers=_HANGS_UP,
    )
)
_TOO_SLOW = _CannedResponse(Problem(HEADERS_TIMEOUT, headers=_HANGS_UP))


class HardenedHttpProtocol(HttpToolsProtocol):
    """Refuses by a problem document what is no request, and hangs up; and reads that are too many.

    A head may be so large, and takes so long at most.
    """

    _head_bytes = 0
    _is_shed = False
    _is_in_head = True
    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_no_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        was_in_head = self._is_in_head
        super().data_received(data)
        if was_in_head and self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse(_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_shed = False
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._expect_no_head()
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > HEAD_BYTES_MAX or len(self.headers) > HEADERS_MAX:
            self._refuse(_TOO_LARGE)
            raise ValueError("head too large")  # Stops the parser.
        if self._decides_here():
            place: Slot | None = self.app_state[READS].take()
            if place is None:
                self._shed()
                return
            self.scope["state"][PLACE] = place
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._is_shed:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._is_shed:
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(_INVALID)

    def _expect_head(self) -> None:
        if self._patience is None:
            self._is_in_head, self._head_bytes = True, 0
            self._patience = self.loop.call_later(HEAD_SECONDS_MAX, self._give_up)

    def _expect_no_head(self) -> None:
        self._is_in_head = False
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _give_up(self) -> None:
        if self._head_bytes:
            self._refuse(_TOO_SLOW)
        else:
            self.transport.close()

    def _decides_here(self) -> bool:
        """Whether this is a read that can be told at once that it is too much."""
        return (
            self.parser.get_method() == b"GET"
            and self.url.startswith(b"/v1/")
            and READS in self.app_state
            and not self.parser.should_upgrade()
            # What is answered before it goes first, and is read first.
            and (self.cycle is None or self.cycle.response_complete)
            and not self.flow.write_paused
        )

    def _shed(self) -> None:
        self._is_shed = True
        path = self.url.partition(b"?")[0].decode("ascii", "replace")
        context = new_context(Headers(raw=self.headers))
        self.transport.write(_OVERLOADED.answer(context, path))
        record_request({"method": "GET"}, _OVERLOADED.status, 0.0)
        if self.parser.should_keep_alive():
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        else:
            self.transport.close()

    def _refuse(self, refusal: _CannedResponse) -> None:
        if not self.transport.is_closing():
            self.transport.write(refusal.answer(new_context({}), "*"))
            self.transport.close()
