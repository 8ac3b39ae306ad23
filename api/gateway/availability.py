"""Detects within a second that Temporal is unavailable, however long a call may take.

A call takes as long as its order does, so its duration says nothing about Temporal. After a moment
without a response, a health check runs beside the call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, TypeVar

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from api.problems.errors import TemporalUnavailable

log = logging.getLogger("orderly.api")

T = TypeVar("T")

# Together less than a second.
HEALTH_CHECK_INTERVAL_SECONDS = 0.25
HEALTH_CHECK_SECONDS_MAX = 0.65

# Any other status is a response.
NO_RESPONSE = (
    RPCStatusCode.CANCELLED,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.UNAVAILABLE,
)


async def await_or_unavailable(client: Client, call: Coroutine[Any, Any, T]) -> T:
    """Awaits a Temporal call; raises TemporalUnavailable as soon as the health check fails.

    Temporal may have received the call all the same: it has to be safe to repeat.
    """
    task = asyncio.create_task(call)
    try:
        while not (await asyncio.wait([task], timeout=HEALTH_CHECK_INTERVAL_SECONDS))[0]:
            await _assert_healthy(client, task)
        return task.result()
    except RuntimeError as error:  # By a client that has never been connected.
        raise TemporalUnavailable from error
    finally:
        await _cancel_quietly(task)


async def _assert_healthy(client: Client, call: asyncio.Task[Any]) -> None:
    """Raises TemporalUnavailable if neither the health check nor the call gets a response."""
    check = asyncio.create_task(_health_error(client))
    await asyncio.wait([call, check], return_when=asyncio.FIRST_COMPLETED)
    error = None if call.done() else check.result()
    await _cancel_quietly(check)
    if error is not None:
        log.warning("Temporal unavailable: %s", error)
        raise TemporalUnavailable


async def _health_error(client: Client) -> str | None:
    """Why Temporal is unavailable; None if it responds."""
    now = asyncio.get_running_loop().time
    deadline = now() + HEALTH_CHECK_SECONDS_MAX
    while True:
        # The client's own threads measure this timeout, so a slow event loop cannot exceed it.
        timeout = timedelta(seconds=max(deadline - now(), 0.001))
        try:
            is_serving = await client.service_client.check_health(timeout=timeout)
        except RPCError as error:
            # CANCELLED before the deadline: the server renews connections now and then, which
            # cancels the calls that have just begun.
            if error.status is RPCStatusCode.CANCELLED and now() < deadline:
                continue
            return f"{error.status.name}: {error}" if error.status in NO_RESPONSE else None
        except RuntimeError as error:
            return str(error)
        return None if is_serving else "the health check reports that it is not serving"


async def _cancel_quietly(task: asyncio.Task[Any]) -> None:
    """Cancels a task whose result is not needed any more."""
    if not task.done():
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled():
        task.exception()  # An exception that is never retrieved would be logged.
