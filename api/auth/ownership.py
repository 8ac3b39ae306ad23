"""Whose an order is, which never changes: from the log, or from the engine before it is there."""

from __future__ import annotations

from datetime import timedelta

import asyncpg
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from api.gateway.availability import answered
from api.problems.errors import StorageUnavailable, TemporalUnavailable, UnknownOrder
from eventlog import log
from eventlog.postgres import UNAVAILABLE
from workflows.order import CUSTOMER

ASK_AT_MOST = timedelta(seconds=3)


async def customer_of(order_id: str, pool: asyncpg.Pool, client: Client) -> str:
    """Whose order it is; raises a Problem if nobody knows the order."""
    customer_id = await _published(order_id, pool) or await _running(order_id, client)
    if customer_id is None:
        raise UnknownOrder(order_id)
    return customer_id


async def assert_owned(order_id: str, customer_id: str, pool: asyncpg.Pool, client: Client) -> None:
    """Raises the same Problem for another's order as for one that there is not.

    Both take the same way to it: whatever is away, nothing tells one from the other. With the log
    away, an order that runs is still known by the engine.
    """
    is_log_away = False
    try:
        if await _published(order_id, pool) == customer_id:
            return
    except UNAVAILABLE:
        is_log_away = True
    if await _running(order_id, client) == customer_id:
        return
    raise StorageUnavailable if is_log_away else UnknownOrder(order_id)


async def _published(order_id: str, pool: asyncpg.Pool) -> str | None:
    first = await log.read_stream(pool, order_id, limit=1)
    opener: str | None = first[0].upcast().data["customer_id"] if first else None
    return opener


async def _running(order_id: str, client: Client) -> str | None:
    """What an order's workflow says for certain, before anything of it has been published."""
    try:
        asking = client.get_workflow_handle(order_id).describe(rpc_timeout=ASK_AT_MOST)
        workflow = await answered(client, asking)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise TemporalUnavailable from error
    return workflow.typed_search_attributes.get(CUSTOMER)
