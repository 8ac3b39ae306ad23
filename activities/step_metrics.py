"""Metrics of the calls of external services."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from prometheus_client import Histogram
from temporalio.exceptions import ApplicationError

import telemetry

DONE = "done"
DECLINED = "declined"
"""The service said no, for a reason that the order knows."""
_ABANDONED = "abandoned"

_CALLS = Histogram(
    "orderly_step_duration_seconds",
    "Duration of a call of an external service for a step of an order, by service and outcome:"
    " done, declined, service-failed, outcome-unknown, step-rejected or abandoned.",
    ["service", "outcome"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15),
)


class Call:
    """A call under way; `outcome` is that of a call which fails in no known way."""

    def __init__(self) -> None:
        self.outcome = _ABANDONED


@contextmanager
def measured(service: str) -> Iterator[Call]:
    """Measures the call inside; it sets the outcome unless it raises an ApplicationError."""
    call, began = Call(), perf_counter()
    try:
        yield call
    except ApplicationError as error:
        call.outcome = error.type or _ABANDONED
        raise
    finally:
        _CALLS.labels(service, call.outcome).observe(perf_counter() - began, telemetry.exemplar())
