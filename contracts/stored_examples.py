"""Examples of what one version of orderly derives or writes, and other versions and systems keep.

They are part of contracts/stored_shapes.json. What is derived must be the same in each version: ids
and keys by which repetitions are recognised, and the names, headers and bodies that other systems
know. What is written may be written in another way, but each version must read that of another.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from base64 import b64decode
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import httpx
from pydantic import TypeAdapter
from standardwebhooks import Webhook
from temporalio import activity, workflow
from temporalio.exceptions import ApplicationError

from activities.credentials import Credentials
from activities.payments import Payments
from activities.publishing import Publishing
from activities.service_client import Service
from activities.shipping import Shipping
from activities.stock import Stock
from api.context import canonical_payload, command_id_of, order_id_of, short_hash
from api.id_cursor import decode_cursor as decode_id_cursor
from api.id_cursor import encode_cursor as encode_id_cursor
from api.problems.catalog import PROBLEM_TYPES
from api.reads.cursor import decode_cursor as decode_list_cursor
from api.reads.cursor import encode_cursor as encode_list_cursor
from contracts.json_schema_diff import Schema
from eventlog.cursor import decode_cursor, encode_cursor
from eventlog.digests import order_hash
from eventlog.envelope import Envelope, Metadata
from eventlog.intents import Intent, unpack
from eventlog.log import Checkpoint
from orders.commands import COMMAND_TYPES, Role, type_of
from orders.steps import StepRequest
from outbound.cloudevents import as_json, cloud_event
from outbound.relay.nats import subject_of
from outbound.rendering import RenderedEvent
from outbound.webhooks.secrets import SecretBox
from outbound.webhooks.signing import signed_headers
from privacy.address import Address
from privacy.keys import CustomerKey
from privacy.sealing import keyed_hash, unseal
from settings import Settings
from workflows.activity_options import STEP_ACTIVITIES, service_queue, stuck_queue
from workflows.order import OrderWorkflow

Json = dict[str, Any]

_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
_KEY = CustomerKey("key", "900", bytes(32))
_ADDRESS = Address(country="GB", name="Ada", line1="1 High St", city="York", postal_code="YO1 7HH")
_SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
_ENDPOINT_KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
_NOTE = {"note_id": "n", "text": "hello"}
_INTENT = Intent(messages=[{"type": "add-note", **_NOTE}])
_EVENT = Envelope(
    version=4,
    occurred_at=_AT,
    type="note-added",
    schema_version=1,
    data=_NOTE,
    metadata=Metadata(actor="ada", command="add-note", command_id="c", payload_hash="h"),
)

# Written once, and not by this code: nonces are random, and packers compress each in its own way.
_SEALED_ADDRESS = (
    "sealed.1.key.9PEZYJ25kKQzkoEVgnnM-Cp27W5x0HY3nvgIQ-"
    "HWQ4XOwH12ig22uMhS4ca2wgy8UxTQ6QsUVRdwIh6_YyePBrX87L1atVADNKAdWvTL_z-"
    "pQ70XQUBYjkg62Wt8_6tCRtdXHJLPQ5W74vlWxZ9Wi5TiKg"
)
_SEALED_SECRET = (
    "sealed-secret.1.wUOhEqZEOZpxLIiJBj8zWOIRjTVsabq1sVgRP8n5D1cbItRq0d3X0yN/FQJ+HROUEZrgEAOO"
    "ka0wrqZDaJEzcJGctPkTqjLR+07eqX24"
)
_PACKED_INTENT = "AWi//TxlIcNtNUZ9m4eocIEZKicf5HIAq5cVFA=="
_PACKED_WITH_DATA = "AWi/cJlu8sPtMIzaGFNzbC0Aq5cVFA=="


def derived() -> Json:
    """What other versions and systems must find the same; they rely on each part of it."""
    event = RenderedEvent(Checkpoint(1, 1), "ord_a", 4, "note-added", 1, b"{}")
    return {
        "id of an opened order": order_id_of("ada", "a key"),
        "id of a command": command_id_of("ada", "a key"),
        "hash of a payload": short_hash(canonical_payload("/v1/orders", b'{"b": 1, "a": 2}')),
        "hash of a payload with personal data": keyed_hash("a payload", _KEY),
        "hash of an order": order_hash("ord_a"),
        "event": json.loads(as_json(cloud_event("ord_a", _EVENT, "https://shop.example"))),
        "headers of a webhook": signed_headers([(Webhook(_SECRET), None)], _AT, "ord_a@4", b"{}"),
        "subject at NATS": subject_of(event),
        "calls of services": dict(_calls()),
        "task queues": _task_queues(),
        "arguments of queries": dict(_queries()),
        "arguments of activities": dict(_activities()),
        "role that sends a command": {
            type_of(command): command.role
            for command in COMMAND_TYPES
            if command.role is Role.CUSTOMER
        },
        "statuses of problems": {code: one.status for code, one in sorted(PROBLEM_TYPES.items())},
    }


def written() -> dict[str, str]:
    """What this version writes and others must read, by what it is."""
    return {
        "a cursor of the event feed": encode_cursor(Checkpoint(11, 22), 1),
        "a cursor of orders by time": encode_list_cursor("opened_at", _AT, "ord_a"),
        "a cursor of orders by total": encode_list_cursor("-total", 336, "ord_a"),
        "a cursor of webhook deliveries": encode_id_cursor(7),
        "an encrypted address": _SEALED_ADDRESS,
        "the secret of a webhook endpoint": _SEALED_SECRET,
        "a journal entry": _PACKED_INTENT,
        "a journal entry of an event": _PACKED_WITH_DATA,
    }


_IS_READ: Mapping[str, Callable[[str], bool]] = {
    "a cursor of the event feed": lambda text: decode_cursor(text) == (Checkpoint(11, 22), 1),
    "a cursor of orders by time": lambda text: bool(decode_list_cursor(text, "opened_at")),
    "a cursor of orders by total": lambda text: bool(decode_list_cursor(text, "-total")),
    "a cursor of webhook deliveries": lambda text: decode_id_cursor(text) == 7,
    "an encrypted address": lambda text: unseal(text, {_KEY.key_id: _KEY}) == _ADDRESS,
    "the secret of a webhook endpoint": lambda text: (
        SecretBox(_ENDPOINT_KEY).unseal(text, "ep_a") == _SECRET
    ),
    "a journal entry": lambda text: unpack(b64decode(text)) == _INTENT,
    "a journal entry of an event": lambda text: unpack(b64decode(text), _NOTE) == _INTENT,
}


def unreadable(examples: Mapping[str, str]) -> Iterator[str]:
    """What another version wrote and this one cannot read."""
    for name, text in examples.items():
        is_read = False
        with suppress(Exception):  # Each format has errors of its own.
            is_read = _IS_READ[name](text)
        if not is_read:
            yield name


def smallest(schema: Schema, root: Schema) -> Any:
    """The smallest value that a schema allows: only required fields, and one of each list."""
    if "$ref" in schema:
        return smallest(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if choices := schema.get("oneOf") or schema.get("anyOf"):
        return smallest(choices[0], root)
    if "const" in schema or "enum" in schema:
        return schema["const"] if "const" in schema else schema["enum"][0]
    match schema["type"]:
        case "object":
            required = {*schema.get("required", []), "type"} & schema["properties"].keys()
            parts = schema["properties"]
            return {name: smallest(parts[name], root) for name in sorted(required)}
        case "array":
            return [smallest(schema["items"], root)]
        case "integer":
            return max(1, schema.get("minimum", 1))
        case "boolean":
            return False
        case _:
            return "a"


def _task_queues() -> dict[str, str]:
    queue: str = Settings.model_fields["task_queue"].default
    return {
        "orders": queue,
        "calls of payments": service_queue(queue, "payments"),
        "repeated calls of payments": stuck_queue(queue, "payments"),
    }


def _queries() -> Iterator[tuple[str, list[str]]]:
    """By query of the workflow, the arguments that it needs."""
    definition = workflow._Definition.must_from_class(OrderWorkflow)
    for name, query in definition.queries.items():
        if name is not None:
            yield name, _needed(query.fn)


def _activities() -> Iterator[tuple[str, list[str]]]:
    """By activity, the arguments that it needs."""
    for class_ in (Publishing, Payments, Stock, Shipping):
        for member in vars(class_).values():
            if callable(member) and (definition := activity._Definition.from_callable(member)):
                assert definition.name is not None
                yield definition.name, _needed(member)


def _needed(function: Callable[..., Any]) -> list[str]:
    """The types of the arguments without a default, but for the first, which is `self`."""
    _, *parameters = inspect.signature(function).parameters.values()
    return [str(one.annotation) for one in parameters if one.default is inspect.Parameter.empty]


def _calls() -> Iterator[tuple[str, Json]]:
    """By activity, the request that it sends for the smallest step of its kind."""
    with ThreadPoolExecutor(1) as thread:  # Of its own: this one may run an event loop.
        for step, activity_name in STEP_ACTIVITIES.items():
            schema = TypeAdapter(step).json_schema()
            order = {"order_id": "ord_a", "customer_id": "900", "currency": "USD"}
            request = StepRequest.model_validate({**order, "step": smallest(schema, schema)})
            yield activity_name, thread.submit(asyncio.run, _sent(activity_name, request)).result()


async def _sent(activity_name: str, request: StepRequest) -> Json:
    """The request of a step, as its service gets it; it is not answered."""
    sent: list[Json] = []

    def record(received: httpx.Request) -> httpx.Response:
        headers = {
            name: value
            for name, value in received.headers.items()
            if name in ("authorization", "idempotency-key", "webhook-id", "content-type")
        }
        url = received.url.raw_path.decode()
        body = json.loads(received.content)
        sent.append({"request": f"{received.method} {url}", "headers": headers, "body": body})
        return httpx.Response(500)

    async with httpx.AsyncClient(transport=httpx.MockTransport(record)) as http:
        service = Service(http, "a service", "A", "http://service", Credentials("token", _SECRET))
        run: Mapping[str, Callable[[StepRequest], Awaitable[Any]]] = {
            name: getattr(bound, name)
            for bound in (Payments(service), Stock(service), Shipping(service, _unseal))
            for name in dir(bound)
            if name in STEP_ACTIVITIES.values()
        }
        with suppress(ApplicationError):
            await run[activity_name](request)
    [one] = sent
    return one


async def _unseal(_customer_id: str, _token: str) -> Json:
    return _ADDRESS.model_dump(exclude_none=True)
