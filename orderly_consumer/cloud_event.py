"""What all events have in common: the attributes of CloudEvents 1.0."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Data(BaseModel):
    """What happened. Fields that this version does not know are ignored."""

    model_config = ConfigDict(frozen=True)


class CloudEvent(BaseModel):
    """An event; `source` and `id` identify it for ever."""

    model_config = ConfigDict(frozen=True)

    id: str
    source: str
    type: str
    subject: str
    """The order id."""
    time: datetime
    cursor: str | None = Field(default=None, exclude=True)
    """Where to resume after this event; None if it did not come from a stream."""

    @property
    def order_id(self) -> str:
        return self.subject

    @property
    def version(self) -> int | None:
        """The order's version after this event; None if it is not of an order, such as a test."""
        order_id, _, version = self.id.rpartition("@")
        return int(version) if order_id == self.subject and version.isdecimal() else None


class OrderEvent(CloudEvent):
    """An event of an order."""

    sequence: str
    """The order's version after this event, zero-padded so that it sorts as text."""
    correlationid: str
    causationid: str
    actor: str
    traceparent: str | None = None


class UnknownEvent(CloudEvent):
    """An event of a type that this version does not know."""

    data: dict[str, Any]
