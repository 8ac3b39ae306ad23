"""Renders events of the log as other systems get them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from eventlog.feed import PublishedEvent
from eventlog.log import Checkpoint
from outbound.cloudevents import as_json, cloud_event
from outbound.event_data import public_events
from outbound.event_ids import event_id
from privacy.keys import ReadableKeys


class RenderedEvent(NamedTuple):
    """An event in the form in which it is sent."""

    checkpoint: Checkpoint
    order_id: str
    version: int
    type: str
    """Its tag, such as "item-added"."""
    schema_version: int
    body: bytes

    @property
    def event_id(self) -> str:
        """The id of the event, and of each of its deliveries."""
        return event_id(self.order_id, self.version)


async def render(
    events: Sequence[PublishedEvent], base_url: str, keys: ReadableKeys | None
) -> list[RenderedEvent]:
    """The events as the public feed shows them now; without keys, all addresses are unreadable."""
    if not events:
        return []
    shown = await public_events((event.envelope for event in events), keys)
    return [
        RenderedEvent(
            event.checkpoint,
            event.order_id,
            envelope.version,
            envelope.type,
            envelope.schema_version,
            as_json(cloud_event(event.order_id, envelope, base_url)).encode(),
        )
        for event, envelope in zip(events, shown, strict=True)
    ]
