"""Retries calls to Temporal, and says what a failed one means."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from temporalio.service import RPCError, RPCStatusCode

from api.problems.errors import ServiceError, TemporalUnavailable, TooManyCommands

T = TypeVar("T")

RETRY_SECONDS = 0.05

# Continue-as-new is under way; or the connection was renewed or cut; or the timeout has passed,
# which the client reports as CANCELLED, or as UNKNOWN after a few attempts of its own.
_RETRYABLE = (
    *(RPCStatusCode.FAILED_PRECONDITION, RPCStatusCode.ABORTED),
    *(RPCStatusCode.CANCELLED, RPCStatusCode.UNKNOWN),
)
_UNAVAILABLE = (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED)


class Retry(Exception):
    """A retry may succeed; `error` is raised if there is no time left for one."""

    def __init__(self, error: ServiceError) -> None:
        super().__init__(error)
        self.error = error


async def retry_until(deadline: float, attempt: Callable[[float], Awaitable[T]]) -> T:
    """The result of `attempt`, which gets the seconds left and is repeated while it raises Retry.

    `deadline` is by the event loop's clock.
    """
    now = asyncio.get_running_loop().time
    while True:
        try:
            return await attempt(max(deadline - now(), 0.001))
        except Retry as retry:
            if deadline - now() < RETRY_SECONDS:
                raise retry.error from retry
            await asyncio.sleep(RETRY_SECONDS)


def raise_rpc_error(error: RPCError) -> None:
    """Raises what a failed call means; returns if it means that no workflow is running."""
    if error.status is RPCStatusCode.NOT_FOUND:
        return
    if error.status is RPCStatusCode.RESOURCE_EXHAUSTED:
        raise Retry(TooManyCommands()) from error
    if error.status in _RETRYABLE:
        raise Retry(TemporalUnavailable()) from error
    if error.status in _UNAVAILABLE:
        raise TemporalUnavailable from error
    raise error
