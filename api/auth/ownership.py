"""The customer of an order, which never changes: from the log, or from Temporal before that."""

from __future__ import annotations

from datetime import timedelta

import asyncpg
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from api.gateway.availability import await_or_unavailable
from api.problems.errors import StorageUnavailable, TemporalUnavailable, UnknownOrder
from eventlog import log
from eventlog.postgres import UNAVAILABLE
from workflows.order import CUSTOMER

DESCRIBE_TIMEOUT = timedelta(seconds=3)


async def customer_of(order_id: str, pool: asyncpg.Pool, client: Client) -> str:
    """The id of the order's customer; raises UnknownOrder if the order does not exist."""
    customer_id = await _customer_in_log(order_id, pool)
    customer_id = customer_id or await _customer_in_temporal(order_id, client)
    if customer_id is None:
        raise UnknownOrder(order_id)
    return customer_id


async def assert_owned_by(
    customer_id: str, order_id: str, pool: asyncpg.Pool, client: Client
) -> None:
    """Raises the same error for another customer's order as for one that does not exist.

    Both take the same path, so that no failure distinguishes them. While the log is unavailable,
    Temporal still knows the customers of running orders.
    """
    is_log_available = True
    try:
        if await _customer_in_log(order_id, pool) == customer_id:
            return
    except UNAVAILABLE:
        is_log_available = False
    if await _customer_in_temporal(order_id, client) == customer_id:
        return
    raise UnknownOrder(order_id) if is_log_available else StorageUnavailable


async def _customer_in_log(order_id: str, pool: asyncpg.Pool) -> str | None:
    first = await log.read_stream(pool, order_id, limit=1)
    customer_id: str | None = first[0].upcast().data["customer_id"] if first else None
    return customer_id


async def _customer_in_temporal(order_id: str, client: Client) -> str | None:
    """What the order's workflow is listed under, which is set before its first event is published.

    Describing a workflow is consistent, unlike listing workflows.
    """
    try:
        call = client.get_workflow_handle(order_id).describe(rpc_timeout=DESCRIBE_TIMEOUT)
        workflow = await await_or_unavailable(client, call)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise TemporalUnavailable from error
    return workflow.typed_search_attributes.get(CUSTOMER)
