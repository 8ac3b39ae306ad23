"""Compares the state that a running order decides on with the fold of its events."""

from __future__ import annotations

from datetime import timedelta

from temporalio.client import Client, WorkflowQueryFailedError, WorkflowQueryRejectedError
from temporalio.common import QueryRejectCondition
from temporalio.service import RPCError, RPCStatusCode

from eventlog import log
from eventlog.postgres import Reader
from orders.evolve import fold
from orders.upcasting import UnreadableEvent
from workflows.order import OrderWorkflow
from workflows.snapshot import differences, digest, fingerprint

QUERY_TIMEOUT = timedelta(seconds=10)


class OtherVersion(Exception):
    """The order runs in another version, whose own `orderly verify --state` compares it."""


async def state_differences(client: Client, reader: Reader, order_id: str) -> list[str] | None:
    """What differs, as sentences; None if the order does not run. Raises OtherVersion.

    The log is read after each query: then it has all that is published according to the order.
    """
    handle = client.get_workflow_handle_for(OrderWorkflow.run, order_id)
    try:
        state = await handle.query(
            OrderWorkflow.state,
            rpc_timeout=QUERY_TIMEOUT,
            reject_condition=QueryRejectCondition.NOT_OPEN,
        )
        if state.made_by != fingerprint():
            raise OtherVersion
        stream = await log.read_order(reader, order_id, after=0)
        known = [event for event in stream if event.version <= state.version]
        if len(known) == state.version and digest(fold(e.event() for e in known)) == state.digest:
            return []
        snapshot = await handle.query(OrderWorkflow.snapshot, rpc_timeout=QUERY_TIMEOUT)
        if not snapshot.is_own:
            raise OtherVersion
        version = snapshot.order.version
        stream = await log.read_order(reader, order_id, after=0)
        events = {event.version: event.event() for event in stream if event.version <= version}
        events |= {event.version: event.event() for event in snapshot.unpublished}
    except WorkflowQueryRejectedError:
        return None
    except WorkflowQueryFailedError as error:
        return [f"its state cannot be read: {error.message}"]
    except UnreadableEvent as error:
        return [f"its events cannot be folded: {error}"]
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        return [f"its state cannot be read, as no worker answers: {error.message}"]
    if missing := [each for each in range(1, version + 1) if each not in events]:
        return [f"it is at version {version}, and the log lacks {missing[0]}"]
    folded = fold(events[each] for each in range(1, version + 1))
    return [
        f"{name} of its state is not what its events say"
        for name in differences(snapshot.order, folded)
    ]
