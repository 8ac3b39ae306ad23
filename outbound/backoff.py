"""Growing pauses after failures."""

from __future__ import annotations

import random

_DOUBLINGS_MAX = 30


def backoff_seconds(failures: int, first: float, longest: float) -> float:
    """The seconds after a number of failures: doubled with each, with jitter."""
    doubled = first * 2.0 ** min(failures - 1, _DOUBLINGS_MAX)
    return min(doubled, longest) * random.uniform(0.5, 1)
