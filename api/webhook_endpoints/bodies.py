"""What operators send and see of webhook endpoints and their deliveries."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from api.times import Instant
from orders.events import BY_TAG
from orders.text import CustomerId, Id, LongName
from outbound.event_ids import event_id, parse_event_id
from outbound.webhooks.addresses import URL_CHARACTERS_MAX, check_url
from outbound.webhooks.deliveries import EndpointHealth, RecordedDelivery, ShownParkedOrder
from outbound.webhooks.endpoints import Endpoint
from outbound.webhooks.replays import EVENT_IDS_MAX

if TYPE_CHECKING:  # A type checker cannot follow literals that are made at runtime.
    EventType = str
else:
    EventType = Literal[tuple(sorted(BY_TAG))]

Url = Annotated[
    str,
    AfterValidator(check_url),
    Field(
        min_length=1,
        max_length=URL_CHARACTERS_MAX,
        description="of the receiver; HTTPS, at a public address, without user name and password",
        examples=["https://shop.example.com/webhooks"],
    ),
]
EventTypes = Annotated[
    list[EventType],
    Field(min_length=1, max_length=len(BY_TAG), description="only these; absent: all"),
]
OfCustomer = Annotated[CustomerId | None, Field(description="only events of their orders")]
Description = Annotated[LongName | None, Field(description="for people")]


def _check_event_id(event_id: str) -> str:
    parse_event_id(event_id)
    return event_id


EventId = Annotated[str, AfterValidator(_check_event_id), Field(min_length=1, max_length=100)]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NewWebhookEndpoint(_Body):
    """A receiver of events, and which events it receives."""

    url: Url
    event_types: EventTypes | None = None
    customer_id: OfCustomer = None
    description: Description = None
    start: Annotated[
        str,
        Field(
            alias="from",
            min_length=1,
            max_length=100,
            description="where delivery begins: `now`, `beginning`, an instant (RFC 3339), with"
            " the event of an `id`, or after a cursor of the feed",
        ),
    ] = "now"


class WebhookEndpointChanges(_Body):
    """What is to change; null removes a filter or the description."""

    url: Url | None = None
    event_types: EventTypes | None = None
    customer_id: OfCustomer = None
    description: Description = None

    @model_validator(mode="after")
    def _check_url(self) -> WebhookEndpointChanges:
        if "url" in self.model_fields_set and self.url is None:
            raise ValueError("url cannot be null")
        return self


class WebhookReplayRequest(_Body):
    """Which events to deliver again: of a period, or by their ids."""

    since: Annotated[Instant | None, Field(description="published at this time or later")] = None
    until: Annotated[Instant | None, Field(description="published before this time")] = None
    event_ids: Annotated[
        list[EventId] | None,
        Field(min_length=1, max_length=EVENT_IDS_MAX, description="`id` of each event"),
    ] = None

    @model_validator(mode="after")
    def _check_choice(self) -> WebhookReplayRequest:
        has_period = self.since is not None or self.until is not None
        if has_period == (self.event_ids is not None):
            raise ValueError("must have since, until or both; or event_ids alone")
        return self


class WebhookHealth(BaseModel):
    """How an endpoint answers, and how far it is behind."""

    state: Literal["delivering", "down", "paused", "gone"]
    """`down`: it is tried again at `next_try_at`; `gone`: it answered 410."""
    lag_seconds: float = Field(
        description="for how long the first event that was not offered yet has been published; 0"
        " without one"
    )
    parked_orders: int = Field(description="orders whose next event it did not accept")
    replays: int = Field(description="that have not come to their end")
    failures: int = Field(description="since the last success")
    failing_since: datetime | None
    next_try_at: datetime | None
    last_error: str | None
    last_success_at: datetime | None
    delivered: int = Field(description="attempts that succeeded, in all")
    failed: int = Field(description="attempts that failed, in all")


class WebhookEndpoint(BaseModel):
    """A receiver of events; the ETag counts its changes."""

    endpoint_id: str
    url: str
    event_types: list[str] | None
    customer_id: str | None
    description: str | None
    status: Literal["active", "paused", "gone"]
    created_at: datetime
    updated_at: datetime
    old_secret_until: datetime | None = Field(
        description="until then, the secret before the present one signs as well"
    )
    health: WebhookHealth


class ParkedWebhookOrder(BaseModel):
    """An order whose next event an endpoint did not accept, and that is tried again."""

    order_id: str
    event_id: str
    attempts: int
    error: str
    parked_at: datetime
    next_try_at: datetime


class WebhookEndpointDetails(WebhookEndpoint):
    """A receiver of events, with the first hundred of its parked orders."""

    parked_orders: list[ParkedWebhookOrder]


class WebhookEndpointWithSecret(WebhookEndpoint):
    """A receiver of events, with the secret that signs them from now on."""

    secret: str = Field(description="shown only once; for the verification of Standard Webhooks")


class WebhookEndpointList(BaseModel):
    """All endpoints, the oldest first; `next` is null."""

    items: list[WebhookEndpoint]
    next: None = None


class WebhookDelivery(BaseModel):
    """One attempt to deliver an event."""

    delivery_id: str
    event_id: str
    event_type: str
    outcome: Literal["delivered", "failed"]
    attempted_at: datetime
    latency_ms: int
    status: int | None = Field(description="of the answer; null without one")
    error: str | None = Field(description="what went wrong, if it failed")
    answer: str = Field(description="the first bytes of the answer")
    next_try_at: datetime | None = Field(description="when it is tried again, if it failed")


class WebhookDeliveryList(BaseModel):
    """A page of attempts, the newest first; `next` is the cursor of older ones."""

    items: list[WebhookDelivery]
    next: str | None


class WebhookReplay(BaseModel):
    """Events that are being delivered again, beside those that follow the log."""

    replay_id: str
    endpoint_id: str


EndpointId = Id


def shown_endpoint(endpoint: Endpoint, health: EndpointHealth) -> WebhookEndpoint:
    """An endpoint as operators see it, without its secrets."""
    is_down = endpoint.status == "active" and health.next_try_at is not None
    state = "down" if is_down else {"active": "delivering"}.get(endpoint.status, endpoint.status)
    numbers = {
        name: getattr(health, name) for name in WebhookHealth.model_fields if name != "state"
    }
    return WebhookEndpoint.model_validate(
        {
            **{
                name: getattr(endpoint, name)
                for name in WebhookEndpoint.model_fields
                if name != "health"
            },
            "health": {"state": state, **numbers},
        }
    )


def shown_parked_order(parked: ShownParkedOrder) -> ParkedWebhookOrder:
    return ParkedWebhookOrder(
        order_id=parked.order_id,
        event_id=event_id(parked.order_id, parked.version),
        attempts=parked.attempts,
        error=parked.error,
        parked_at=parked.parked_at,
        next_try_at=parked.next_try_at,
    )


def shown_delivery(delivery: RecordedDelivery) -> WebhookDelivery:
    return WebhookDelivery(
        delivery_id=str(delivery.delivery_id),
        outcome="delivered" if delivery.error is None else "failed",
        **{
            name: getattr(delivery, name)
            for name in WebhookDelivery.model_fields
            if name not in ("delivery_id", "outcome")
        },
    )
