"""Activities over the event log: publish events, and read how far the log has come."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate

import asyncpg
from opentelemetry.trace import SpanKind
from temporalio import activity
from temporalio.exceptions import ApplicationError

import telemetry
from eventlog import log
from eventlog.announcements import Announcer
from eventlog.envelope import Batch, bytes_of, digest
from eventlog.journal import append_ineffective, read_no_ops
from eventlog.log import ConflictingEvent

# Temporal takes 2 MB.
PAGE_EVENTS_MAX = 1_000
PAGE_BYTES_MAX = 1_000_000

# By OpenTelemetry's semantic conventions.
_MESSAGING: Mapping[str, str | int] = {
    "messaging.system": "orderly",
    "messaging.destination.name": "order_events",
    "messaging.operation.name": "publish",
    "messaging.operation.type": "send",
}


class Publishing:
    """Activities over one pool of connections to the log; all are idempotent."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._announcer = Announcer(pool)

    @activity.defn
    async def publish_events(self, batch: Batch) -> str:
        """Appends a batch, and announces it soon after.

        Returns its digest, which the order compares with its own.
        """
        traceparents = (envelope.metadata.traceparent for envelope in batch.events)
        attributes = {**_MESSAGING, "messaging.batch.message_count": len(batch.events)}
        try:
            with telemetry.span_for_many(
                "publish events", SpanKind.PRODUCER, traceparents, attributes
            ):
                async with self._pool.acquire() as connection:
                    if batch.events:
                        await log.append(connection, batch.order_id, batch.events)
                    if batch.ineffective:
                        await append_ineffective(connection, batch.order_id, batch.ineffective)
        except ConflictingEvent as conflict:
            raise ApplicationError(
                str(conflict), type="conflicting-event", non_retryable=True
            ) from conflict
        self._announcer.announce_soon()
        return digest(batch.events)

    @activity.defn
    async def head_of_log(self, order_id: str) -> int:
        """The version of an order's last event in the log; 0 if there is none."""
        async with self._pool.acquire() as connection:
            return await log.head(connection, order_id)

    @activity.defn
    async def log_after(self, order_id: str, version: int) -> Batch:
        """An order's next events in the log after a version: as many as a result may hold.

        With the no-ops at the versions of these events.
        """
        async with self._pool.acquire() as connection:
            events = await log.read_stream(connection, order_id, version, PAGE_EVENTS_MAX)
            sizes = accumulate(bytes_of([envelope]) for envelope in events)
            count = max(1, sum(size <= PAGE_BYTES_MAX for size in sizes))
            page = events[:count]
            last = page[-1].version if page else version
            no_ops = await read_no_ops(connection, order_id, version + 1, last)
        return Batch(order_id=order_id, events=page, no_ops=no_ops)
