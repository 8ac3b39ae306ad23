"""The interface of a projection: what the engine needs to know of a read model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from eventlog.log import LoggedEvent
from eventlog.postgres import Connection

Streams = Mapping[str, Sequence[LoggedEvent]]
"""By order id, the order's new events: consecutive by version, each of them once."""


class ProjectionError(Exception):
    """An order cannot be projected: an event is missing, or this one is unreadable."""

    def __init__(self, order_id: str, version: int, reason: str) -> None:
        super().__init__(f"order {order_id}, version {version}: {reason}")
        self.order_id = order_id
        self.version = version
        self.reason = reason


@dataclass(frozen=True)
class Projection:
    """Turns events into one read model, which is a Postgres schema of the same name.

    One of its tables is `orders`, with at least `order_id` and `version`: the last event of each
    order that it contains. Its SQL names tables without a schema, because a rebuild runs the same
    SQL in another schema.
    """

    name: str
    version: int
    """Raise it with every change of the tables' content, and run `orderly projections rebuild`."""
    tables: str
    """SQL that creates the tables in an empty schema."""
    project: Callable[[Connection, Streams], Awaitable[None]]
    """Writes new events to the tables with a few statements, in the caller's transaction.

    An exception parks the order that caused it: a ProjectionError, or any other from a bug.
    """
    indexes: str = ""
    """SQL that creates the indexes, once a rebuild has filled the tables."""
    types: tuple[str, ...] | None = None
    """The types of event that it reads; None: all, and a missing event is a ProjectionError."""
    pause_seconds: float = 0.0
    """How long it collects events before it projects them, if its readers can wait."""


def columns(rows: Iterable[Sequence[object]]) -> list[list[object]]:
    """Rows, at least one, transposed to the columns that `unnest` takes."""
    return [list(column) for column in zip(*rows, strict=True)]
