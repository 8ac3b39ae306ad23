"""Asks orders to go on in the current version, if theirs cannot read what they were sent.

Such a command is rejected before it enters history, so the order does not notice by itself that
another version is current.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from temporalio.client import Client
from temporalio.service import RPCError

from workflows.messages import EVENT_UNREADABLE, NOT_KNOWN_YET, Rejection
from workflows.versions import ask_to_move, may_move

# Of the response, which says when to repeat the request anyway.
MOVE_SECONDS_MAX = 1.0
# Shorter than Retry-After. Each signal is a workflow task.
PAUSE_SECONDS = 5.0
ORDERS_REMEMBERED_MAX = 1_000


class MoveRequests:
    """The requests of one process to orders, each to the same order after a pause."""

    def __init__(self, client: Client, task_queue: str) -> None:
        self._client = client
        self._task_queue = task_queue
        self._asked: dict[str, float] = {}
        """When each order was last asked, by the event loop's clock."""

    async def follow(self, order_id: str, rejection: Rejection) -> None:
        """Asks a running order to move if it rejected what only another version can read.

        It is no error if that fails: the repeated request leads here again.
        """
        if rejection.code not in (NOT_KNOWN_YET, EVENT_UNREADABLE) or not self._is_due(order_id):
            return
        with suppress(RPCError, RuntimeError, TimeoutError):  # RuntimeError: never connected.
            async with asyncio.timeout(MOVE_SECONDS_MAX):
                if await may_move(self._client, self._task_queue, order_id):
                    await ask_to_move(self._client, order_id)

    def _is_due(self, order_id: str) -> bool:
        now = asyncio.get_running_loop().time()
        if now - self._asked.get(order_id, -PAUSE_SECONDS) < PAUSE_SECONDS:
            return False
        if len(self._asked) >= ORDERS_REMEMBERED_MAX:
            self._asked.clear()
        self._asked[order_id] = now
        return True
