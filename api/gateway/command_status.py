"""The status of an asynchronous command: from its order, from the log, or from the history."""

from __future__ import annotations

from datetime import timedelta

import asyncpg
from temporalio.client import Client, WorkflowQueryFailedError
from temporalio.service import RPCError, RPCStatusCode

from api.problems.errors import StorageUnavailable, TemporalUnavailable
from eventlog import log
from eventlog.postgres import UNAVAILABLE
from workflows import history, idempotency
from workflows.idempotency import CommandStatus
from workflows.order import OrderWorkflow

QUERY_TIMEOUT = timedelta(seconds=2)


async def command_status(
    client: Client, pool: asyncpg.Pool, order_id: str, command_id: str
) -> CommandStatus | None:
    """The status of a command; None if it was never sent, or has been forgotten.

    A query to the workflow answers first. The log has the commands that the workflow has forgotten,
    and those of an ended order. Queued commands that no worker has processed are in the workflow's
    history. Raises StorageUnavailable or TemporalUnavailable if the source that may know the
    command is unavailable.
    """
    for _ in range(2):  # The command may be processed between the query and reading the history.
        is_queried, status = await _by_query(client, order_id, command_id)
        status = status or await _by_log(pool, order_id, command_id)
        status = status or await _by_history(
            client, order_id, command_id, unprocessed_only=is_queried
        )
        if status is not None or not is_queried:
            return status
    return None


async def _by_query(
    client: Client, order_id: str, command_id: str
) -> tuple[bool, CommandStatus | None]:
    """Whether the workflow could be queried, and the status; True and None if it is not running."""
    handle = client.get_workflow_handle_for(OrderWorkflow.run, order_id)
    try:
        status = await handle.query(
            OrderWorkflow.command_status, command_id, rpc_timeout=QUERY_TIMEOUT
        )
    except RPCError as error:
        return error.status is RPCStatusCode.NOT_FOUND, None
    except (WorkflowQueryFailedError, RuntimeError):  # RuntimeError: not connected yet.
        return False, None
    return True, status


async def _by_log(pool: asyncpg.Pool, order_id: str, command_id: str) -> CommandStatus | None:
    try:
        version = await log.version_of_command(pool, order_id, command_id)
        if version is None:
            return None
        stream = await log.read_stream(pool, order_id, limit=version)
    except UNAVAILABLE as error:
        raise StorageUnavailable from error
    _, results = idempotency.from_stream(stream)
    return CommandStatus(result=results[command_id].result)


async def _by_history(
    client: Client, order_id: str, command_id: str, *, unprocessed_only: bool
) -> CommandStatus | None:
    try:
        async for run in history.runs_of(client, order_id):
            # The newest run is enough: it received the older ones' state, and all new signals.
            return await history.command_status(
                run, client.data_converter, command_id, unprocessed_only=unprocessed_only
            )
    except (RPCError, RuntimeError) as error:
        raise TemporalUnavailable from error
    return None
