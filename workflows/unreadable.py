"""What this version of the software cannot read: commands and events of a newer one.

It waits, and is tried again, until a version that can read it runs the order.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from temporalio import workflow

MARKER = "unreadable: "
RETRY_MIN = timedelta(seconds=10)
RETRY_MAX = timedelta(minutes=30)


def can_read(what: str, is_readable: bool) -> bool:
    """Whether this version can read `what`; on replay, whether the version could that ran then.

    A failure is marked in history: a newer version that replays it could read it, and would decide
    what was not decided then. `what` is unique in the run.
    """
    if is_readable and not workflow.unsafe.is_replaying():
        return True
    return not workflow.patched(f"{MARKER}{what}")


def delays() -> Iterator[timedelta]:
    """The times to wait before one attempt and the next."""
    delay = RETRY_MIN
    while True:
        yield delay
        delay = min(2 * delay, RETRY_MAX)
