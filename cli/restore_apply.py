"""Repairs what a restore left different, without a guess: the rest is left to a person.

Nothing here is undone by being interrupted, and what is repaired already is no difference any more:
it may be run again at any time.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import suppress

import asyncpg
from temporalio.client import Client
from temporalio.service import RPCError

from api.gateway.ended_orders import EndedOrders
from api.problems.errors import ServiceError
from cli.history_comparison import ranges
from cli.restore_differences import REPAIRED, Kind
from cli.restore_survey import OrderState, order_states
from eventlog import log
from eventlog.announcements import announce
from eventlog.epochs import raise_epoch
from eventlog.log import ConflictingEvent
from orders.upcasting import UnreadableEvent
from readside.engine.parking import request_retry
from workflows.orphans import Orphan

START_SECONDS_MAX = 30.0
REASON = "Temporal was restored to an earlier time than the log: orderly restore apply"


async def apply(
    pool: asyncpg.Pool, client: Client, task_queue: str, *, dry_run: bool
) -> AsyncGenerator[str, None]:
    """Repairs order by order; yields a sentence about each that was, or would be, repaired."""
    ended_orders = EndedOrders(client, pool, task_queue)
    is_raised = dry_run
    async for states in order_states(pool, client, task_queue):
        for state in states:
            if not is_repairable(state):
                continue
            if state.comparison.missing and not is_raised:
                async with pool.acquire() as connection:
                    await raise_epoch(connection, "restore apply")
                is_raised = True
            if not dry_run:
                try:
                    await _repair(pool, client, ended_orders, state)
                except (ConflictingEvent, ServiceError, RPCError) as error:
                    reason = str(error) or type(error).__doc__
                    yield f"Order {state.order_id} is not repaired: {reason}"
                    continue
                except UnreadableEvent as error:
                    yield (
                        f"Order {state.order_id} is not repaired: the log has an event of it that"
                        f" this version cannot read: {error}. Run the newest version of orderly."
                    )
                    continue
            yield f"Order {state.order_id}: {_repairs(state, dry_run=dry_run)}."


def is_repairable(state: OrderState) -> bool:
    """Whether something is to be repaired, and nothing in it needs a decision."""
    kinds = {each.kind for each in state.differences}
    return not kinds.isdisjoint(REPAIRED) and kinds.isdisjoint((Kind.FORKED, Kind.LOST))


async def _repair(
    pool: asyncpg.Pool, client: Client, ended_orders: EndedOrders, state: OrderState
) -> None:
    comparison, order_id = state.comparison, state.order_id
    if comparison.missing:
        async with pool.acquire() as connection:
            await log.append(connection, order_id, comparison.missing)
            await announce(connection)
        await request_retry(pool, order_id)
    if not _is_to_be_started(state):
        return
    # What cannot be started from the log is not terminated either: it would be an orphan.
    await ended_orders.logged_state(order_id)
    if comparison.newest is not None and not comparison.newest.is_closed:
        handle = client.get_workflow_handle(order_id, run_id=comparison.newest.run_id)
        with suppress(RPCError):  # It has ended meanwhile.
            await handle.terminate(reason=REASON)
    await ended_orders.resume(Orphan(order_id, REASON, None), START_SECONDS_MAX, from_log=True)


def _is_to_be_started(state: OrderState) -> bool:
    """Whether the workflow is to be started from the log, which has more than Temporal."""
    return any(each.kind in (Kind.AHEAD, Kind.UNKNOWN) for each in state.differences)


def _repairs(state: OrderState, *, dry_run: bool) -> str:
    would = "would be " if dry_run else ""
    repairs = []
    if state.comparison.missing:
        versions = ranges([event.version for event in state.comparison.missing])
        repairs.append(f"version {versions} {would or 'is '}published again")
    if _is_to_be_started(state):
        repairs.append(f"its workflow {would or 'is '}started from the log")
    return ", and ".join(repairs)
