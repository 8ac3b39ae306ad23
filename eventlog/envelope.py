"""The envelope of an event: the event itself, its version in the stream, and its metadata."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field
from pydantic_core import to_json

from orders.events import BY_TAG, OrderEvent
from orders.models import StoredModel
from orders.upcasting import UnreadableEvent, restore, stored_data, upcast


class Metadata(StoredModel):
    """What caused an event: the actor, the command, the request and the trace."""

    actor: str
    command: str
    """The type of the command that caused the event."""
    command_id: str
    """The id of the command batch, a hash of caller and idempotency key."""
    payload_hash: str
    """Hash of the batch as received: detects another request under the same idempotency key."""
    request_id: str | None = None
    """The caller's X-Request-Id, if it sent one."""
    traceparent: str | None = None


class Envelope(StoredModel):
    """One event of one order. `version` is its number in the order's stream, from 1."""

    version: int
    occurred_at: datetime
    type: str
    schema_version: int
    data: dict[str, Any]
    metadata: Metadata
    intent: str | None = None
    """What caused it, packed: on the first event of a batch, and only on its way to the log."""

    @classmethod
    def of(
        cls, event: OrderEvent, version: int, occurred_at: datetime, metadata: Metadata
    ) -> Envelope:
        return cls(
            version=version,
            occurred_at=occurred_at,
            type=event.type,
            schema_version=event.schema_version,
            data=stored_data(event),
            metadata=metadata,
        )

    def event(self) -> OrderEvent:
        """The event; raises UnreadableEvent if this release does not know its type or shape."""
        return restore(self.type, self.schema_version, self.data)

    def upcast(self) -> Envelope:
        """The event in its current schema version; unchanged if a newer release wrote it.

        For responses only: in the log, an event keeps the shape in which it was decided.
        """
        try:
            data = upcast(self.type, self.schema_version, self.data)
        except UnreadableEvent:
            return self
        known = BY_TAG[self.type].schema_version
        return self.model_copy(update={"data": data, "schema_version": known})


class Ineffective(StoredModel):
    """An intent that caused no event: a no-op or a rejection."""

    version: int
    """Of the order that decided."""
    decided_at: datetime
    command_id: str
    code: str | None = None
    """Of the rejection; None for a no-op."""
    intent: str
    """Packed."""


class NoOp(StoredModel):
    """A command batch that was accepted and changed nothing, without its content."""

    version: int
    """Of the order that decided."""
    decided_at: datetime
    command_id: str
    payload_hash: str


class Batch(StoredModel):
    """Consecutive events of one order: to be appended together, or a page of its log."""

    order_id: str
    events: list[Envelope]
    ineffective: list[Ineffective] = Field(default_factory=list)
    """To be appended: the inputs since the batch before that changed nothing."""
    no_ops: list[NoOp] = Field(default_factory=list)
    """Of a page: what the order accepted at these versions, and it changed nothing."""


def bytes_of(models: Iterable[BaseModel]) -> int:
    """The size of models as Temporal gets them: JSON in UTF-8, of which its limits count bytes."""
    return sum(len(to_json(model)) for model in models)


def digest(events: Sequence[Envelope]) -> str:
    """A hash of the events in a batch: equal only for the same events.

    Metadata and times are left out: they say how an event came about, not what it is.
    """
    contents = [[e.version, e.type, e.schema_version, e.data] for e in events]
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()[:32]
