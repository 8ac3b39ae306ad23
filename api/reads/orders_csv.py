"""The list of orders as CSV, for spreadsheets: the same orders as by page, in one response."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Annotated

import asyncpg
from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import Field

from api.auth.authentication import require_scope
from api.auth.permissions import READ
from api.dependencies import ServicesDep
from api.problems.handlers import PROBLEMS
from api.reads.consistency import PreferHeader, read_consistency
from api.reads.orders import OrderSelectionQuery, Selection
from orders.money import format_amount
from readside.order_view.list_query import Position
from readside.order_view.projection import PROJECTION
from readside.order_view.queries import OrderSummary, find_summaries

router = APIRouter(
    prefix="/v1", tags=["Orders"], responses=PROBLEMS, route_class=require_scope(READ)
)

CSV = "text/csv"
ROWS_MAX = 10_000
PAGE = 500
_HEADER = (
    *("order_id", "external_reference", "customer_id", "status", "payment_status"),
    *("fulfilment_status", "return_status", "needs_attention", "currency", "total"),
    *("opened_at", "placed_at", "updated_at"),
)
# A spreadsheet would compute what begins with one of these.
_FORMULA = tuple("=+-@\t\r")


class OrdersCsvQuery(OrderSelectionQuery):
    """The filters, the sort and the number of orders."""

    limit: Annotated[int, Field(ge=1, le=ROWS_MAX, description="orders")] = ROWS_MAX


@router.get(
    "/orders.csv",
    summary="List orders as CSV",
    response_class=StreamingResponse,
    response_description="A line of names, and a line for each order",
    responses={200: {"content": {CSV: {"schema": {"type": "string"}}}}},
)
async def list_orders_as_csv(
    request: Request,
    services: ServicesDep,
    query: Annotated[OrdersCsvQuery, Query()],
    prefer: PreferHeader = None,
) -> StreamingResponse:
    """Orders that match all filters, at most 10,000: those of the list, in the same order.

    Totals are decimals, such as 19.17, and times are in UTC. A reference or a customer id that a
    spreadsheet would take for a formula has an apostrophe before it.
    """
    consistency = await read_consistency(request, services, PROJECTION.name, query, prefer)
    selection = query.selection(request)
    await consistency.wait()
    pages = _pages(services.pool, selection, query.limit)
    first = await anext(pages)  # So that a failure is a problem document.
    headers = {
        "Cache-Control": "no-store",
        "Content-Disposition": 'attachment; filename="orders.csv"',
        **consistency.headers(),
    }
    return StreamingResponse(_lines(first, pages), headers=headers, media_type=CSV)


async def _pages(
    pool: asyncpg.Pool, selection: Selection, limit: int
) -> AsyncIterator[list[OrderSummary]]:
    """The orders page by page; the first page may be empty."""
    after: Position | None = None
    while True:
        size = min(PAGE, limit)
        found = await find_summaries(pool, selection.page(after, size))
        yield found
        limit -= len(found)
        if len(found) < size or limit == 0:
            return
        after = found[-1].position


async def _lines(
    first: list[OrderSummary], others: AsyncIterator[list[OrderSummary]]
) -> AsyncIterator[str]:
    yield _text([_HEADER, *map(_row, first)])
    async for page in others:
        if page:
            yield _text(map(_row, page))


def _text(rows: Iterable[Sequence[object]]) -> str:
    """Lines as in RFC 4180."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _row(order: OrderSummary) -> Sequence[object]:
    times = (order.opened_at, order.placed_at, order.updated_at)
    return (
        order.order_id,
        _cell(order.external_reference or ""),
        _cell(order.customer_id),
        order.status,
        order.payment_status,
        order.fulfilment_status,
        order.return_status,
        "yes" if order.needs_attention else "no",
        order.currency,
        _decimal(order.total, order.currency),
        *(at.isoformat(timespec="seconds").replace("+00:00", "Z") if at else "" for at in times),
    )


def _decimal(amount: int, currency: str) -> str:
    return format_amount(amount, currency).removesuffix(f" {currency}").replace(",", "")


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
