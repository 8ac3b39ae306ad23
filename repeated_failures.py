"""One log line for a failure that repeats, and then one a minute with a count."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from time import monotonic

INTERVAL_SECONDS = 60.0
KINDS_MAX = 1_000
# What other services do to us, in contrast to bugs: no traceback says more than the message.
_EXPECTED = (OSError, TimeoutError)
_EXPECTED_FROM = ("asyncpg", "temporalio")
_NUMBERS = re.compile(r"\d+")


@dataclass
class _Kind:
    logged_at: float
    left_out: int = 0


class RepeatedFailures(logging.Filter):
    """Passes the first log record of each kind of failure, and one a minute from then on.

    A kind is a warning or an error with its text and that of its exception, but for numbers; for
    Temporal's records of failed activities, the name of the activity. An expected exception loses
    its traceback.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[str, _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        error = record.exc_info[1] if record.exc_info else None
        what, reason = _name_of(record), f": {type(error).__name__}: {error}" if error else ""
        key, now = _NUMBERS.sub("#", f"{what}{reason}"), monotonic()
        kind = self._kinds.get(key)
        if kind is not None and now - kind.logged_at < INTERVAL_SECONDS:
            kind.left_out += 1
            return False
        if len(self._kinds) >= KINDS_MAX:
            self._kinds.clear()
        self._kinds[key] = _Kind(now)
        again = f", {kind.left_out} more times since the last line" if kind else ""
        record.repeated = kind.left_out if kind else 0
        record.msg, record.args = f"{what}{again}{reason}", ()
        if isinstance(error, _EXPECTED) or type(error).__module__.startswith(_EXPECTED_FROM):
            record.exc_info = record.exc_text = None
        return True


def _name_of(record: logging.LogRecord) -> str:
    activity = getattr(record, "temporal_activity", {}).get("activity_type")
    return f"{activity} failed" if activity and record.exc_info else record.getMessage()
