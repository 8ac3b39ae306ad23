"""Epochs of the log: after a restore, what was after the surviving events is gone or elsewhere.

A reader that has a position from an earlier epoch beyond what survived has seen events that the log
lost, and may miss those that it has now.
"""

from __future__ import annotations

from typing import NamedTuple

from eventlog.log import Checkpoint, settled_head
from eventlog.postgres import Connection, Reader

FIRST = 0
"""The epoch of a log that was never restored."""


class Epochs(NamedTuple):
    """The current epoch, and what survived at the beginning of each."""

    current: int
    survived: dict[int, Checkpoint]

    def last_valid(self, epoch: int) -> Checkpoint | None:
        """Up to where the log is as it was in an epoch; None if that is everywhere."""
        later = [end for began, end in self.survived.items() if began > epoch]
        return min(later, default=None)


async def read_epochs(reader: Reader) -> Epochs:
    rows = await reader.fetch("SELECT epoch, transaction_id, position FROM log_epochs")
    survived = {row["epoch"]: Checkpoint(row["transaction_id"], row["position"]) for row in rows}
    return Epochs(max(survived, default=FIRST), survived)


async def raise_epoch(connection: Connection, reason: str) -> None:
    """Begins another epoch: only the events that the log has now are as they were."""
    await connection.execute(
        """
        INSERT INTO log_epochs (epoch, transaction_id, position, reason)
        SELECT greatest(extract(epoch FROM clock_timestamp())::bigint, max(epoch) + 1), $1, $2, $3
        FROM log_epochs
        """,
        *await settled_head(connection),
        reason,
    )
