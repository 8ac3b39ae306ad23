"""The server's HTTP protocol, with a limit on how long the head of a request may take and be."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.errors import Problem
from api.problems import MEDIA_TYPE, document_of
from api.requests import new_context

HEAD_BYTES_MAX = 64 * 1024
HEADERS_MAX = 100
HEAD_SECONDS_MAX = 10.0

_INVALID = Problem(400, "invalid-http", "This is not HTTP as RFC 9112 has it.")
_TOO_LARGE = Problem(
    431,
    "head-too-large",
    f"A head may have at most {HEAD_BYTES_MAX:,} bytes and {HEADERS_MAX} headers.",
)
_TOO_SLOW = Problem(408, "head-too-slow", "The head of the request was not there in time.")


class Protocol(HttpToolsProtocol):
    """Answers what never becomes a request by a problem document, and hangs up."""

    _head_bytes = 0
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
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._expect_no_head()
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > HEAD_BYTES_MAX or len(self.headers) > HEADERS_MAX:
            self._refuse(_TOO_LARGE)
            raise ValueError("head too large")  # Stops the parser.
        super().on_headers_complete()

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

    def _refuse(self, problem: Problem) -> None:
        if self.transport.is_closing():
            return
        body = document_of(problem, new_context(), "*").model_dump_json(exclude_none=True)
        head = (
            f"HTTP/1.1 {problem.status} {problem.code}",
            f"Content-Type: {MEDIA_TYPE}",
            f"Content-Length: {len(body)}",
            "Connection: close",
        )
        self.transport.write("\r\n".join([*head, "", body]).encode())
        self.transport.close()
