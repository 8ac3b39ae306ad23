"""Webhook endpoints: register, read, change, pause, resume, delete them, rotate their secrets."""

from __future__ import annotations

from typing import Annotated

import asyncpg
from fastapi import APIRouter, Header, Request, Response
from pydantic import WithJsonSchema

from api.auth.authentication import require_scope
from api.auth.permissions import OPERATE
from api.dependencies import Services, ServicesDep
from api.feed_start import parse_start, position_before
from api.if_match import IF_MATCH, expected_versions_of
from api.problems.catalog import (
    ENDPOINT_CHANGED,
    ENDPOINTS_NOT_CONFIGURED,
    INVALID_CURSOR,
    TOO_MANY_ENDPOINTS,
    UNKNOWN_ENDPOINT,
    URL_NOT_ALLOWED,
)
from api.problems.handlers import PROBLEMS
from api.problems.problem import FieldError, Problem
from api.webhook_endpoints.bodies import (
    EndpointId,
    NewWebhookEndpoint,
    WebhookEndpoint,
    WebhookEndpointChanges,
    WebhookEndpointDetails,
    WebhookEndpointList,
    WebhookEndpointWithSecret,
    shown_endpoint,
    shown_parked_order,
)
from eventlog.cursor import InvalidCursor, position_of
from eventlog.epochs import read_epochs
from eventlog.log import START, Checkpoint, settled_head
from eventlog.postgres import Reader
from outbound.webhooks import deliveries, endpoints
from outbound.webhooks.addresses import AddressNotAllowed, NameNotResolved, check_reachable
from outbound.webhooks.endpoints import Endpoint, EndpointChanged, NewEndpoint, TooManyEndpoints
from outbound.webhooks.secrets import SecretBox, new_secret

PREFIX = "/v1/webhook-endpoints"

router = APIRouter(
    prefix=PREFIX, tags=["Webhooks"], responses=PROBLEMS, route_class=require_scope(OPERATE)
)


@router.post("", summary="Register a webhook endpoint", status_code=201)
async def register_webhook_endpoint(
    body: NewWebhookEndpoint, request: Request, response: Response, services: ServicesDep
) -> WebhookEndpointWithSecret:
    """From now on, or from an earlier position, events are posted to its URL until it is deleted.

    The secret is shown only here. Repeating the request registers another endpoint.
    """
    box = secret_box(services)
    await _check_reachable(services, body.url)
    secret, endpoint_id = new_secret(), endpoints.new_endpoint_id()
    new = NewEndpoint(
        endpoint_id=endpoint_id,
        url=body.url,
        event_types=_types(body.event_types),
        customer_id=body.customer_id,
        description=body.description,
        base_url=str(request.base_url),
        secret=box.seal(secret, endpoint_id),
    )
    async with services.pool.acquire() as connection:
        epochs = await read_epochs(connection)
        start = await _start(connection, body.start)
        try:
            endpoint = await endpoints.register(connection, new, start, epochs.current)
        except TooManyEndpoints as error:
            raise Problem(TOO_MANY_ENDPOINTS) from error
    response.headers["Location"] = f"{PREFIX}/{endpoint_id}"
    return await _with_secret(services, endpoint, secret, response)


@router.get("", summary="List webhook endpoints")
async def list_webhook_endpoints(services: ServicesDep) -> WebhookEndpointList:
    """All endpoints and their health."""
    health = await deliveries.read_health(services.pool)
    found = await endpoints.find_all(services.pool)
    return WebhookEndpointList(
        items=[shown_endpoint(e, health[e.endpoint_id]) for e in found if e.endpoint_id in health]
    )


@router.get("/{endpoint_id}", summary="Get a webhook endpoint")
async def get_webhook_endpoint(
    endpoint_id: EndpointId, response: Response, services: ServicesDep
) -> WebhookEndpointDetails:
    """An endpoint, its health, and the orders whose next event it did not accept."""
    endpoint = await load_endpoint(services.pool, endpoint_id)
    shown = await _shown(services, endpoint, response)
    parked = await deliveries.parked_orders(services.pool, endpoint_id)
    return WebhookEndpointDetails(
        **dict(shown), parked_orders=[shown_parked_order(one) for one in parked]
    )


@router.patch("/{endpoint_id}", summary="Change a webhook endpoint")
async def change_webhook_endpoint(
    endpoint_id: EndpointId,
    body: WebhookEndpointChanges,
    response: Response,
    services: ServicesDep,
    if_match: Annotated[
        str | None,
        WithJsonSchema({"type": "string", "pattern": IF_MATCH}),
        Header(description='ETag of the version you decided on, such as `"2"`; else: 412'),
    ] = None,
) -> WebhookEndpoint:
    """Changes the fields that are sent. Delivery goes on where it was, with the new filter."""
    expected = expected_versions_of(if_match)
    if body.url is not None:
        await _check_reachable(services, body.url)
    values = {name: getattr(body, name) for name in body.model_fields_set}
    if values.get("event_types") is not None:
        values["event_types"] = _types(values["event_types"])
    try:
        changed = await endpoints.change(services.pool, endpoint_id, values, expected)
    except EndpointChanged as error:
        raise Problem(ENDPOINT_CHANGED, current_version=error.version) from error
    return await _shown(services, _known(changed, endpoint_id), response)


@router.delete(
    "/{endpoint_id}",
    summary="Delete a webhook endpoint",
    status_code=204,
    response_description="It is deleted",
)
async def delete_webhook_endpoint(endpoint_id: EndpointId, services: ServicesDep) -> None:
    """Ends delivery for good; attempts that are under way end within seconds."""
    if not await endpoints.delete(services.pool, endpoint_id):
        raise _unknown(endpoint_id)


@router.post("/{endpoint_id}/pause", summary="Pause a webhook endpoint")
async def pause_webhook_endpoint(
    endpoint_id: EndpointId, response: Response, services: ServicesDep
) -> WebhookEndpoint:
    """Stops delivery until it is resumed; nothing is lost meanwhile."""
    paused = await endpoints.pause(services.pool, endpoint_id)
    return await _shown(services, _known(paused, endpoint_id), response)


@router.post("/{endpoint_id}/resume", summary="Resume a webhook endpoint")
async def resume_webhook_endpoint(
    endpoint_id: EndpointId, response: Response, services: ServicesDep
) -> WebhookEndpoint:
    """Continues delivery where it was, also after a 410, and tries at once what waits."""
    resumed = await endpoints.resume(services.pool, endpoint_id)
    return await _shown(services, _known(resumed, endpoint_id), response)


@router.post("/{endpoint_id}/rotate-secret", summary="Rotate the secret of a webhook endpoint")
async def rotate_webhook_secret(
    endpoint_id: EndpointId, response: Response, services: ServicesDep
) -> WebhookEndpointWithSecret:
    """Makes another secret, and shows it only here. For a day the present one signs as well."""
    secret = new_secret()
    sealed = secret_box(services).seal(secret, endpoint_id)
    rotated = await endpoints.rotate_secret(services.pool, endpoint_id, sealed)
    return await _with_secret(services, _known(rotated, endpoint_id), secret, response)


def secret_box(services: Services) -> SecretBox:
    """What seals secrets; raises a Problem without a key."""
    if services.secret_box is None:
        raise Problem(ENDPOINTS_NOT_CONFIGURED)
    return services.secret_box


async def load_endpoint(reader: Reader, endpoint_id: str) -> Endpoint:
    """The endpoint; raises a Problem if there is none."""
    return _known(await endpoints.find(reader, endpoint_id), endpoint_id)


def _known(endpoint: Endpoint | None, endpoint_id: str) -> Endpoint:
    if endpoint is None:
        raise _unknown(endpoint_id)
    return endpoint


def _unknown(endpoint_id: str) -> Problem:
    return Problem(UNKNOWN_ENDPOINT, f"There is no webhook endpoint {endpoint_id}.")


def _types(event_types: list[str] | None) -> tuple[str, ...] | None:
    return None if event_types is None else tuple(sorted(set(event_types)))


async def _check_reachable(services: Services, url: str) -> None:
    """Raises a Problem if webhooks may not go to a URL."""
    try:
        await check_reachable(url, services.webhook_networks)
    except (AddressNotAllowed, NameNotResolved) as error:
        detail = f"{error}"
        errors = [FieldError(pointer="#/url", code="not-allowed", detail=detail)]
        raise Problem(URL_NOT_ALLOWED, f"{detail}.", errors=errors) from error


async def _start(connection: asyncpg.pool.PoolConnectionProxy, start: str) -> Checkpoint:
    """The position after which delivery begins; raises a Problem."""
    if start == "beginning":
        return START
    if start == "now":
        return await settled_head(connection)
    try:
        parsed = parse_start(start)
    except ValueError:  # Then it is a cursor.
        return await _position_after(connection, start)
    return await position_before(connection, parsed, {"pointer": "#/from"})


async def _position_after(connection: asyncpg.pool.PoolConnectionProxy, cursor: str) -> Checkpoint:
    """The position of a cursor; raises a Problem."""
    try:
        return await position_of(connection, cursor, await read_epochs(connection))
    except InvalidCursor as error:
        error_at = FieldError(pointer="#/from", code="invalid", detail=str(error))
        detail = (
            "`from` must be now, beginning, an instant, the id of an event or a cursor of the feed."
            f" As a cursor, it {error}."
        )
        raise Problem(INVALID_CURSOR, detail, errors=[error_at]) from error


async def _shown(services: Services, endpoint: Endpoint, response: Response) -> WebhookEndpoint:
    health = await deliveries.read_health(services.pool, [endpoint.endpoint_id])
    if endpoint.endpoint_id not in health:
        raise _unknown(endpoint.endpoint_id)  # Deleted since.
    response.headers["ETag"] = f'"{endpoint.version}"'
    return shown_endpoint(endpoint, health[endpoint.endpoint_id])


async def _with_secret(
    services: Services, endpoint: Endpoint, secret: str, response: Response
) -> WebhookEndpointWithSecret:
    shown = await _shown(services, endpoint, response)
    response.headers["Cache-Control"] = "no-store"
    return WebhookEndpointWithSecret(**dict(shown), secret=secret)
