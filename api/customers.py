"""Erasing the personal data of a customer."""

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
    """A customer whose personal data has been erased."""

    customer_id: str
    keys_deleted: int = Field(description="0 if there was no personal data left to erase")


@router.delete("/{customer_id}/personal-data", summary="Erase personal data of a customer")
async def erase_personal_data(customer_id: CustomerId, keys: CustomerKeysDep) -> Erasure:
    """Deletes the customer's key, so that the addresses of all their orders read as erased.

    It takes effect at once and cannot be undone. The orders remain. Repeating it is harmless; later
    orders of the customer get a new key.
    """
    return Erasure(customer_id=customer_id, keys_deleted=await keys.erase(customer_id))
