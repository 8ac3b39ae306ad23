"""What a NATS stream has stored, read by a client of its own."""

from __future__ import annotations

import json
from contextlib import suppress

import nats
from nats.errors import Error as NatsError

from dev.chaos.history import History, Message

STREAM = "orderly"
ID_HEADER = "Nats-Msg-Id"
CONNECT_S_MAX = 2


class NatsStream:
    """The stream that the relay publishes to."""

    def __init__(self, url: str, history: History) -> None:
        self._url = url
        self._history = history
        self._next = 1

    async def read_on(self) -> None:
        """Adds what was stored since the last time, as far as the server answers."""
        with suppress(OSError, NatsError):  # A TimeoutError is an OSError.
            client = await nats.connect(
                self._url, allow_reconnect=False, connect_timeout=CONNECT_S_MAX, error_cb=_ignore
            )
            try:
                stream = client.jetstream()
                last = (await stream.stream_info(STREAM)).state.last_seq
                while self._next <= last:
                    stored = await stream.get_msg(STREAM, self._next)
                    event_id, event = (stored.headers or {}).get(ID_HEADER), stored.data or b"{}"
                    message = Message(stored.subject or "", event_id, json.loads(event))
                    self._history.messages.append(message)
                    self._next += 1
            finally:
                await client.close()


async def _ignore(_: Exception) -> None:
    """A server that is killed ends a connection."""
