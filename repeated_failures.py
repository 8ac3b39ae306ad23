"""One log line for a failure that repeats, and then one a minute with a count."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from time import monotonic

INTERVAL_SECONDS = 60.0
KINDS_MAX = 1_000
# What other services do to us, in contrast to bugs: no traceback says more than the message.
_EXPECTED = (OSError, TimeoutError)
_EXPECTED_FROM = ("asyncpg", "temporalio")


@dataclass
class _Kind:
    logged_at: float
    left_out: int = 0


class RepeatedFailures(logging.Filter):
    """Passes the first log record of each kind of failed activity, and one a minute from then on.

    A kind is an activity and the text of its error. An expected error loses its traceback.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return True
        activity: str = getattr(record, "temporal_activity", {}).get("activity_type", "")
        key, now = (activity, f"{type(error).__name__}: {error}"), monotonic()
        kind = self._kinds.get(key)
        if kind is not None and now - kind.logged_at < INTERVAL_SECONDS:
            kind.left_out += 1
            return False
        if len(self._kinds) >= KINDS_MAX:
            self._kinds.clear()
        self._kinds[key] = _Kind(now)
        again = f", {kind.left_out} more times since the last line" if kind else ""
        record.msg, record.args = f"{activity} failed{again}: {key[1]}", ()
        if isinstance(error, _EXPECTED) or type(error).__module__.startswith(_EXPECTED_FROM):
            record.exc_info = record.exc_text = None
        return True
