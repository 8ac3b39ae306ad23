"""The external services: what waits for each, what they answered, and which callbacks came."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from api.auth.authentication import require_scope
from api.auth.permissions import OPERATE
from api.dependencies import ServicesDep
from api.id_cursor import decode_cursor, encode_cursor
from api.problems.handlers import PROBLEMS
from api.reads.consistency import PreferHeader, read_consistency
from api.reads.statistics import PeriodQuery
from eventlog import callback_log
from eventlog.callback_log import CallbackFilter, RecordedCallback
from orders.steps import SERVICE_OF_STEP, SERVICES, Service
from orders.text import Id
from readside.order_view.stuck_steps import count_waiting_orders
from readside.statistics import service_results
from readside.statistics.service_results import DailyResults, ServiceFailure

router = APIRouter(
    prefix="/v1", tags=["Operations"], responses=PROBLEMS, route_class=require_scope(OPERATE)
)

CallbackOutcome = Literal["accepted", "recorded", "rejected", "ignored", "refused"]


class ExternalService(BaseModel):
    """What waits for a service, and what it answered."""

    name: str
    stuck_orders: int = Field(
        description="orders that wait for it, as a step failed; 5,000 at most"
    )
    late_orders: int = Field(description="orders whose step has had no result for some seconds")
    days: list[DailyResults] = Field(description="results by day, without days that have none")
    last_failures: list[ServiceFailure] = Field(description="of different orders, the newest first")


class ExternalServices(BaseModel):
    """Payments, stock and shipping."""

    items: list[ExternalService]


class ReceivedCallback(BaseModel):
    """A callback, and what became of it."""

    callback_id: str
    received_at: datetime
    service: str
    message_id: str | None = Field(description="`webhook-id`; null: its signature was not valid")
    type: str | None
    order_id: str | None
    outcome: str = Field(
        description="`accepted`; `recorded`: it contradicts the order, which shows it to a person;"
        " `rejected` by the order; `ignored`: a type that orders do not need; `refused`: it got an"
        " error, and may come again"
    )
    code: str | None = Field(description="of the problem, if it was rejected or refused")


class ReceivedCallbackList(BaseModel):
    """A page of callbacks; `next` is the cursor of the page that follows, and null at the end."""

    items: list[ReceivedCallback]
    next: str | None


@router.get("/services", summary="Get the external services", response_model=ExternalServices)
async def get_services(
    request: Request,
    services: ServicesDep,
    query: Annotated[PeriodQuery, Query()],
    prefer: PreferHeader = None,
) -> Response:
    """By service: the orders that wait for it, the results of steps by day, the last failures."""
    projection = service_results.PROJECTION.name
    consistency = await read_consistency(request, services, projection, query, prefer)
    days = query.period()
    await consistency.wait()
    waiting = await count_waiting_orders(services.pool, SERVICE_OF_STEP)
    results = await service_results.by_day(services.pool, *days)
    failures = await service_results.last_failures(services.pool)
    found = ExternalServices(
        items=[
            ExternalService(
                name=name,
                stuck_orders=waiting[name].stuck,
                late_orders=waiting[name].late,
                days=results[name],
                last_failures=failures[name],
            )
            for name in SERVICES
        ]
    )
    headers = {"Cache-Control": "no-store", **consistency.headers()}
    return Response(found.model_dump_json(), headers=headers, media_type="application/json")


@router.get("/callbacks", summary="List received callbacks")
async def list_callbacks(
    services: ServicesDep,
    service: Annotated[Service | None, Query(description="only of this service")] = None,
    outcome: Annotated[CallbackOutcome | None, Query(description="only these")] = None,
    order_id: Annotated[Id | None, Query(description="only those that name this order")] = None,
    cursor: Annotated[str | None, Query(description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="callbacks per page")] = 25,
) -> ReceivedCallbackList:
    """The callbacks of the last 30 days, at most a million, the newest first.

    They appear within a second. What they said is in the events of the order.
    """
    before = decode_cursor(cursor) if cursor else None
    filter = CallbackFilter(service, outcome, order_id)
    found = await callback_log.find_page(services.pool, filter, before, limit + 1)
    items, has_more = found[:limit], len(found) > limit
    return ReceivedCallbackList(
        items=[_shown(one) for one in items],
        next=encode_cursor(items[-1].callback_id) if has_more else None,
    )


def _shown(callback: RecordedCallback) -> ReceivedCallback:
    return ReceivedCallback(
        callback_id=str(callback.callback_id),
        received_at=callback.received_at,
        service=callback.service,
        message_id=callback.message_id,
        type=callback.type,
        order_id=callback.order_id,
        outcome=callback.outcome,
        code=callback.code,
    )
