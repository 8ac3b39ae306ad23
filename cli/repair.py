"""Starts an order whose workflow cannot go on again from the log, if that loses nothing."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import NamedTuple

import asyncpg
from temporalio.client import Client, WorkflowHistory
from temporalio.service import RPCError, RPCStatusCode

from api.gateway.ended_orders import EndedOrders
from api.gateway.retries import retry_until
from api.problems.errors import ServiceError
from eventlog import log
from eventlog.announcements import announce
from eventlog.envelope import Envelope, Ineffective, NoOp
from eventlog.journal import append_ineffective, read_no_ops
from orders.upcasting import UnreadableEvent
from runtime import EXIT_FAILED, EXIT_USAGE
from workflows import history, idempotency, repair
from workflows.comparison import compare_order
from workflows.failing_orders import failing_order
from workflows.repair import NotLossless
from workflows.snapshot import Snapshot, fingerprint
from workflows.stored_results import StoredResult, merged

# Also what tells a repeated repair that an earlier one has terminated a run: it stays as it is.
REASON = "its history cannot be replayed: orderly repair"
REOPEN_SECONDS_MAX = 30.0


class NotRepaired(Exception):
    """Why an order is not repaired, and the exit code."""

    def __init__(self, reason: str, exit_code: int = EXIT_FAILED) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


class Past(NamedTuple):
    """All that is known of an order whose workflow fails."""

    run: WorkflowHistory
    carried: Snapshot
    """With which the run began."""
    events: list[Envelope]
    """In the log, or handed to an activity that was to publish them."""
    ineffective: list[Ineffective]
    """What changed nothing, and the journal may lack."""
    acknowledged: list[StoredResult]


async def repaired(client: Client, pool: asyncpg.Pool, task_queue: str, order_id: str) -> str:
    """Repairs an order, and says what was done; goes on where an earlier repair was interrupted.

    Raises NotRepaired, RPCError, and what asyncpg raises.
    """
    await _terminate(client, pool, order_id)
    try:
        past = await _past(client, pool, order_id)  # It may have gone on meanwhile.
    except NotRepaired as error:
        raise NotRepaired(
            f"{error}. Its workflow is terminated: deploy that code, and run `orderly resume`"
        ) from error
    async with pool.acquire() as connection:
        await log.append(connection, order_id, past.events)
        await append_ineffective(connection, order_id, past.ineffective)
        await announce(connection)
        no_ops = await read_no_ops(connection, order_id, 1, len(past.events))
    snapshot = await _snapshot(client, past, no_ops)
    await _reopen(EndedOrders(client, pool, task_queue), order_id, snapshot)
    return f"Order {order_id} continues from version {snapshot.order.version} of its log."


async def _terminate(client: Client, pool: asyncpg.Pool, order_id: str) -> None:
    """Terminates the order's run, unless an earlier repair has.

    Raises NotRepaired if it does not fail, or something may be missing, and RPCError.
    """
    try:
        failing = await failing_order(client, order_id)
        if failing is None and await _is_terminated(client, order_id):
            return
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        raise await _without_workflow(pool, order_id) from error
    if failing is None:
        raise NotRepaired(f"The workflow of order {order_id} does not fail: nothing is to repair")
    await _past(client, pool, order_id)
    try:
        await client.get_workflow_handle(order_id, run_id=failing.run_id).terminate(reason=REASON)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        # A call whose answer was lost is repeated, and the run is terminated by then.
        if not await _is_terminated(client, order_id):
            raise


async def _is_terminated(client: Client, order_id: str) -> bool:
    """Whether a repair has terminated the order's newest run."""
    run = await client.get_workflow_handle(order_id).fetch_history()
    return run.events[-1].workflow_execution_terminated_event_attributes.reason == REASON


async def _reopen(ended_orders: EndedOrders, order_id: str, snapshot: Snapshot) -> None:
    """Starts the order again. Raises NotRepaired, and RPCError."""

    async def attempt(_: float) -> None:
        await ended_orders.reopen(order_id, snapshot)

    try:
        await retry_until(asyncio.get_running_loop().time() + REOPEN_SECONDS_MAX, attempt)
    except ServiceError as error:
        reason = str(type(error).__doc__).rstrip(".")
        raise NotRepaired(
            f"Order {order_id} is terminated, and not started again: {reason}. "
            "Run `orderly repair` again"
        ) from error


async def _without_workflow(pool: asyncpg.Pool, order_id: str) -> NotRepaired:
    if await log.head(pool, order_id):
        return NotRepaired(f"Temporal has no workflow of order {order_id}: see `orderly resume`")
    return NotRepaired(f"There is no order {order_id}", EXIT_USAGE)


async def _past(client: Client, pool: asyncpg.Pool, order_id: str) -> Past:
    """Raises NotRepaired if something may be missing in it."""
    found = await compare_order(pool, client, order_id)
    if found.forked or found.lost:
        raise NotRepaired(
            f"The log and Temporal differ about order {order_id}: see `orderly restore status`"
        )
    run = await client.get_workflow_handle(order_id).fetch_history()
    stream = {event.version: event for event in await log.read_stream(pool, order_id)}
    pending = found.newest.pending if found.newest else ()
    known = {event.version: event for event in (*found.missing, *pending)} | stream
    carried = await history.first_snapshot(run, client.data_converter)
    if carried.is_incomplete:
        raise NotRepaired(
            f"Order {order_id} is not repaired: its state has commands or events that only the"
            " version can read that wrote it"
        )
    past = Past(
        run,
        carried,
        [known[version] for version in sorted(known)],
        await history.ineffective_for_log(run, client.data_converter),
        await repair.acknowledged(run, client.data_converter),
    )
    try:
        logged = {event.metadata.command_id for event in past.events}
        repair.check(run, max(known, default=0), past.acknowledged, logged)
        for event in past.events:
            event.event()
    except NotLossless as error:
        raise NotRepaired(f"Order {order_id} is not repaired: {error}") from error
    except UnreadableEvent as error:
        raise NotRepaired(
            f"Order {order_id} is not repaired: a newer version wrote an event of it: {error}"
        ) from error
    return past


async def _snapshot(client: Client, past: Past, no_ops: list[NoOp]) -> Snapshot:
    """The state by the events, with the results that history has."""
    converter, now, carried = client.data_converter, datetime.now(UTC), past.carried
    order, logged = idempotency.from_stream(past.events, no_ops=no_ops)
    stored = carried.stored_results()
    stored.add(*past.acknowledged)
    packed = merged(stored, logged).packed(now)
    return Snapshot(
        made_by=fingerprint(),
        order=order,
        results=packed.chunks,
        results_dropped_until=packed.dropped_until or carried.results_dropped_until,
        rejections=carried.rejections if carried.is_own else "",
        reopened=True,
        queued=await repair.undecided(past.run, converter, logged.keys()),
        cancellation_ignored=carried.cancellation_ignored,
    )
