"""Retries calls to Temporal, and says what a failed one means."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import inf
from typing import TypeVar

from temporalio.api.errordetails.v1 import WorkflowNotReadyFailure
from temporalio.service import RPCError, RPCStatusCode

from api.problems.errors import (
    OutcomeUnknown,
    ServiceError,
    TemporalUnavailable,
    TooManyCommands,
)

T = TypeVar("T")

RETRY_SECONDS = 0.05  # Doubled with each attempt.
RETRY_SECONDS_MAX = 0.4
# A connection that was cut is renewed within this time, unless Temporal is unavailable.
RECONNECT_SECONDS_MAX = 0.8

# The order continues as new, which Temporal reports as RESOURCE_EXHAUSTED, too; or the connection
# was renewed or cut; or the timeout has passed, which the client may report as CANCELLED.
_RETRYABLE = (
    *(RPCStatusCode.FAILED_PRECONDITION, RPCStatusCode.ABORTED, RPCStatusCode.INTERNAL),
    *(RPCStatusCode.CANCELLED, RPCStatusCode.UNKNOWN),
)


class Retry(Exception):
    """A retry may succeed; `error` is raised if there is no time left for one.

    That is `seconds` after the first of several attempts that fail, and the caller's deadline.
    """

    def __init__(self, error: ServiceError, seconds: float = inf) -> None:
        super().__init__(error)
        self.error = error
        self.seconds = seconds


async def retry_until(deadline: float, attempt: Callable[[float], Awaitable[T]]) -> T:
    """The result of `attempt`, which gets the seconds left and is repeated while it raises Retry.

    `deadline` is by the event loop's clock.
    """
    now = asyncio.get_running_loop().time
    failing_since, pause = inf, RETRY_SECONDS
    while True:
        try:
            return await attempt(max(deadline - now(), 0.001))
        except Retry as retry:
            failing_since = min(failing_since, now()) if retry.seconds < inf else inf
            if min(deadline, failing_since + retry.seconds) - now() < pause:
                raise retry.error from retry
            await asyncio.sleep(pause)
            pause = min(2 * pause, RETRY_SECONDS_MAX)


def raise_rpc_error(error: RPCError) -> None:
    """Raises what a failed call means; returns if it means that no workflow is running."""
    if error.status is RPCStatusCode.NOT_FOUND:
        return
    if any(each.Is(WorkflowNotReadyFailure.DESCRIPTOR) for each in error.grpc_status.details):
        raise Retry(OutcomeUnknown()) from error  # Its workflow tasks fail: Temporal is well.
    if error.status is RPCStatusCode.RESOURCE_EXHAUSTED:
        raise Retry(TooManyCommands()) from error
    if error.status in _RETRYABLE:
        raise Retry(TemporalUnavailable()) from error
    if error.status is RPCStatusCode.UNAVAILABLE:
        raise Retry(TemporalUnavailable(), RECONNECT_SECONDS_MAX) from error
    if error.status is RPCStatusCode.DEADLINE_EXCEEDED:
        raise TemporalUnavailable from error
    raise error
