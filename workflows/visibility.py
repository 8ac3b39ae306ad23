"""Queries of Temporal's visibility for the orders of a task queue."""

from __future__ import annotations

from workflows.messages import WORKFLOW_TYPE

RUNNING = "ExecutionStatus = 'Running'"


def orders_query(task_queue: str, *conditions: str) -> str:
    """Selects runs of orders that meet all conditions."""
    of_queue = f"WorkflowType = '{WORKFLOW_TYPE}' AND TaskQueue = '{task_queue}'"
    return " AND ".join([of_queue, *conditions])
