"""Orphaned orders: they have not ended, and no workflow runs them.

A workflow that ends by itself has published all that it decided. One that was terminated has not,
perhaps: its history still has the rest. Visibility, which lists workflows, lags behind: it names
candidates only.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import NamedTuple

from pydantic import ValidationError
from temporalio.client import (
    Client,
    WorkflowExecution,
    WorkflowExecutionStatus,
    WorkflowQueryFailedError,
)
from temporalio.service import RPCError, RPCStatusCode

from eventlog import log
from eventlog.postgres import Reader
from orders.rules.process import is_finished
from orders.upcasting import UnreadableEvent
from workflows import history, idempotency
from workflows.order import OrderWorkflow
from workflows.snapshot import Snapshot, SnapshotLost
from workflows.visibility import RUNNING, orders_query

PAGE_SIZE = 200
QUERY_TIMEOUT = timedelta(seconds=5)

_ENDED_FROM_OUTSIDE = {
    WorkflowExecutionStatus.TERMINATED: "was terminated",
    WorkflowExecutionStatus.CANCELED: "was cancelled",
    WorkflowExecutionStatus.FAILED: "failed",
    WorkflowExecutionStatus.TIMED_OUT: "timed out",
}
# As visibility spells them.
_STATUSES = "'Terminated', 'Canceled', 'Failed', 'TimedOut'"


class Orphan(NamedTuple):
    """An order that has not ended and has no running workflow."""

    order_id: str
    reason: str
    """What became of the workflow, as a sentence without its full stop."""
    run_id: str | None
    """The run that was ended from outside; None if Temporal has none."""


class UnreadableRun(Exception):
    """A workflow that was ended from outside has a last state that this version cannot learn."""


async def find_orphan(client: Client, reader: Reader, order_id: str) -> Orphan | None:
    """The order as an orphan; None if its workflow runs, or has ended by itself.

    Raises RPCError.
    """
    try:
        run = await client.get_workflow_handle(order_id).describe()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        is_orphan = await _is_open(reader, order_id)
        return Orphan(order_id, "Temporal has no workflow of it", None) if is_orphan else None
    ending = _ENDED_FROM_OUTSIDE.get(run.status) if run.status else None
    if ending is None or not (await log.head(reader, order_id) or await _is_order(client, run)):
        return None
    return Orphan(order_id, f"its workflow {ending}", run.run_id)


async def last_snapshot(client: Client, orphan: Orphan) -> Snapshot:
    """The state to continue with, of a run that was ended from outside.

    A worker replays the run's history, so that what was decided and not published is included, as
    are asynchronous commands that the run has never executed. Raises UnreadableRun, and RPCError.
    """
    handle = client.get_workflow_handle_for(
        OrderWorkflow.run, orphan.order_id, run_id=orphan.run_id
    )
    run = await handle.fetch_history()
    try:
        snapshot = (
            await handle.query(OrderWorkflow.snapshot, rpc_timeout=QUERY_TIMEOUT)
            if history.has_processed(run)
            else await history.first_snapshot(run, client.data_converter)
        )
    except WorkflowQueryFailedError as error:
        raise UnreadableRun(str(error)) from error
    except ValidationError:  # Its text has the data, and would be logged.
        raise UnreadableRun("another version wrote its state, which this one cannot read") from None
    if snapshot.is_incomplete:
        raise UnreadableRun(str(SnapshotLost(snapshot.made_by)))
    unprocessed = await history.unprocessed_commands(run, client.data_converter)
    queued = [*snapshot.queued, *unprocessed]
    # What is sent on has the fields that this version knows.
    made_by = snapshot.made_by if snapshot.is_own else None
    return snapshot.model_copy(update={"made_by": made_by, "reopened": True, "queued": queued})


def ended_from_outside(client: Client, task_queue: str) -> AsyncIterator[list[str]]:
    """Ids of orders one of whose runs was ended from outside; they may be running again."""
    return _orders(client, task_queue, f"ExecutionStatus IN ({_STATUSES})")


def all_orders(client: Client, task_queue: str) -> AsyncIterator[list[str]]:
    """Ids of all orders that Temporal retains, page by page; an id may be in several pages.

    Those that started a moment ago may be absent, as visibility lists them.
    """
    return _orders(client, task_queue)


async def _orders(client: Client, task_queue: str, *conditions: str) -> AsyncIterator[list[str]]:
    page: dict[str, None] = {}
    query = orders_query(task_queue, *conditions)
    async for run in client.list_workflows(query, page_size=PAGE_SIZE):
        page[run.id] = None
        if len(page) == PAGE_SIZE:
            yield list(page)
            page.clear()
    if page:
        yield list(page)


async def without_workflow(client: Client, order_ids: Sequence[str]) -> list[str]:
    """Those of the orders of which visibility shows no running workflow."""
    ids = ", ".join(f"'{order_id}'" for order_id in order_ids)
    query = f"WorkflowId IN ({ids}) AND {RUNNING}"
    running = {run.id async for run in client.list_workflows(query, page_size=PAGE_SIZE)}
    return [order_id for order_id in order_ids if order_id not in running]


async def _is_order(client: Client, run: WorkflowExecution) -> bool:
    """Whether a run of which the log has nothing was an order: a rejected opening starts one."""
    handle = client.get_workflow_handle(run.id, run_id=run.run_id)
    past = await handle.fetch_history()
    try:
        carried = await history.first_snapshot(past, client.data_converter)
    except ValidationError:
        return True  # A rejected opening leaves no state that another version could not read.
    return bool(
        carried.is_incomplete
        or carried.order.version
        or carried.unpublished
        or carried.queued
        or await history.events_for_log(past, client.data_converter)
        or await history.unprocessed_commands(past, client.data_converter)
    )


async def _is_open(reader: Reader, order_id: str) -> bool:
    """Whether the order has not ended, by the log; False if it cannot be folded."""
    stream = await log.read_stream(reader, order_id)
    try:
        order, _ = idempotency.from_stream(stream)
    except UnreadableEvent:
        return False
    return order.version > 0 and not is_finished(order)
