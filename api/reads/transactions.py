"""What the payment service has done with an order's money."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from typing_extensions import TypeAliasType

from api.auth.authentication import require_scope
from api.auth.permissions import READ
from api.dependencies import ServicesDep
from api.problems.errors import UnknownOrder
from api.problems.handlers import PROBLEMS
from api.reads.consistency import ConsistencyQuery, PreferZoneHeader, read_consistency
from api.times import zone_of
from eventlog import log
from orders.text import Id
from readside.order_view.projection import PROJECTION
from readside.order_view.sentences import sentences, words_after
from readside.order_view.transactions import REQUESTS, TYPES, TransactionType, transactions
from readside.order_view.words import Words

router = APIRouter(
    prefix="/v1/orders", tags=["Payments"], responses=PROBLEMS, route_class=require_scope(READ)
)

if TYPE_CHECKING:  # A name of its own in the OpenAPI document.
    PaymentTransactionType = str
else:
    PaymentTransactionType = TypeAliasType("PaymentTransactionType", TransactionType)


class PaymentTransaction(BaseModel):
    """One thing that the payment service did with the order's money, or refused to do."""

    version: int = Field(description="the number of its event in the order")
    at: datetime
    type: PaymentTransactionType
    amount: int | None = Field(
        description="in minor units; null for a void, which is of all that is left"
    )
    authorisation_id: str
    reference: str | None = Field(
        description="the payment service's own, of the authorisation; null if it declined it"
    )
    step_id: str | None = Field(description="the step that asked for it; null if none did")
    idempotency_key: str | None = Field(
        description="of the call to the payment service; null if it was not asked for it"
    )
    sentence: str = Field(description="in words, in English, for people")


class PaymentTransactionList(BaseModel):
    """All of an order's transactions, the oldest first; `next` is null."""

    currency: str
    items: list[PaymentTransaction]
    next: None = None


@router.get(
    "/{order_id}/transactions",
    summary="List payment transactions",
    response_model=PaymentTransactionList,
)
async def list_transactions(
    request: Request,
    order_id: Id,
    services: ServicesDep,
    query: Annotated[ConsistencyQuery, Query()],
    prefer: PreferZoneHeader = None,
) -> Response:
    """What was authorised, captured, voided, refunded or taken back, with references and times."""
    consistency = await read_consistency(request, services, PROJECTION.name, query, prefer)
    await consistency.wait()
    types = ["order-opened", *REQUESTS, *TYPES]  # The first one has the currency.
    stream = await log.read_order(services.pool, order_id, 0, types)
    if not stream:
        raise UnknownOrder(order_id)
    said = dict(
        zip(
            (event.version for event in stream),
            sentences(stream, Words(zone=zone_of(prefer))),
            strict=True,
        )
    )
    body = PaymentTransactionList(
        currency=words_after(stream[:1], Words()).currency,
        items=[
            PaymentTransaction(
                **each._asdict(),
                idempotency_key=each.step_id and f"{order_id}:{each.step_id}",
                sentence=said[each.version],
            )
            for each in transactions(stream)
        ],
    )
    return Response(
        body.model_dump_json(), headers=consistency.headers(), media_type="application/json"
    )
