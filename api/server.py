"""uvicorn's HTTP protocol with limits on request headers."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.context import new_context
from api.problems.canned import CannedProblem
from api.problems.catalog import HEADERS_TIMEOUT, HEADERS_TOO_LARGE, INVALID_HTTP
from api.problems.problem import Problem

HEADER_BYTES_MAX = 64 * 1024
HEADERS_MAX = 100
HEADER_SECONDS_MAX = 10.0

_CLOSE = {"Connection": "close"}
_INVALID = CannedProblem(Problem(INVALID_HTTP, headers=_CLOSE))
_TOO_LARGE = CannedProblem(
    Problem(
        HEADERS_TOO_LARGE,
        f"Headers may have at most {HEADER_BYTES_MAX:,} bytes, and be at most {HEADERS_MAX}.",
        headers=_CLOSE,
    )
)
_TIMEOUT = CannedProblem(Problem(HEADERS_TIMEOUT, headers=_CLOSE))


class HardenedHttpProtocol(HttpToolsProtocol):
    """Limits the size, number and time of headers, for which uvicorn has no limits.

    Rejects what exceeds them, and what is not HTTP, by a problem document, and closes the
    connection.
    """

    _header_bytes = 0
    _is_in_headers = True
    _timeout: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timeout()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timeout()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        was_in_headers = self._is_in_headers
        super().data_received(data)
        if was_in_headers and self._is_in_headers:
            self._header_bytes += len(data)
            if self._header_bytes > HEADER_BYTES_MAX:
                self._reject(_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._start_timeout()

    def on_headers_complete(self) -> None:
        self._stop_timeout()
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > HEADER_BYTES_MAX or len(self.headers) > HEADERS_MAX:
            self._reject(_TOO_LARGE)
            raise ValueError("headers too large")  # Stops the parser.
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._reject(_INVALID)

    def _start_timeout(self) -> None:
        if self._timeout is None:
            self._is_in_headers, self._header_bytes = True, 0
            self._timeout = self.loop.call_later(HEADER_SECONDS_MAX, self._on_timeout)

    def _stop_timeout(self) -> None:
        self._is_in_headers = False
        if self._timeout is not None:
            self._timeout.cancel()
            self._timeout = None

    def _on_timeout(self) -> None:
        if self._header_bytes:
            self._reject(_TIMEOUT)
        else:
            self.transport.close()

    def _reject(self, problem: CannedProblem) -> None:
        if self.transport.is_closing():
            return
        context = new_context({})
        body = problem.body(context, "*")
        head = [
            f"HTTP/1.1 {problem.type.status} {problem.type.code}",
            *(f"{name}: {value}" for name, value in problem.headers.items()),
            f"X-Request-Id: {context.request_id}",
            f"Content-Length: {len(body)}",
        ]
        self.transport.write("\r\n".join([*head, "", ""]).encode() + body)
        self.transport.close()
