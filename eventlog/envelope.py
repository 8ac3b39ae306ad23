"""An event on its way to the log and in it: the fact, its place in the stream, and who asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from orders.events import BY_TAG, OrderEvent
from orders.models import StoredModel
from orders.upcasting import UnreadableEvent, restore, stored_data, upcast


class Metadata(StoredModel):
    """Why an event is there: who asked for what, in which request, under which trace."""

    actor: str
    command: str
    """The type of the command that caused the event."""
    command_id: str
    """The id of the instruction, a hash of caller and idempotency key: the event's cause."""
    payload_hash: str
    """Of the instruction as received: tells a repeated request from another one under its key."""
    request_id: str | None = None
    """The caller's own X-Request-Id, if there was one."""
    traceparent: str | None = None


class Envelope(StoredModel):
    """One event of one order. `version` is its place in the order's stream, from 1 on."""

    version: int
    occurred_at: datetime
    type: str
    schema_version: int
    data: dict[str, Any]
    metadata: Metadata

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
        """The fact itself; raises UnreadableEvent if this version cannot know it."""
        return restore(self.type, self.schema_version, self.data)

    def upcast(self) -> Envelope:
        """The same in today's shape, to be shown; unchanged if it comes from a newer version.

        Not for what goes to the log: there each event stays as it was decided.
        """
        try:
            data = upcast(self.type, self.schema_version, self.data)
        except UnreadableEvent:
            return self
        known = BY_TAG[self.type].schema_version
        return self.model_copy(update={"data": data, "schema_version": known})


class Batch(StoredModel):
    """Consecutive events of one order, to be appended together."""

    order_id: str
    events: list[Envelope]


def digest(events: Sequence[Envelope]) -> str:
    """A fingerprint of the facts in a batch: equal if and only if they are the same facts.

    Metadata and times stay out: they say how a fact came about, not what it is.
    """
    facts = [[e.version, e.type, e.schema_version, e.data] for e in events]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
