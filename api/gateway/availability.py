"""Calls to the engine: one that is away or hangs is told, within a second, from a slow order.

A call may take as long as its order does, so how long it takes says nothing of the engine. Whoever
has waited for a moment asks whether the engine itself still answers.
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

# Together less than a second: so soon a caller is told.
PATIENCE_SECONDS = 0.25
ANSWER_SECONDS = 0.65

# Whatever else it answers, it answers.
SILENT = (RPCStatusCode.CANCELLED, RPCStatusCode.DEADLINE_EXCEEDED, RPCStatusCode.UNAVAILABLE)


async def answered(client: Client, asking: Coroutine[Any, Any, T]) -> T:
    """What a call comes to; raises the Problem of an engine that is away as soon as it is.

    What was asked may have been heard all the same: it has to be such that it can be repeated.
    """
    call = asyncio.create_task(asking)
    try:
        while not (await asyncio.wait([call], timeout=PATIENCE_SECONDS))[0]:
            await _assert_alive(client, call)
        return call.result()
    except RuntimeError as error:  # What a client says that has never had a connection.
        raise TemporalUnavailable from error
    finally:
        await _ended(call)


async def _assert_alive(client: Client, call: asyncio.Task[Any]) -> None:
    """Raises a Problem if neither the engine nor the call answers in time."""
    asking = asyncio.create_task(_silence(client))
    await asyncio.wait([call, asking], return_when=asyncio.FIRST_COMPLETED)
    silence = None if call.done() else asking.result()
    await _ended(asking)
    if silence is not None:
        log.warning("Temporal is taken to be away: %s", silence)
        raise TemporalUnavailable


async def _silence(client: Client) -> str | None:
    """What is wrong with the engine; None if it answers."""
    now = asyncio.get_running_loop().time
    deadline = now() + ANSWER_SECONDS
    while True:
        # The client's own threads keep the time: a loop that is late says nothing of the engine.
        left = timedelta(seconds=max(deadline - now(), 0.001))
        try:
            serves = await client.service_client.check_health(timeout=left)
        except RPCError as error:
            # Before the time is up: the engine renews each connection now and then, and what was
            # just begun on the old one is called off.
            if error.status is RPCStatusCode.CANCELLED and now() < deadline:
                continue
            return f"{error.status.name}: {error}" if error.status in SILENT else None
        except RuntimeError as error:
            return str(error)
        return None if serves else "it says that it does not serve"


async def _ended(task: asyncio.Task[Any]) -> None:
    """Lets a task end that nobody waits for any more, and nobody hears how."""
    if not task.done():
        task.cancel()
        await asyncio.wait([task])
    if not task.cancelled():
        task.exception()  # It has been looked at: nobody logs it.
