"""What a projection is to the projector that runs it, and what can stop one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from eventlog.log import LoggedEvent
from eventlog.postgres import Connection

Streams = Mapping[str, Sequence[LoggedEvent]]
"""By order, the events that its row has not seen yet: in line, and none of them twice."""


class ProjectionError(Exception):
    """A projection cannot go on with an order: an event is missing, or this one is unreadable."""

    def __init__(self, order_id: str, version: int, reason: str) -> None:
        super().__init__(f"order {order_id}, version {version}: {reason}")
        self.order_id = order_id
        self.version = version
        self.reason = reason


@dataclass(frozen=True)
class Projection:
    """Code that turns events into one read model, which is a Postgres schema of the same name.

    One of its tables is `orders`, with `order_id` and `version` among its columns: what each order
    has been digested up to. All SQL in here names its tables alone, because a rebuild runs the same
    SQL in another schema.
    """

    name: str
    version: int
    """Raised with every change of what the tables hold; `orderly rebuild` then fills new ones."""
    tables: str
    """SQL that makes them, in an empty schema."""
    project: Callable[[Connection, Streams], Awaitable[None]]
    """Digests events with a few statements, in the caller's transaction.

    What it raises parks an order: raise Undigestible, or whatever a bug raises.
    """
    indexes: str = ""
    """SQL that makes the rest, once a rebuild has filled the tables."""
    types: tuple[str, ...] | None = None
    """The types of event that it wants; without, it wants all, and none may be missing."""
    pause_seconds: float = 0.0
    """How long it gathers events before it digests them, where nobody needs them at once."""


def columns(rows: Iterable[Sequence[object]]) -> list[list[object]]:
    """Rows, of which there must be some, as `unnest` takes them: a list for each column."""
    return [list(column) for column in zip(*rows, strict=True)]
