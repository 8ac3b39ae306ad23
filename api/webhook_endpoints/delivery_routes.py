"""Deliveries of webhook endpoints: every attempt, tests, and delivering events again."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query

from api.auth.authentication import require_scope
from api.auth.permissions import OPERATE
from api.dependencies import ServicesDep
from api.id_cursor import decode_cursor, encode_cursor
from api.problems.catalog import (
    ENDPOINTS_NOT_CONFIGURED,
    EVENTS_NOT_SELECTED,
    TOO_MANY_REPLAYS,
    UNKNOWN_DELIVERY,
)
from api.problems.handlers import PROBLEMS
from api.problems.problem import ERRORS_MAX, FieldError, Problem
from api.webhook_endpoints.bodies import (
    EndpointId,
    WebhookDelivery,
    WebhookDeliveryList,
    WebhookReplay,
    WebhookReplayRequest,
    shown_delivery,
)
from api.webhook_endpoints.routes import PREFIX, load_endpoint, secret_box
from eventlog.feed import PublishedEvent
from eventlog.postgres import Connection
from outbound.event_ids import event_id
from outbound.webhooks import deliveries, replays, trial
from outbound.webhooks.deliveries import RecordedDelivery
from outbound.webhooks.endpoints import Endpoint
from outbound.webhooks.replays import TooManyReplays
from outbound.webhooks.secrets import SecretUnreadable

router = APIRouter(
    prefix=f"{PREFIX}/{{endpoint_id}}",
    tags=["Webhooks"],
    responses=PROBLEMS,
    route_class=require_scope(OPERATE),
)

DeliveryId = Annotated[str, Path(pattern="^[0-9]{1,18}$", description="`delivery_id`")]


@router.get("/deliveries", summary="List deliveries of a webhook endpoint")
async def list_webhook_deliveries(
    endpoint_id: EndpointId,
    services: ServicesDep,
    outcome: Annotated[
        Literal["delivered", "failed"] | None, Query(description="only these")
    ] = None,
    cursor: Annotated[str | None, Query(description="`next` of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="deliveries per page")] = 25,
) -> WebhookDeliveryList:
    """Every attempt of the last days, the newest first; attempts appear within a second."""
    before = decode_cursor(cursor) if cursor else None
    await load_endpoint(services.pool, endpoint_id)
    is_failed = None if outcome is None else outcome == "failed"
    found = await deliveries.find_page(services.pool, endpoint_id, before, is_failed, limit + 1)
    items, has_more = found[:limit], len(found) > limit
    return WebhookDeliveryList(
        items=[shown_delivery(one) for one in items],
        next=encode_cursor(items[-1].delivery_id) if has_more else None,
    )


@router.post("/test", summary="Test a webhook endpoint")
async def send_test_webhook(endpoint_id: EndpointId, services: ServicesDep) -> WebhookDelivery:
    """Sends an event of type `orderly.test.v1` once, even to a paused endpoint."""
    endpoint, box = await load_endpoint(services.pool, endpoint_id), secret_box(services)
    try:
        delivery_id = await trial.send_test(services.pool, endpoint, box, services.webhook_networks)
    except SecretUnreadable as error:
        raise Problem(ENDPOINTS_NOT_CONFIGURED, f"The endpoint cannot be used: {error}.") from error
    sent = await deliveries.find(services.pool, endpoint_id, delivery_id)
    return shown_delivery(_known(sent, delivery_id))


@router.post(
    "/deliveries/{delivery_id}/redeliver", summary="Deliver an event again", status_code=202
)
async def redeliver_webhook(
    endpoint_id: EndpointId, delivery_id: DeliveryId, services: ServicesDep
) -> WebhookReplay:
    """Delivers the event of an earlier attempt once more, until it is accepted."""
    async with services.pool.acquire() as connection:
        endpoint = await load_endpoint(connection, endpoint_id)
        earlier = _known(
            await deliveries.find(connection, endpoint_id, int(delivery_id)), delivery_id
        )
        if earlier.event_id.startswith(trial.ID_PREFIX):
            raise Problem(UNKNOWN_DELIVERY, "This delivery was a test: send another with /test.")
        events = await replays.select_events(connection, endpoint, [earlier.event_id])
        if not events:
            raise Problem(EVENTS_NOT_SELECTED)
        return await _replay_events(connection, endpoint, events)


@router.post("/replay", summary="Deliver earlier events again", status_code=202)
async def replay_webhooks(
    endpoint_id: EndpointId, body: WebhookReplayRequest, services: ServicesDep
) -> WebhookReplay:
    """Delivers events of a period, or with certain ids, once more: in order, under the same ids.

    Only those that the endpoint's filter selects, beside what follows the log.
    """
    async with services.pool.acquire() as connection:
        endpoint = await load_endpoint(connection, endpoint_id)
        if body.event_ids is not None:
            events = await _select_all(connection, endpoint, body.event_ids)
            return await _replay_events(connection, endpoint, events)
        try:
            replay_id = await replays.replay_period(connection, endpoint, body.since, body.until)
        except TooManyReplays as error:
            raise Problem(TOO_MANY_REPLAYS) from error
    return WebhookReplay(replay_id=replay_id, endpoint_id=endpoint_id)


async def _select_all(
    connection: Connection, endpoint: Endpoint, event_ids: list[str]
) -> list[PublishedEvent]:
    """The events with these ids; raises a Problem that points to those that are not selected."""
    events = await replays.select_events(connection, endpoint, event_ids)
    selected = {event_id(event.order_id, event.envelope.version) for event in events}
    missing = [number for number, one in enumerate(event_ids) if one not in selected]
    if missing:
        raise Problem(
            EVENTS_NOT_SELECTED,
            errors=[
                FieldError(
                    pointer=f"#/event_ids/{number}",
                    code="not-selected",
                    detail="is not in the log, or the endpoint's filter does not select it",
                )
                for number in missing[:ERRORS_MAX]
            ],
        )
    return events


async def _replay_events(
    connection: Connection, endpoint: Endpoint, events: list[PublishedEvent]
) -> WebhookReplay:
    try:
        replay_id = await replays.replay_events(connection, endpoint, events)
    except TooManyReplays as error:
        raise Problem(TOO_MANY_REPLAYS) from error
    return WebhookReplay(replay_id=replay_id, endpoint_id=endpoint.endpoint_id)


def _known(delivery: RecordedDelivery | None, delivery_id: object) -> RecordedDelivery:
    if delivery is None:
        raise Problem(UNKNOWN_DELIVERY, f"There is no delivery {delivery_id} of this endpoint.")
    return delivery
