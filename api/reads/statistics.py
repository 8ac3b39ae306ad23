"""Statistics over all orders; each has a read model of its own."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, NamedTuple

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from api.auth.authentication import require_scope
from api.auth.permissions import OPERATE
from api.dependencies import Services, ServicesDep
from api.problems.catalog import MALFORMED_REQUEST
from api.problems.handlers import PROBLEMS
from api.problems.problem import FieldError, Problem
from api.reads.consistency import PreferHeader, TokenQuery, read_consistency
from api.times import Day
from orders.money import Currency
from orders.text import LongName
from readside.engine.projection import Projection
from readside.order_view.status_counts import StatusCount
from readside.statistics import abandoned_drafts, lead_times, order_stats, removed_items
from readside.statistics.abandoned_drafts import DailyDraftStats, IdleDraft
from readside.statistics.lead_times import DailyLeadTimes, PeriodLeadTimes
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


class PeriodQuery(TokenQuery):
    """The days of a statistic."""

    from_: Annotated[
        Day | None, Field(alias="from", description=f"first day; default: {DAYS} days in all")
    ] = None
    until: Annotated[Day | None, Field(description="day after the last; default: tomorrow")] = None

    def period(self) -> Period:
        """The days; raises a Problem if there are none, or too many."""
        end = self.until or datetime.now(UTC).date() + timedelta(days=1)
        first = self.from_ or date.fromordinal(max(end.toordinal() - DAYS, 1))
        if first >= end:
            raise _invalid_period(f"must be before {end}, the value of `until`")
        if (end - first).days > DAYS_MAX:
            earliest = end - timedelta(days=DAYS_MAX)
            raise _invalid_period(f"must be {earliest} or later, as `until` is {end}")
        return Period(first, end - timedelta(days=1))


def _invalid_period(detail: str) -> Problem:
    return Problem(
        MALFORMED_REQUEST,
        f"The first day, `from`, {detail}. A statistic has at most {DAYS_MAX} days.",
        errors=[FieldError(parameter="from", code="not-with-this-until", detail=detail)],
    )


class OrderStatsQuery(PeriodQuery):
    """The days and the currency."""

    currency: Annotated[Currency | None, Field(description="only orders in this currency")] = None


class RemovedItemsQuery(PeriodQuery):
    """The days and the SKUs."""

    sku: Annotated[LongName | None, Field(description="only this SKU")] = None
    limit: Annotated[int, Field(ge=1, le=100, description="number of SKUs")] = 25


class AbandonedDraftsQuery(PeriodQuery):
    """The days, and how many open drafts to list."""

    limit: Annotated[int, Field(ge=0, le=100, description="entries of `longest_idle`")] = 25


class OrderStats(BaseModel):
    """Statistics by day and currency, without days that have none."""

    items: list[DailyOrderStats]


class RemovedItems(BaseModel):
    """Removals by SKU, the most removed pieces first."""

    items: list[RemovedItem]


class AbandonedDrafts(BaseModel):
    """Drafts by day, without days that have none; and the open drafts that are idle longest."""

    items: list[DailyDraftStats]
    open: int
    longest_idle: list[IdleDraft]


class LeadTimes(BaseModel):
    """Lead times by the day of placing, without days that have none; and of all these days."""

    items: list[DailyLeadTimes]
    period: PeriodLeadTimes


class OrderStatuses(BaseModel):
    """How many orders have each status, counted within the last minute."""

    counted_at: datetime
    items: list[StatusCount]


@router.get("/orders", summary="Daily order statistics", response_model=OrderStats)
async def get_order_stats(
    request: Request,
    services: ServicesDep,
    query: Annotated[OrderStatsQuery, Query()],
    prefer: PreferHeader = None,
) -> Response:
    """How many orders reached each stage on a day, and the amounts."""
    days, headers = await _prepare(request, services, order_stats.PROJECTION, query, prefer)
    items = await order_stats.by_day(services.pool, *days, query.currency)
    return _json_response(OrderStats(items=items), headers)


@router.get("/removed-items", summary="Items removed from drafts", response_model=RemovedItems)
async def get_removed_items(
    request: Request,
    services: ServicesDep,
    query: Annotated[RemovedItemsQuery, Query()],
    prefer: PreferHeader = None,
) -> Response:
    """The SKUs that were removed from drafts most often before the order was placed."""
    days, headers = await _prepare(request, services, removed_items.PROJECTION, query, prefer)
    items = await removed_items.most_removed(services.pool, *days, query.sku, query.limit)
    return _json_response(RemovedItems(items=items), headers)


@router.get("/abandoned-drafts", summary="Abandoned drafts", response_model=AbandonedDrafts)
async def get_abandoned_drafts(
    request: Request,
    services: ServicesDep,
    query: Annotated[AbandonedDraftsQuery, Query()],
    prefer: PreferHeader = None,
) -> Response:
    """Drafts that expired or were cancelled, by day; and the open ones that are idle longest."""
    days, headers = await _prepare(request, services, abandoned_drafts.PROJECTION, query, prefer)
    pool = services.pool
    drafts = AbandonedDrafts(
        items=await abandoned_drafts.by_day(pool, *days),
        open=await abandoned_drafts.count_open(pool),
        longest_idle=await abandoned_drafts.longest_idle(pool, query.limit),
    )
    return _json_response(drafts, headers)


@router.get("/lead-times", summary="Lead times", response_model=LeadTimes)
async def get_lead_times(
    request: Request,
    services: ServicesDep,
    query: Annotated[PeriodQuery, Query()],
    prefer: PreferHeader = None,
) -> Response:
    """How long the orders placed on a day took to ship, to arrive, and to be completed."""
    days, headers = await _prepare(request, services, lead_times.PROJECTION, query, prefer)
    found = LeadTimes(
        items=await lead_times.by_day(services.pool, *days),
        period=await lead_times.of_period(services.pool, *days),
    )
    return _json_response(found, headers)


@router.get("/statuses", summary="Orders by status", response_model=OrderStatuses)
async def get_order_statuses(services: ServicesDep) -> Response:
    """How many orders have each status now.

    All orders are counted at most once in a minute; `counted_at` says when.
    """
    counted_at, items = await services.status_counts.read()
    body = OrderStatuses(counted_at=counted_at, items=items)
    return _json_response(body, {"Cache-Control": "no-store"})


async def _prepare(
    request: Request,
    services: Services,
    projection: Projection,
    query: PeriodQuery,
    prefer: str | None,
) -> tuple[Period, dict[str, str]]:
    """Waits until the read model is consistent; returns the days, and its freshness as headers."""
    consistency = await read_consistency(request, services, projection.name, query, prefer)
    days = query.period()
    await consistency.wait()
    return days, consistency.headers()


def _json_response(body: BaseModel, headers: dict[str, str]) -> Response:
    return Response(body.model_dump_json(), headers=headers, media_type="application/json")
