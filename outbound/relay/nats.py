"""Publishes to NATS JetStream, in the structured mode of CloudEvents' protocol binding for NATS."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from typing import Any, NamedTuple

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import StreamConfig
from nats.js.errors import NotFoundError

from outbound.cloudevents import MEDIA_TYPE, TYPE_PREFIX, type_name
from outbound.relay.broker import NotPublished
from outbound.relay.nats_credentials import read_jwt, sign
from outbound.rendering import RenderedEvent
from settings import NatsSettings

STREAM = "orderly"
SUBJECTS = f"{TYPE_PREFIX}.>"
# In which the stream drops an event that comes again: longer than a relay takes to start again.
DUPLICATE_WINDOW_SECONDS = 120.0
CONNECT_SECONDS_MAX = 3
CONFIRM_SECONDS_MAX = 5.0
MESSAGE_ID_HEADER = "Nats-Msg-Id"

logger = logging.getLogger("orderly.relay")


def subject_of(event: RenderedEvent) -> str:
    """Where an event is published: its type, and the id of its order as one more token."""
    order = event.order_id.replace(".", "%2E")
    return f"{type_name(event.type, event.schema_version)}.{order}"


class _Connection(NamedTuple):
    client: Client
    stream: JetStreamContext
    lost: asyncio.Future[None]
    """Done once the connection has ended."""


class NatsBroker:
    """One connection to a NATS server of several; a lost one is replaced by the next publish."""

    name = "nats"

    def __init__(self, settings: NatsSettings) -> None:
        self._settings = settings
        self._urls = deque(settings.urls)
        self._connecting = asyncio.Lock()
        self._connection: _Connection | None = None

    async def publish(self, event: RenderedEvent) -> None:
        """Publishes an event under its id, by which the stream drops it if it has it already."""
        try:
            connection = await self._connected()
            publishing = asyncio.create_task(
                connection.stream.publish(
                    subject_of(event),
                    event.body,
                    timeout=CONFIRM_SECONDS_MAX,
                    headers={MESSAGE_ID_HEADER: event.event_id, "Content-Type": MEDIA_TYPE},
                )
            )
            ends: set[asyncio.Future[Any]] = {publishing, connection.lost}
            try:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                if not publishing.done():
                    raise NotPublished("NATS: the connection was lost")
                await publishing
            finally:
                publishing.cancel()
        except (NatsError, OSError, TimeoutError) as error:
            raise NotPublished(f"NATS: {str(error) or type(error).__name__}") from error

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.client.close()
            self._connection = None

    async def _connected(self) -> _Connection:
        """The connection, a new one if there is none that is up."""
        async with self._connecting:
            if self._connection is None or self._connection.lost.done():
                await self.close()
                self._connection = await self._connect()
                logger.info("connected to NATS")
            return self._connection

    async def _connect(self) -> _Connection:
        self._urls.rotate(-1)  # The next attempt goes to another server.
        client, lost = Client(), asyncio.get_running_loop().create_future()

        async def report_loss() -> None:
            if not lost.done():
                lost.set_result(None)

        async def end_connecting(error: Exception) -> None:
            if not client.is_connected:
                raise error  # It would try again, and say only that there is no server.

        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                await client.connect(
                    self._urls[-1],
                    name="orderly relay",
                    # It does not reconnect by itself: what it has buffered would come late.
                    allow_reconnect=False,
                    error_cb=end_connecting,
                    closed_cb=report_loss,
                    **_security(self._settings),
                )
            stream = client.jetstream(timeout=CONFIRM_SECONDS_MAX)
            await _create_stream(stream)
        except BaseException:
            await client.close()
            raise
        return _Connection(client, stream, lost)


async def _create_stream(stream: JetStreamContext) -> None:
    """Creates the stream, unless there is one for its subjects, which stays as it is."""
    try:
        await stream.find_stream_name_by_subject(SUBJECTS)
    except NotFoundError:
        await stream.add_stream(
            StreamConfig(
                name=STREAM, subjects=[SUBJECTS], duplicate_window=DUPLICATE_WINDOW_SECONDS
            )
        )
        logger.info("created the stream %s", STREAM)


def _security(settings: NatsSettings) -> dict[str, Any]:
    """The options for credentials and TLS."""
    options: dict[str, Any] = {}
    if (file := settings.credentials) is not None:
        options["user_jwt_cb"] = lambda: read_jwt(file)
        options["signature_cb"] = lambda nonce: sign(file, nonce)
    if settings.has_tls:
        options["tls"] = ssl.create_default_context(cafile=settings.ca)
        if settings.certificate is not None:
            options["tls"].load_cert_chain(settings.certificate, settings.key)
    return options
