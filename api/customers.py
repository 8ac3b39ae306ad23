"""Customers, as far as orders know them: how one is forgotten."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from api.auth.authentication import require_scope
from api.auth.permissions import OPERATE
from api.problems.handlers import PROBLEMS
from orders.commands import Id
from privacy.keys import CustomerKeys

router = APIRouter(
    prefix="/v1/customers",
    tags=["customers"],
    responses=PROBLEMS,
    route_class=require_scope(OPERATE),
)


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
