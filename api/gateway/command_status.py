"""What became of a posted batch, by whoever can say: its order, the log, or its history."""

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

ASK_AT_MOST = timedelta(seconds=2)


async def outcome(
    client: Client, pool: asyncpg.Pool, order_id: str, command_id: str
) -> CommandStatus | None:
    """What became of it; None if nobody posted it, or it is long forgotten.

    The order knows best. The log has what it has forgotten, or what it was before it ended. What
    still waits for the order, or for any worker at all, is in its history. Raises a Problem if the
    one that may know cannot be asked.
    """
    for _ in range(2):  # It may be heard just between our question and our look at the history.
        is_asked, known = await _told(client, order_id, command_id)
        known = known or await _published(pool, order_id, command_id)
        known = known or await _waiting(client, order_id, command_id, unheard=is_asked)
        if known is not None or not is_asked:
            return known
    return None


async def _told(
    client: Client, order_id: str, command_id: str
) -> tuple[bool, CommandStatus | None]:
    """Whether the order could be asked, and what it said; nothing, if it does not run."""
    handle = client.get_workflow_handle_for(OrderWorkflow.run, order_id)
    try:
        known = await handle.query(
            OrderWorkflow.command_status, command_id, rpc_timeout=ASK_AT_MOST
        )
    except RPCError as error:
        return error.status is RPCStatusCode.NOT_FOUND, None
    except (WorkflowQueryFailedError, RuntimeError):  # The latter without any connection yet.
        return False, None
    return True, known


async def _published(pool: asyncpg.Pool, order_id: str, command_id: str) -> CommandStatus | None:
    try:
        version = await log.version_of_command(pool, order_id, command_id)
        if version is None:
            return None
        stream = await log.read_stream(pool, order_id, limit=version)
    except UNAVAILABLE as error:
        raise StorageUnavailable from error
    _, results = idempotency.from_stream(stream)
    return CommandStatus(result=results[command_id].result)


async def _waiting(
    client: Client, order_id: str, command_id: str, *, unheard: bool
) -> CommandStatus | None:
    try:
        async for run in history.runs_of(client, order_id):
            # The newest run was told of the older ones, and has all that is not yet taken in.
            return await history.command_status(
                run, client.data_converter, command_id, unprocessed_only=unheard
            )
    except (RPCError, RuntimeError) as error:
        raise TemporalUnavailable from error
    return None
