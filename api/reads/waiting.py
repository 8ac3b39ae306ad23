"""What an order waits for, in words."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field
from temporalio.service import RPCError

from api.auth.authentication import require_scope
from api.auth.permissions import READ
from api.dependencies import Services, ServicesDep
from api.problems.errors import UnknownOrder
from api.problems.handlers import PROBLEMS
from api.reads.consistency import ConsistencyQuery, PreferZoneHeader, read_consistency
from api.times import zone_of
from background import within
from orders.steps import SERVICE_OF_STEP, Service
from orders.text import Id
from readside.order_view.document import OrderDocument, PendingStep, StepType
from readside.order_view.explanation import Urgency, explain
from readside.order_view.projection import PROJECTION
from readside.order_view.row import shown_document
from readside.order_view.waiting_words import waits
from readside.order_view.words import Words
from workflows.step_attempts import Attempts, read_attempts

log = logging.getLogger("orderly.api")

ATTEMPTS_SECONDS_MAX = 1.0

router = APIRouter(
    prefix="/v1/orders", tags=["Orders"], responses=PROBLEMS, route_class=require_scope(READ)
)


class WaitingStep(BaseModel):
    """A step that an external service has not finished, and the calls of the service for it."""

    step_id: str
    type: StepType
    service: Service
    since: datetime | None = Field(description="since when it is requested; null if not known")
    stuck_since: datetime | None
    reason: str | None = Field(description="why it is stuck; null if it is not")
    attempts: int | None = Field(
        description="how often the service was called for it since it was requested or retried;"
        " null if that is not known, or if the service rejected it: then it is tried again every"
        " five minutes"
    )
    next_try_at: datetime | None = Field(
        description="when the service is called next; null while a call runs or is due, and with"
        " `attempts`"
    )
    last_error: str | None = Field(description="why the last call failed; null if none has")


class OrderWaiting(BaseModel):
    """What an order waits for, in words, for people."""

    order_id: str = Field(description="the order")
    version: int = Field(description="the version that this is about")
    question: str = Field(description="what people ask of an order in this state")
    answer: list[str] = Field(description="the answer, in sentences")
    urgency: Urgency = Field(
        description="`attention`: a person has to settle something; `decision`: a person has to"
        " decide; `progress`: the order goes on by itself; `rest`: it has not begun, or is ending"
        " or has ended"
    )
    waits_for: list[str] = Field(
        description='each thing that it waits for, as the end of "It waits for"; empty at rest'
    )
    steps: list[WaitingStep] = Field(description="the steps that services have not finished")


@router.get("/{order_id}/waiting", summary="Explain an order", response_model=OrderWaiting)
async def get_waiting(
    request: Request,
    order_id: Id,
    services: ServicesDep,
    query: Annotated[ConsistencyQuery, Query()],
    prefer: PreferZoneHeader = None,
) -> Response:
    """Why the order has not been placed, paid, shipped or completed: what it waits for."""
    consistency = await read_consistency(request, services, PROJECTION.name, query, prefer)
    await consistency.wait()
    row = await services.order_loader.load(order_id)
    if row is None:
        raise UnknownOrder(order_id)
    order = OrderDocument.model_validate_json(shown_document(row))
    titles = {line.line_id: line.title for line in order.lines}
    words = Words(order.currency, titles, zone_of(prefer))
    attempts = await _attempts(services, order)
    explained = explain(order, words, attempts)
    body = OrderWaiting(
        order_id=order_id,
        version=row.version,
        question=explained.question,
        answer=[*explained.sentences],
        urgency=explained.urgency,
        waits_for=[*waits(order, words, row.orphaned)],
        steps=[_waiting(step, attempts.get(step.step_id)) for step in order.pending],
    )
    headers = {"ETag": f'"{row.version}"', "Cache-Control": "no-store", **consistency.headers()}
    return Response(body.model_dump_json(), headers=headers, media_type="application/json")


async def _attempts(services: Services, order: OrderDocument) -> Mapping[str, Attempts]:
    """By step, as far as Temporal answers in time; what the read model says is known without."""
    if not order.pending:
        return {}
    steps = {step.step_id: step.type for step in order.pending}
    try:
        return await within(
            ATTEMPTS_SECONDS_MAX, read_attempts(services.client, order.order_id, steps)
        )
    except (RPCError, TimeoutError) as error:
        log.warning("the attempts of the steps of %s are not known: %s", order.order_id, error)
        return {}


def _waiting(step: PendingStep, attempts: Attempts | None) -> WaitingStep:
    return WaitingStep(
        step_id=step.step_id,
        type=step.type,
        service=SERVICE_OF_STEP[step.type],
        since=step.since,
        stuck_since=step.stuck_since,
        reason=step.reason,
        attempts=attempts.begun if attempts else None,
        next_try_at=attempts.next_at if attempts else None,
        last_error=attempts.error if attempts else None,
    )
