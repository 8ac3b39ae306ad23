"""Notifications by which projectors announce their progress to readers that wait for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from eventlog.postgres import Connection

CHANNEL = "projections"


class Announcement(NamedTuple):
    """Some slices of a projection have come to a position in the log.

    A projector repeats it every second, as its heartbeat.
    """

    projection: str
    slices: Sequence[int]
    position: int
    lag_ms: int
    """For how long the oldest event that the slices lack has been in the log, or more; 0: they lack
    none. It counts events that an older transaction holds back."""


async def announce(connection: Connection, announcement: Announcement) -> None:
    """Notifies the readers, once the caller's transaction commits."""
    projection, slices, position, lag_ms = announcement
    payload = f"{projection} {','.join(map(str, slices))} {position} {lag_ms}"
    await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, payload)


def parse(payload: str) -> Announcement:
    """The announcement in a notification's payload."""
    projection, slices, position, lag_ms = payload.split()
    return Announcement(projection, [int(s) for s in slices.split(",")], int(position), int(lag_ms))
