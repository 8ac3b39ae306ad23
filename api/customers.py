"""Customers, as far as orders know them: how one is forgotten."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.auth.authentication import require_scope
from api.auth.permissions import OPERATE
from api.dependencies import CustomerKeysDep
from api.problems.handlers import PROBLEMS
from orders.text import CustomerId

router = APIRouter(
    prefix="/v1/customers",
    tags=["Customers"],
    responses=PROBLEMS,
    route_class=require_scope(OPERATE),
)


class Erasure(BaseModel):
    """A customer whose personal data nobody can read any more, wherever it is kept."""

    customer_id: str
    keys_deleted: int = Field(description="0 if there was nothing to forget, or not any more")


@router.delete("/{customer_id}/personal-data", summary="Forget a customer")
async def erase_personal_data(customer_id: CustomerId, keys: CustomerKeysDep) -> Erasure:
    """Deletes the customer's key: names and addresses in all of their orders read as erased.

    At once, everywhere and for ever. The orders themselves stay as they are. Repeating it is
    harmless; an order that comes later begins anew under another key.
    """
    return Erasure(customer_id=customer_id, keys_deleted=await keys.erase(customer_id))
