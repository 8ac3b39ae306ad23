"""What a relay needs of a message broker."""

from __future__ import annotations

from typing import Protocol

from outbound.rendering import RenderedEvent


class NotPublished(Exception):
    """The broker has not confirmed that it stored an event; it may have stored it all the same."""


class Broker(Protocol):
    """A message broker that stores what it is sent."""

    @property
    def name(self) -> str:
        """The name of the relay and of its cursor, the same in every process."""

    async def publish(self, event: RenderedEvent) -> None:
        """Connects if necessary, sends an event, and returns once the broker has stored it.

        Several events are published at the same time, but never two of one order. Ends in seconds,
        and raises NotPublished unless the event is stored for certain.
        """

    async def close(self) -> None:
        """Ends the connection, if there is one."""
