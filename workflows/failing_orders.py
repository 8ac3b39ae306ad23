"""Orders whose workflow tasks fail: nothing of them goes on until that ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import GetWorkflowExecutionHistoryReverseRequest
from temporalio.client import Client, WorkflowExecutionStatus

from workflows.visibility import RUNNING, orders_query

# Temporal sets the attribute after the fifth attempt in a row.
_PROBLEMS = ("category=WorkflowTaskFailed", "category=WorkflowTaskTimedOut")
EVENTS_LOOKED_AT = 50


class FailingOrder(NamedTuple):
    """An order whose workflow task fails, and why."""

    order_id: str
    run_id: str
    reason: str
    attempts: int


async def count_failing(client: Client, task_queue: str) -> int:
    """Raises RPCError, also where the server does not know the attribute (before 1.30)."""
    return (await client.count_workflows(_query(task_queue))).count


async def find_failing(client: Client, task_queue: str) -> AsyncIterator[FailingOrder]:
    """The orders whose tasks have failed five times in a row. Raises RPCError."""
    for order_id in await failing_ids(client, task_queue):
        found = await failing_order(client, order_id)
        if found is not None:
            yield found


async def failing_ids(client: Client, task_queue: str) -> list[str]:
    """The ids of the orders that `find_failing` may find. Raises RPCError."""
    return [run.id async for run in client.list_workflows(_query(task_queue))]


async def failing_order(client: Client, order_id: str) -> FailingOrder | None:
    """Why the tasks of an order fail; None if its last one did not. Raises RPCError."""
    described = await client.get_workflow_handle(order_id).describe()
    attempts = described.raw_description.pending_workflow_task.attempt
    # A run that was terminated may still show the task that it had.
    if described.status is not WorkflowExecutionStatus.RUNNING or attempts < 2:
        return None
    reason = await _last_failure(client, order_id, described.run_id)
    return FailingOrder(order_id, described.run_id, reason, attempts) if reason else None


async def _last_failure(client: Client, order_id: str, run_id: str) -> str | None:
    """Why the last workflow task of a run failed; None if it did not."""
    request = GetWorkflowExecutionHistoryReverseRequest(
        namespace=client.namespace,
        execution=WorkflowExecution(workflow_id=order_id, run_id=run_id),
        maximum_page_size=EVENTS_LOOKED_AT,
    )
    page = await client.workflow_service.get_workflow_execution_history_reverse(request)
    for event in page.history.events:
        match event.event_type:
            case EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
                failed = event.workflow_task_failed_event_attributes
                return _first_line(failed.failure.message) or "its cause is not recorded"
            case EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT:
                return "no worker finished its task in time"
            case EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                return None
    return None


def _first_line(message: str) -> str:
    return message.strip().partition("\n")[0]


def _query(task_queue: str) -> str:
    problems = ", ".join(f"'{problem}'" for problem in _PROBLEMS)
    return orders_query(task_queue, RUNNING, f"TemporalReportedProblems IN ({problems})")
