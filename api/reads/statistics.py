"""What the history of all orders answers; each question has a read model of its own."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel

from api.auth.authentication import require_scope
from api.auth.permissions import OPERATE
from api.dependencies import PoolDep
from api.problems.catalog import MALFORMED_REQUEST
from api.problems.handlers import PROBLEMS
from api.problems.problem import FieldError, Problem
from api.reads.consistency import ReadConsistency, recency_of
from api.reads.query_params import Day
from orders.money import Currency
from orders.text import LongName
from readside.statistics import abandoned_drafts, lead_times, order_stats, removed_items
from readside.statistics.abandoned_drafts import DailyDraftStats, IdleDraft
from readside.statistics.lead_times import DailyLeadTimes
from readside.statistics.order_stats import DailyOrderStats
from readside.statistics.removed_items import RemovedItem

router = APIRouter(
    prefix="/v1/stats", tags=["Statistics"], responses=PROBLEMS, route_class=require_scope(OPERATE)
)

DAYS = 30
DAYS_MAX = 366


class Period(NamedTuple):
    """Days in UTC, both included."""

    first: date
    last: date


async def period(
    from_: Annotated[
        Day | None, Query(alias="from", description=f"first day; default: {DAYS} days in all")
    ] = None,
    until: Annotated[Day | None, Query(description="day after the last; default: tomorrow")] = None,
) -> Period:
    """Reads the days that are asked for; raises a Problem if there are none, or too many."""
    end = until or datetime.now(UTC).date() + timedelta(days=1)
    first = from_ or date.fromordinal(max(end.toordinal() - DAYS, 1))
    if first >= end:
        raise _unserved(f"must be before {end}, the value of `until`")
    if (end - first).days > DAYS_MAX:
        earliest = end - timedelta(days=DAYS_MAX)
        raise _unserved(f"must be {earliest} or later, as `until` is {end}")
    return Period(first, end - timedelta(days=1))


def _unserved(detail: str) -> Problem:
    return Problem(
        MALFORMED_REQUEST,
        f"The first day, `from`, {detail}. At most {DAYS_MAX} days can be asked for at once.",
        errors=[FieldError(parameter="from", code="not-with-this-until", detail=detail)],
    )


InPeriod = Annotated[Period, Depends(period)]


class OrderStats(BaseModel):
    """By day and currency, the days without any left out."""

    items: list[DailyOrderStats]


class RemovedItems(BaseModel):
    """By SKU, those of which most was taken out first."""

    items: list[RemovedItem]


class AbandonedDrafts(BaseModel):
    """By day, those without any left out; and the drafts of now, the longest untouched first."""

    items: list[DailyDraftStats]
    open: int
    longest_idle: list[IdleDraft]


class LeadTimes(BaseModel):
    """By day of placing, the days without any left out."""

    items: list[DailyLeadTimes]


@router.get("/orders", summary="What happened to orders, day by day", response_model=OrderStats)
async def get_order_stats(
    pool: PoolDep,
    days: InPeriod,
    recency: Annotated[ReadConsistency, Depends(recency_of(order_stats.PROJECTION.name))],
    currency: Annotated[Currency | None, Query(description="only orders in this one")] = None,
) -> Response:
    """How many orders went through each stage of their lives on a day, and the money of it."""
    await recency.reach(pool)
    items = await order_stats.by_day(pool, *days, currency)
    return _json(OrderStats(items=items), recency)


@router.get("/removed-items", summary="What was taken out of drafts", response_model=RemovedItems)
async def get_removed_items(
    pool: PoolDep,
    days: InPeriod,
    recency: Annotated[ReadConsistency, Depends(recency_of(removed_items.PROJECTION.name))],
    sku: Annotated[LongName | None, Query(description="only this one")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 25,
) -> Response:
    """The SKUs that were put into drafts and most often taken out again before placing."""
    await recency.reach(pool)
    items = await removed_items.most_removed(pool, *days, sku, limit)
    return _json(RemovedItems(items=items), recency)


@router.get(
    "/abandoned-drafts", summary="Drafts that came to nothing", response_model=AbandonedDrafts
)
async def get_abandoned_drafts(
    pool: PoolDep,
    days: InPeriod,
    recency: Annotated[ReadConsistency, Depends(recency_of(abandoned_drafts.PROJECTION.name))],
    limit: Annotated[int, Query(ge=0, le=100, description="of `longest_idle`")] = 25,
) -> Response:
    """Drafts that expired or were cancelled, by day; and how long those of now lie untouched."""
    await recency.reach(pool)
    found = AbandonedDrafts(
        items=await abandoned_drafts.by_day(pool, *days),
        open=await abandoned_drafts.count_open(pool),
        longest_idle=await abandoned_drafts.longest_idle(pool, limit),
    )
    return _json(found, recency)


@router.get("/lead-times", summary="From placing to the parcel", response_model=LeadTimes)
async def get_lead_times(
    pool: PoolDep,
    days: InPeriod,
    recency: Annotated[ReadConsistency, Depends(recency_of(lead_times.PROJECTION.name))],
) -> Response:
    """How long orders that were placed on a day waited for their first parcel."""
    await recency.reach(pool)
    return _json(LeadTimes(items=await lead_times.by_day(pool, *days)), recency)


def _json(body: BaseModel, recency: ReadConsistency) -> Response:
    headers = recency.headers()
    return Response(body.model_dump_json(), headers=headers, media_type="application/json")
