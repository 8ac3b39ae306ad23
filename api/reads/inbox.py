"""The inbox: everything that waits for a person, grouped by its cause."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from typing_extensions import TypeAliasType

from api.auth.authentication import require_scope
from api.auth.permissions import OPERATE
from api.dependencies import ServicesDep
from api.problems.handlers import PROBLEMS
from api.reads.consistency import PreferHeader, TokenQuery, read_consistency
from api.reads.projections import ParkedOrder, parked_orders
from readside.order_view.document import Attention, Deadline, OrderDocument, OrderStatus, StepType
from readside.order_view.inbox import DEADLINE_WITHIN, waiting_orders
from readside.order_view.projection import PROJECTION
from readside.order_view.row import OrderRow, shown_document

router = APIRouter(
    prefix="/v1/inbox", tags=["Operations"], responses=PROBLEMS, route_class=require_scope(OPERATE)
)

# The most urgent first; kinds that are not here are discrepancies.
_KINDS = (
    *("unpaid", "chargeback", "stuck-step", "orphaned", "discrepancy"),
    *("awaits-payment", "awaits-shortfall", "held", "deadline"),
)
if TYPE_CHECKING:  # A type checker cannot follow literals that are made at runtime.
    InboxKind = str
else:
    InboxKind = TypeAliasType("InboxKind", Literal[_KINDS])
_OWN_AMOUNTS = frozenset({"chargeback", "discrepancy"})
_ENDS_SOON = "its authorisation ends before it has shipped"
_COMMANDS = {
    "unpaid": "retry-payment",
    "stuck-step": "retry-step",
    "discrepancy": "resolve-discrepancy",
    "awaits-payment": "retry-payment",
    "awaits-shortfall": "accept-shortfall",
    "held": "release-order",
}


class InboxQuery(TokenQuery):
    """How much of the inbox."""

    limit: Annotated[int, Field(ge=1, le=500, description="orders of each kind of wait")] = 200


class InboxItem(BaseModel):
    """One thing that waits for a person, of one order."""

    order_id: str
    version: int
    status: OrderStatus
    customer_id: str
    external_reference: str | None
    currency: str
    total: int
    amount: int = Field(description="what is at stake, in minor units: of all else, the total")
    reason: str | None = Field(description="why it waits, in words")
    remedy: str | None = Field(description="what to do, in words")
    command: str | None = Field(description="the command that settles it, if there is one")
    step_id: str | None
    step_type: StepType | None
    discrepancy_id: str | None
    since: datetime | None = Field(description="null where no event says so")
    deadline: Deadline | None


class CurrencyAmount(BaseModel):
    """An amount in minor units of a currency."""

    currency: str
    amount: int


class InboxGroup(BaseModel):
    """What waits for the same cause, the oldest first."""

    kind: InboxKind = Field(description="what kind of wait it is")
    cause: str = Field(description="in words")
    orders: int
    since: datetime | None
    amounts: list[CurrencyAmount]
    items: list[InboxItem]


class Inbox(BaseModel):
    """Everything that waits for a person: the most urgent groups first."""

    orders: int
    since: datetime | None = Field(description="of what waits longest")
    is_complete: bool = Field(description="false: there may be more than `limit` of a kind")
    groups: list[InboxGroup]
    parked_orders: list[ParkedOrder]


@router.get("", summary="Get the inbox", response_model=Inbox)
async def get_inbox(
    request: Request,
    services: ServicesDep,
    query: Annotated[InboxQuery, Query()],
    prefer: PreferHeader = None,
) -> Response:
    """Stuck steps, unpaid and disputed money, discrepancies, holds, customers' decisions.

    Also orders whose deadline is within 24 hours, and parked orders: what waits for a person, since
    when, and how much money is at stake, grouped by cause.
    """
    consistency = await read_consistency(request, services, PROJECTION.name, query, prefer)
    await consistency.wait()
    rows = await waiting_orders(services.pool, query.limit)
    groups = grouped(rows, datetime.now(UTC))
    inbox = Inbox(
        orders=len({item.order_id for group in groups for item in group.items}),
        since=min((group.since for group in groups if group.since), default=None),
        is_complete=len(rows) < query.limit,
        groups=groups,
        parked_orders=await parked_orders(services.pool),
    )
    headers = {"Cache-Control": "no-store", **consistency.headers()}
    return Response(inbox.model_dump_json(), headers=headers, media_type="application/json")


def grouped(rows: Iterable[OrderRow], now: datetime) -> list[InboxGroup]:
    """What waits of these orders, by cause: the most urgent kinds first, of each the oldest."""
    by_cause: defaultdict[tuple[str, str], list[InboxItem]] = defaultdict(list)
    for row in rows:
        order = OrderDocument.model_validate_json(shown_document(row))
        for kind, cause, item in _waits(order, now):
            by_cause[kind, cause].append(item)
    groups = [_group(kind, cause, items) for (kind, cause), items in by_cause.items()]
    return sorted(groups, key=lambda group: (_KINDS.index(group.kind), _age(group), group.cause))


def _group(kind: str, cause: str, items: list[InboxItem]) -> InboxGroup:
    amounts: defaultdict[str, int] = defaultdict(int)
    # An order with two stuck steps is at stake once; its chargebacks are amounts of their own.
    by_order = {item.order_id: item for item in items}
    for item in items if kind in _OWN_AMOUNTS else by_order.values():
        amounts[item.currency] += item.amount
    items.sort(key=lambda item: (_age(item), item.order_id))
    return InboxGroup(
        kind=kind,
        cause=cause,
        orders=len({item.order_id for item in items}),
        since=items[0].since,
        amounts=[CurrencyAmount(currency=key, amount=n) for key, n in sorted(amounts.items())],
        items=items,
    )


def _age(of: InboxItem | InboxGroup) -> datetime:
    """Since when it waits; what is not known to wait since any time is the last."""
    return of.since or datetime.max.replace(tzinfo=UTC)


def _waits(order: OrderDocument, now: datetime) -> Iterator[tuple[str, str, InboxItem]]:
    """What waits for a person: its kind, its cause, and the rest."""
    for one in order.needs_attention:
        kind = one.kind if one.kind in _KINDS else "discrepancy"
        yield kind, one.kind if kind == "discrepancy" else _cause(one), _settled(order, kind, one)
    if order.held_since is not None:
        held = _item(order, "held", order.hold_reason, order.held_since)
        yield "held", order.hold_reason or "no reason was given", held
    if order.awaits is not None:
        kind, pieces = f"awaits-{order.awaits}", sum(line.quantity for line in order.missing)
        missing = f"{pieces} piece{'s' * (pieces != 1)} missing"
        reason = missing if order.awaits == "shortfall" else order.payment.decline_reason
        waiting = _item(order, kind, reason, order.awaits_since)
        yield kind, reason or "the customer has to decide", waiting
    deadline = order.deadline
    if deadline and deadline.name == "capture" and deadline.at < now + DEADLINE_WITHIN:
        # The other deadlines end a decision of the customer, or a time to return.
        yield "deadline", _ENDS_SOON, _item(order, "deadline", _ENDS_SOON, None)


def _cause(attention: Attention) -> str:
    """What the group has in common; the reason of a chargeback is of one order."""
    is_chargeback = attention.kind == "chargeback"
    return "the customer's bank took money back" if is_chargeback else attention.reason


def _settled(order: OrderDocument, kind: str, one: Attention) -> InboxItem:
    item = _item(order, kind, one.reason, one.since)
    return item.model_copy(
        update={
            "amount": order.total if one.amount is None else one.amount,
            "remedy": one.remedy,
            "step_id": one.step_id,
            "step_type": one.type,
            "discrepancy_id": one.discrepancy_id,
        }
    )


def _item(order: OrderDocument, kind: str, reason: str | None, since: datetime | None) -> InboxItem:
    return InboxItem(
        order_id=order.order_id,
        version=order.version,
        status=order.status,
        customer_id=order.customer_id,
        external_reference=order.external_reference,
        currency=order.currency,
        total=order.total,
        amount=order.total,
        reason=reason,
        remedy=None,
        command=_COMMANDS.get(kind),
        step_id=None,
        step_type=None,
        discrepancy_id=None,
        since=since,
        deadline=order.deadline,
    )
