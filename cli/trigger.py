"""Sends a callback as a service would: signed, over HTTP."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx
from pydantic import ValidationError
from standardwebhooks import Webhook

from api.callbacks.payloads import EVENTS
from field_errors import words_for

TIMEOUT_S = 15.0


class NotSendable(Exception):
    """What is wrong with an event, as a sentence."""


class NotTaken(Exception):
    """Why the API has not taken a callback, as a sentence."""


def lines() -> Iterator[str]:
    """All events, each with the service that sends it and its fields."""
    for service, events in EVENTS.items():
        for event, data in events.items():
            fields = " ".join(
                f"{name}=…" if field.is_required() else f"[{name}=…]"
                for name, field in data.model_fields.items()
                if name != "order_id"
            )
            yield f"{service:<9} {event:<26} ORDER {fields}".rstrip()


def body_of(event: str, order_id: str, given: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The service that sends an event, and the data of it; raises NotSendable."""
    found = [service for service, events in EVENTS.items() if event in events]
    if not found:
        raise NotSendable(f"There is no event {event}; `orderly trigger` lists all.")
    data: dict[str, Any] = {"order_id": order_id, **dict(map(_field, given))}
    try:
        EVENTS[found[0]][event].model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "data"
        raise NotSendable(
            f"The field {name} of {event} {words_for(first)[1]}; write it as {name}=VALUE."
        ) from None
    return found[0], data


def _field(text: str) -> tuple[str, Any]:
    name, is_given, value = text.partition("=")
    if not is_given:
        raise NotSendable(f"{text!r} is no field: write it as NAME=VALUE.")
    try:
        parsed = json.loads(value)
    except ValueError:
        return name, value
    # An id may consist of digits, and an amount is a number.
    is_number = name in ("amount", "quantity") or isinstance(parsed, list)
    return name, parsed if is_number else value


async def send(callback_url: str, secret: str, service: str, event: str, data: object) -> str:
    """Sends the event; returns what became of it. Raises NotTaken."""
    now, message_id = datetime.now(UTC), f"msg_{secrets.token_hex(12)}"
    body = json.dumps({"type": event, "timestamp": now.isoformat(), "data": data})
    headers = {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, now, body),
    }
    url = f"{callback_url.rstrip('/')}/{service}"
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as http:
            response = await http.post(url, content=body, headers=headers)
            answer = response.json()
    except httpx.HTTPError as error:
        raise NotTaken(f"The API does not answer at {url}: {error}.") from None
    except ValueError:
        raise NotTaken(f"What answers at {url} is not an orderly API.") from None
    if not response.is_success:
        said = " ".join(str(answer.get(part, "")) for part in ("code", "detail"))
        raise NotTaken(f"The API answered {response.status_code}: {said.strip().rstrip('.')}.")
    return ", ".join(str(answer[part]) for part in ("outcome", "code") if part in answer)
