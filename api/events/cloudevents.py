"""The log's events as CloudEvents 1.0, and the cursors that mark places between them."""

from __future__ import annotations

import hashlib
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

import telemetry
from eventlog.envelope import Envelope
from eventlog.log import Checkpoint

TYPE_PREFIX = "orderly.order"
SCHEMAS_PATH = "/v1/schemas"
_PLACE = struct.Struct(">qq")
_CHECK_BYTES = 5  # With them a cursor has 28 characters and needs no padding.


class CloudEvent(BaseModel):
    """One event in the JSON format of CloudEvents 1.0; `(source, id)` names it for ever."""

    specversion: str = "1.0"
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    datacontenttype: str = "application/json"
    dataschema: str
    partitionkey: str
    sequence: str = Field(description="the order's version, in digits that sort as text")
    correlationid: str = Field(description="the trace of the request that began it")
    causationid: str = Field(description="the command that caused it")
    traceparent: str | None = None
    actor: str
    data: dict[str, Any] = Field(
        description='as `dataschema` says; an address is `{"erased": true}` once erased'
    )


def type_name(tag: str, schema_version: int) -> str:
    """The public name of an event's type: "orderly.order.item-added.v1"."""
    return f"{TYPE_PREFIX}.{tag}.v{schema_version}"


def cloud_event(order_id: str, event: Envelope, base_url: str) -> CloudEvent:
    """A public event in the format of CloudEvents."""
    about = event.metadata
    type_ = type_name(event.type, event.schema_version)
    trace_id = telemetry.trace_id(about.traceparent) if about.traceparent else None
    return CloudEvent(
        id=f"{order_id}@{event.version}",
        source=f"/orders/{order_id}",
        type=type_,
        subject=order_id,
        time=event.occurred_at,
        dataschema=f"{base_url.rstrip('/')}{SCHEMAS_PATH}/{type_}",
        partitionkey=order_id,
        sequence=f"{event.version:010}",
        correlationid=trace_id or about.command_id,
        causationid=about.command_id,
        traceparent=about.traceparent,
        actor=about.actor,
        data=event.data,
    )


def as_json(event: CloudEvent) -> str:
    """Without attributes that it has not: CloudEvents knows no nulls."""
    return event.model_dump_json(exclude_none=True)


def encode_cursor(place: Checkpoint) -> str:
    """A place in the log, to be handed out; opaque."""
    packed = _PLACE.pack(*place)
    # No secret: it keeps a slip from skipping events, and whoever forges one cheats only himself.
    check = hashlib.sha256(packed).digest()[:_CHECK_BYTES]
    return urlsafe_b64encode(packed + check).decode()


def decode_cursor(text: str) -> Checkpoint:
    """The place that a cursor marks; raises ValueError for one that we did not make."""
    decoded = urlsafe_b64decode(text)
    if len(decoded) != _PLACE.size + _CHECK_BYTES:
        raise ValueError("not as long as a cursor")
    place = Checkpoint(*_PLACE.unpack_from(decoded))
    if min(place) < 0 or encode_cursor(place) != text:
        raise ValueError("not as we would write it")
    return place
