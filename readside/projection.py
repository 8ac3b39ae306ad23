"""What a projection is to the projector that runs it, and what can stop one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from eventlog.log import LoggedEvent
from eventlog.postgres import Connection


class Undigestible(Exception):
    """A projection cannot go on: an event is missing before this one, or this one is unreadable."""

    def __init__(self, order_id: str, version: int, reason: str) -> None:
        super().__init__(f"order {order_id}, version {version}: {reason}")
        self.order_id = order_id
        self.version = version


@dataclass(frozen=True)
class Projection:
    """Code that turns events into one read model."""

    name: str
    table: str
    """SQL that makes its table where it is missing."""
    project: Callable[[Connection, list[LoggedEvent]], Awaitable[None]]
    """Digests a batch, in commit order, with a few statements in the caller's transaction."""
