"""Events in the format of CloudEvents 1.0."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

import telemetry
from eventlog.envelope import Envelope
from outbound.event_ids import event_id

TYPE_PREFIX = "orderly.order"
SCHEMAS_PATH = "/v1/schemas"
MEDIA_TYPE = "application/cloudevents+json"


class CloudEvent(BaseModel):
    """An event in the JSON format of CloudEvents 1.0; `source` and `id` identify it for ever."""

    specversion: str = "1.0"
    id: str
    source: str
    type: str
    subject: str
    time: datetime
    datacontenttype: str = "application/json"
    dataschema: str
    partitionkey: str
    sequence: str = Field(description="the order's version, zero-padded to sort as text")
    correlationid: str = Field(
        description="trace id of the first request; without one, `causationid`"
    )
    causationid: str = Field(description="id of what caused it; events with one cause share it")
    traceparent: str | None = None
    actor: str
    sentence: str | None = Field(
        None, description="of a read with `include=sentences`: the event in words, in English"
    )
    data: dict[str, Any] = Field(
        description='described by `dataschema`; an erased address is `{"erased": true}`,'
        ' one whose key is missing `{"unreadable": true}`'
    )


def type_name(tag: str, schema_version: int) -> str:
    """The public name of an event type, such as "orderly.order.item-added.v1"."""
    return f"{TYPE_PREFIX}.{tag}.v{schema_version}"


def cloud_event(
    order_id: str, event: Envelope, base_url: str, sentence: str | None = None
) -> CloudEvent:
    """A public event in the format of CloudEvents."""
    about = event.metadata
    type_ = type_name(event.type, event.schema_version)
    trace_id = telemetry.trace_id(about.traceparent) if about.traceparent else None
    return CloudEvent(
        id=event_id(order_id, event.version),
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
        sentence=sentence,
        data=event.data,
    )


def as_json(event: CloudEvent) -> str:
    """The event as JSON, without absent attributes: CloudEvents has no nulls."""
    return event.model_dump_json(exclude_none=True)
