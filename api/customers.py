"""Customers, as far as orders know them: whose an order is, and how one is forgotten."""

from __future__ import annotations

from datetime import timedelta

import asyncpg
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from api.errors import engine_unavailable, unknown_order
from api.problems import PROBLEMS
from eventlog import log
from orders.commands import Id
from privacy.keys import CustomerKeys
from workflows.order import CUSTOMER

router = APIRouter(prefix="/v1/customers", tags=["customers"], responses=PROBLEMS)

ASK_AT_MOST = timedelta(seconds=3)


class Forgotten(BaseModel):
    """A customer whose personal data nobody can read any more, wherever it is kept."""

    customer_id: str
    keys_deleted: int = Field(description="0 if there was nothing to forget, or not any more")


@router.delete("/{customer_id}/personal-data", summary="Forget a customer")
async def forget_customer(request: Request, customer_id: Id) -> Forgotten:
    """Deletes the customer's key: names and addresses in all of their orders read as erased.

    At once, everywhere and for ever. The orders themselves stay as they are. Repeating it is
    harmless; an order that comes later begins anew under another key.
    """
    keys: CustomerKeys = request.app.state.keys
    return Forgotten(customer_id=customer_id, keys_deleted=await keys.erase(customer_id))


async def customer_of(order_id: str, pool: asyncpg.Pool, client: Client) -> str:
    """Whose order it is, which never changes; raises a Problem if nobody knows the order."""
    first = await log.read_stream(pool, order_id, limit=1)
    if first:
        customer_id: str = first[0].as_of_today().data["customer_id"]
        return customer_id
    # Nothing of it has been published yet: then its workflow runs, and says so for certain.
    try:
        workflow = await client.get_workflow_handle(order_id).describe(rpc_timeout=ASK_AT_MOST)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise unknown_order(order_id) from error
        raise engine_unavailable() from error
    opener = workflow.typed_search_attributes.get(CUSTOMER)
    if opener is None:
        raise unknown_order(order_id)
    return opener
