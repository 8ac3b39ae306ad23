"""What other services tell unasked: signed events in, each of which counts once."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Literal, TypeVar

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from standardwebhooks import Webhook, WebhookVerificationError

from api.context import WAIT_SECONDS, canonical_payload, context_of, short_hash
from api.dependencies import GatewayDep, WebhookSecretDep
from api.gateway.command_message import CommandMessage
from api.gateway.gateway import Gateway
from api.limits.rate_limit import charge
from api.problems.catalog import CALLBACKS_NOT_CONFIGURED, INVALID_SIGNATURE
from api.problems.handlers import PROBLEMS
from api.problems.problem import Problem, rejected
from api.webhooks.payloads import EVENTS, AnyData, CallbackEvent
from workflows.command_handler import Rejected
from workflows.messages import LOG_BEHIND, CommandBatch

log = logging.getLogger("orderly.api")

router = APIRouter(prefix="/v1/callbacks", tags=["Callbacks"], responses=PROBLEMS)

T = TypeVar("T", bound=BaseModel)

PATIENCE = timedelta(minutes=10)


class CallbackReceipt(BaseModel):
    """What became of an event; whichever it is, it need not be sent again."""

    outcome: Literal["accepted", "rejected", "ignored"]
    code: str | None = Field(None, description="if `rejected`, why")


def _route_for(sender: str) -> Callable[..., Awaitable[CallbackReceipt]]:
    async def receive_callback(
        request: Request, gateway: GatewayDep, secret: WebhookSecretDep
    ) -> CallbackReceipt:
        body = await request.body()
        message_id = _verified(secret, request, body)
        charge(request, sender)
        event = _read(CallbackEvent, body)
        shape = EVENTS[sender].get(event.type)
        if shape is None:
            return CallbackReceipt(
                outcome="ignored"
            )  # A service has more to tell than orders ask for.
        data = _read(shape, event.data, "data")
        try:
            await _send(gateway, request, sender, message_id, data, body)
        except Rejected as no:
            _unless_final(no, event.timestamp)
            code = no.rejection.code
            log.warning("%s of order %s is refused: %s", event.type, data.order_id, code)
            return CallbackReceipt(outcome="rejected", code=code)
        return CallbackReceipt(outcome="accepted")

    return receive_callback


_SIGNED = {
    "parameters": [
        {"name": name, "in": "header", "required": True, "schema": {"type": "string"}}
        for name in ("webhook-id", "webhook-timestamp", "webhook-signature")
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
        summary=f"{_sender.removesuffix('s').capitalize()} webhooks",
        description=f"Signed as in Standard Webhooks. Events: {', '.join(_events)}.",
        operation_id=f"receive_{_sender.removesuffix('s')}_callback",
        response_model=CallbackReceipt,
        response_model_exclude_none=True,
        openapi_extra=_SIGNED,
    )


def _verified(secret: str | None, request: Request, body: bytes) -> str:
    """The id of the message, if its sender is who we think."""
    if secret is None:
        detail = "No callback can be verified: set ORDERLY_WEBHOOK_SECRET to the senders' secret."
        raise Problem(CALLBACKS_NOT_CONFIGURED, detail)
    headers = dict(request.headers)
    try:
        Webhook(secret).verify(body, headers, json_parse=False)
    except (WebhookVerificationError, ValueError) as error:  # ValueError: malformed base64 or text.
        detail = (
            "The webhook signature is missing or invalid, or its timestamp is more than 5 minutes "
            "from now."
        )
        raise Problem(INVALID_SIGNATURE, detail) from error
    return headers["webhook-id"]


def _read(shape: type[T], content: bytes | dict[str, Any], *place: str) -> T:
    try:
        if isinstance(content, bytes):
            return shape.model_validate_json(content)
        return shape.model_validate(content)
    except ValidationError as error:
        wrong = [{**e, "loc": ("body", *place, *e["loc"])} for e in error.errors()]
        raise RequestValidationError(wrong) from None


async def _send(
    gateway: Gateway,
    request: Request,
    sender: str,
    message_id: str,
    data: AnyData,
    body: bytes,
) -> None:
    context = context_of(request)
    mail = CommandMessage(
        order_id=data.order_id,
        command_id=short_hash(sender, message_id),  # A repeated delivery counts once.
        batch=CommandBatch(
            commands=[data.message()],
            actor=sender,
            payload_hash=short_hash(canonical_payload(request.url.path, body)),
            attempt_id=context.attempt_id,
            traceparent=context.traceparent,
        ),
    )
    await gateway.execute(mail, WAIT_SECONDS)


def _unless_final(no: Rejected, happened_at: datetime) -> None:
    """Raises a Problem, upon which the event is sent again, if that may help.

    Events overtake one another, so a delivery can come before we know that the shipment has left:
    while an event is young, its refusal may be only a matter of time. Later it never succeeds, and
    sending it for ever would only hold up what comes after it.
    """
    is_young = datetime.now(happened_at.tzinfo) - happened_at < PATIENCE
    if is_young or no.rejection.code == LOG_BEHIND:
        raise rejected(no.rejection, "#/data", no.rejection.allowed_commands) from no
