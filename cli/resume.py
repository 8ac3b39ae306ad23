"""Resumes orphaned orders, and says in one sentence why one is not resumed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
from temporalio.client import Client
from temporalio.service import RPCError

from api.gateway.ended_orders import EndedOrders
from api.problems.errors import OrderOrphaned, OutcomeUnknown, ServiceError, UnknownOrder
from eventlog import log
from orders.upcasting import UnreadableEvent
from readside.order_view import orphans as shown
from runtime import EXIT_FAILED, EXIT_USAGE
from workflows.orphans import Orphan, find_orphan

RESUME_SECONDS_MAX = 30.0


class NotResumed(Exception):
    """Why an order is not resumed, and the exit code."""

    def __init__(self, reason: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


async def resume(
    client: Client, pool: asyncpg.Pool, task_queue: str, order_id: str | None, *, from_log: bool
) -> AsyncIterator[str]:
    """Resumes one order, or all that the running check has found; yields what it did.

    Raises NotResumed.
    """
    ended_orders = EndedOrders(client, pool, task_queue)
    order_ids = [order_id] if order_id is not None else await shown.known(pool)
    if not order_ids:
        yield "No order is orphaned."
    failures: list[NotResumed] = []
    for each in order_ids:
        try:
            orphan = await _orphan(client, pool, each)
            if orphan is not None:
                await _resume(ended_orders, orphan, from_log=from_log)
                yield f"Order {each} continues: {orphan.reason}."
            elif order_id is not None:
                raise NotResumed(await _why_not(client, pool, order_id), EXIT_USAGE)
        except NotResumed as failure:
            failures.append(failure)
    if len(failures) > 1:
        raise NotResumed(f"{len(failures)} orders are not resumed. The first: {failures[0]}")
    if failures:
        raise failures[0]


async def _orphan(client: Client, pool: asyncpg.Pool, order_id: str) -> Orphan | None:
    try:
        return await find_orphan(client, pool, order_id)
    except RPCError as error:
        raise NotResumed(f"Temporal cannot be asked about order {order_id}: {error}.") from error


async def _resume(ended_orders: EndedOrders, orphan: Orphan, *, from_log: bool) -> None:
    order_id = orphan.order_id
    try:
        await ended_orders.resume(orphan, RESUME_SECONDS_MAX, from_log=from_log)
    except OrderOrphaned as error:
        raise NotResumed(
            f"The workflow of order {order_id} cannot be replayed: deploy the code that wrote its "
            "history, run an interrupted `orderly repair` again, or lose what it had not published "
            "with --from-log."
        ) from error
    except OutcomeUnknown as error:
        raise NotResumed(
            f"No worker has read the last state of order {order_id}: start one, and try again."
        ) from error
    except UnknownOrder as error:
        raise NotResumed(
            f"Order {order_id} was never opened: there is nothing to continue.", EXIT_USAGE
        ) from error
    except UnreadableEvent as error:
        raise NotResumed(
            f"The log has an event of order {order_id} that this version cannot read: {error}. "
            "Run the newest version of orderly."
        ) from error
    except ServiceError as error:
        raise NotResumed(f"Order {order_id} is not resumed: {type(error).__doc__}") from error


async def _why_not(client: Client, pool: asyncpg.Pool, order_id: str) -> str:
    """Why an order that is not orphaned has nothing to resume."""
    if await log.head(pool, order_id) or await _has_workflow(client, order_id):
        return f"Order {order_id} is not orphaned: its workflow is running, or has ended by itself."
    return f"There is no order {order_id}."


async def _has_workflow(client: Client, order_id: str) -> bool:
    try:
        await client.get_workflow_handle(order_id).describe()
    except RPCError:
        return False
    return True
