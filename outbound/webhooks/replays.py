"""Replays: events that an endpoint gets once more, beside those that follow the log."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime

from eventlog import feed
from eventlog.epochs import read_epochs
from eventlog.feed import PublishedEvent
from eventlog.log import START, Checkpoint
from eventlog.postgres import Connection
from outbound.event_ids import event_id, parse_event_id
from outbound.webhooks.endpoints import Endpoint
from outbound.webhooks.log_reader import filter_of

REPLAYS_MAX = 10
EVENT_IDS_MAX = 1_000


class TooManyReplays(Exception):
    """The endpoint has REPLAYS_MAX replays that have not come to their end."""


async def replay_period(
    connection: Connection, endpoint: Endpoint, since: datetime | None, until: datetime | None
) -> str:
    """Delivers again what was published from `since` on, before `until`; returns the replay's id.

    It ends where the endpoint's own cursor is, which delivers all that follows. Raises
    TooManyReplays.
    """
    start = await feed.position_before(connection, since) if since else START
    row = await connection.fetchrow(
        "SELECT transaction_id, position FROM webhook_cursors WHERE cursor_id = $1",
        endpoint.endpoint_id,
    )
    end = Checkpoint(*row) if row else START
    if until is not None:
        end = min(end, await feed.position_before(connection, until))
    return await _begin(connection, endpoint, start, end, None)


async def select_events(
    connection: Connection, endpoint: Endpoint, event_ids: Sequence[str]
) -> list[PublishedEvent]:
    """The events with these ids that the endpoint's filter lets through, in commit order."""
    ids = [parse_event_id(event_id) for event_id in event_ids]
    return await feed.find_events(connection, ids, filter_of(endpoint))


async def replay_events(
    connection: Connection, endpoint: Endpoint, events: Sequence[PublishedEvent]
) -> str:
    """Delivers selected events again, at least one; returns the replay's id.

    Raises TooManyReplays.
    """
    first, last = events[0].checkpoint, events[-1].checkpoint
    start = Checkpoint(first.transaction_id, first.position - 1)
    ids = [event_id(event.order_id, event.envelope.version) for event in events]
    return await _begin(connection, endpoint, start, last, ids)


async def _begin(
    connection: Connection,
    endpoint: Endpoint,
    start: Checkpoint,
    end: Checkpoint,
    event_ids: list[str] | None,
) -> str:
    replay_id = f"wr_{secrets.token_hex(8)}"
    epochs = await read_epochs(connection)
    begun = await connection.execute(
        """
        INSERT INTO webhook_cursors
            (cursor_id, endpoint_id, epoch, transaction_id, position, until_transaction_id,
             until_position, event_ids)
        SELECT $1, endpoint_id, $3, $4, $5, $6, $7, $8 FROM webhook_endpoints
        WHERE endpoint_id = $2 AND $9 > (
            SELECT count(*) FROM webhook_cursors
            WHERE endpoint_id = $2 AND until_position IS NOT NULL)
        """,
        replay_id,
        endpoint.endpoint_id,
        epochs.current,
        *start,
        *end,
        event_ids,
        REPLAYS_MAX,
    )
    if begun != "INSERT 0 1":
        raise TooManyReplays
    return replay_id
