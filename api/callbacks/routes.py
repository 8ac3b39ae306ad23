"""Callbacks of external services: signed, and executed exactly once."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import Counter
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from standardwebhooks import Webhook, WebhookVerificationError

from api.callbacks.payloads import EVENTS, CallbackData, CallbackEvent
from api.context import WAIT_SECONDS, canonical_payload, command_id_of, context_of, short_hash
from api.dependencies import Services, ServicesDep
from api.gateway.command_message import CommandMessage
from api.limits.rate_limit import charge
from api.problems.catalog import CALLBACKS_NOT_CONFIGURED, INVALID_SIGNATURE
from api.problems.handlers import PROBLEMS, problem_of
from api.problems.problem import Problem, rejected
from api.problems.strict_route import StrictRoute
from eventlog.callback_log import Callback
from orders.text import Id
from workflows.command_handler import Rejected
from workflows.messages import RETRYABLE, CommandBatch

log = logging.getLogger("orderly.api")

router = APIRouter(
    prefix="/v1/callbacks", tags=["Callbacks"], responses=PROBLEMS, route_class=StrictRoute
)

T = TypeVar("T", bound=BaseModel)
_ORDER_ID: TypeAdapter[str] = TypeAdapter(Id)

REFUSED = "refused"
_CALLBACKS = Counter(
    "orderly_callbacks_total",
    "Callbacks of external services, by service and outcome: accepted, recorded (it contradicts the"
    " order), rejected, ignored, or refused (with an error response).",
    ["service", "outcome"],
)
for _sender in EVENTS:
    _CALLBACKS.labels(_sender, REFUSED)  # 0, so that the first one shows as an increase.

# How long a rejected event is worth another delivery.
RETRY_PERIOD = timedelta(minutes=10)


class CallbackReceipt(BaseModel):
    """What became of an event; it need not be sent again."""

    outcome: Literal["accepted", "recorded", "rejected", "ignored"]
    """`recorded`: it contradicts the order, which now shows it to a person."""
    code: str | None = Field(None, description="if `rejected`, why")


def _route_for(sender: str) -> Callable[..., Awaitable[CallbackReceipt]]:
    """The route for the callbacks of one service."""

    async def receive_callback(request: Request, services: ServicesDep) -> CallbackReceipt:
        seen, outcome, code = _Seen(), REFUSED, None
        try:
            receipt = await _receive(sender, request, services, seen)
            outcome, code = receipt.outcome, receipt.code
            return receipt
        except Exception as error:
            code = problem_of(error).type.code
            raise
        finally:
            _CALLBACKS.labels(sender, outcome).inc()
            services.callback_recorder.add(seen.callback(sender, outcome, code))

    return receive_callback


@dataclass
class _Seen:
    """What is known of a callback so far: nothing, until its signature is verified."""

    message_id: str | None = None
    type: str | None = None
    order_id: str | None = None

    def callback(self, service: str, outcome: str, code: str | None) -> Callback:
        now = datetime.now(UTC)
        return Callback(now, service, self.message_id, self.type, self.order_id, outcome, code)


async def _receive(
    sender: str, request: Request, services: Services, seen: _Seen
) -> CallbackReceipt:
    """Verifies a callback, and sends what it reports to its order."""
    body = await request.body()
    message_id = _verify(services.webhook_secret, request, body)
    seen.message_id = _short(message_id)
    charge(request, sender)
    event = _validate(CallbackEvent, body)
    seen.type, seen.order_id = _short(event.type), _order_id(event)
    data_type = EVENTS[sender].get(event.type)
    if data_type is None:  # A service may send more types than orders process.
        return CallbackReceipt(outcome="ignored")
    data = _validate(data_type, event.data, "data")
    try:
        message = _message(request, sender, message_id, data, body)
        result = await services.gateway.execute(message, WAIT_SECONDS)
    except Rejected as error:
        _raise_if_retryable(error, event.timestamp)
        code = error.rejection.code
        named = {"order_id": data.order_id, "code": code}
        log.warning("callback %s was rejected: %s", event.type, code, extra=named)
        return CallbackReceipt(outcome="rejected", code=code)
    is_recorded = "discrepancy-recorded" in result.event_types
    return CallbackReceipt(outcome="recorded" if is_recorded else "accepted")


_SIGNATURE_HEADERS = {
    "webhook-id": "unique id of the event, the same in each delivery",
    "webhook-timestamp": "time of this delivery, in seconds since 1970",
    "webhook-signature": "`v1,` and the HMAC-SHA256 of id, timestamp and body, in base64",
}
_SIGNED_REQUEST = {
    "parameters": [
        {
            "name": name,
            "in": "header",
            "description": description,
            "required": True,
            "schema": {"type": "string"},
        }
        for name, description in _SIGNATURE_HEADERS.items()
    ],
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/CallbackEvent"}}},
    },
}

for _sender, _events in EVENTS.items():
    router.add_api_route(
        f"/{_sender}",
        _route_for(_sender),
        methods=["POST"],
        summary=f"{_sender.removesuffix('s').capitalize()} callbacks",
        description=f"Signed as in Standard Webhooks. Events: {', '.join(_events)}.",
        operation_id=f"receive_{_sender.removesuffix('s')}_callback",
        response_model=CallbackReceipt,
        response_model_exclude_none=True,
        openapi_extra=_SIGNED_REQUEST,
    )


def _short(text: str) -> str:
    """A text of a sender's, short and on one line, as people see it in a list."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:100])


def _order_id(event: CallbackEvent) -> str | None:
    """The order that it names, as far as it is the id of one."""
    try:
        return _ORDER_ID.validate_python(event.data.get("order_id"))
    except ValidationError:
        return None


def _verify(secret: str | None, request: Request, body: bytes) -> str:
    """The id of a correctly signed message; raises a Problem for any other."""
    if secret is None:
        detail = "Callbacks cannot be verified: set ORDERLY_WEBHOOK_SECRET to the senders' secret."
        raise Problem(CALLBACKS_NOT_CONFIGURED, detail)
    headers = dict(request.headers)
    try:
        Webhook(secret).verify(body, headers, json_parse=False)
    except (WebhookVerificationError, ValueError) as error:  # ValueError: malformed base64 or text.
        detail = (
            "The callback's signature is missing or invalid, or its timestamp is more than 5 "
            "minutes from now."
        )
        raise Problem(INVALID_SIGNATURE, detail) from error
    return headers["webhook-id"]


def _validate(model: type[T], content: bytes | dict[str, Any], *path: str) -> T:
    """The content as a model; `path` is its location in the body, for errors."""
    try:
        if isinstance(content, bytes):
            return model.model_validate_json(content)
        return model.model_validate(content)
    except ValidationError as error:
        errors = [{**e, "loc": ("body", *path, *e["loc"])} for e in error.errors()]
        raise RequestValidationError(errors) from None


def _message(
    request: Request, sender: str, message_id: str, data: CallbackData, body: bytes
) -> CommandMessage:
    context = context_of(request)
    return CommandMessage(
        order_id=data.order_id,
        command_id=command_id_of(sender, message_id),
        batch=CommandBatch(
            commands=[data.message()],
            actor=sender,
            payload_hash=short_hash(canonical_payload(request.url.path, body)),
            attempt_id=context.attempt_id,
            traceparent=context.traceparent,
        ),
    )


def _raise_if_retryable(error: Rejected, happened_at: datetime) -> None:
    """Raises a Problem, so that the sender repeats the delivery, if a repetition may succeed.

    Events can arrive out of order, for example a delivery before the dispatch: a recent event may
    be accepted later. An old one never is, and repeating it would delay the events behind it.
    """
    is_recent = datetime.now(happened_at.tzinfo) - happened_at < RETRY_PERIOD
    if is_recent or error.rejection.code in RETRYABLE:
        rejection = error.rejection
        raise rejected(rejection, "#/data", rejection.allowed_commands) from error
