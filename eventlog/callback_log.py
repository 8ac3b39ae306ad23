"""The record of callbacks: which came, and what became of each, without what they said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from eventlog.postgres import Reader

KEPT_FOR = timedelta(days=30)
KEPT_MAX = 1_000_000
_PURGED_MAX = 20_000


@dataclass(frozen=True)
class Callback:
    """A callback as it was received; `code` says why it was rejected or refused."""

    received_at: datetime
    service: str
    message_id: str | None
    type: str | None
    order_id: str | None
    outcome: str
    code: str | None


@dataclass(frozen=True)
class RecordedCallback(Callback):
    """One that is recorded."""

    callback_id: int


@dataclass(frozen=True)
class CallbackFilter:
    """Which callbacks to find; None: any."""

    service: str | None = None
    outcome: str | None = None
    order_id: str | None = None


async def append(reader: Reader, callbacks: Sequence[Callback]) -> None:
    """Records callbacks."""
    await reader.execute(
        """
        INSERT INTO callbacks (received_at, service, message_id, type, order_id, outcome, code)
        SELECT * FROM unnest(
            $1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
            $7::text[]
        )
        """,
        [one.received_at for one in callbacks],
        [one.service for one in callbacks],
        [one.message_id for one in callbacks],
        [one.type for one in callbacks],
        [one.order_id for one in callbacks],
        [one.outcome for one in callbacks],
        [one.code for one in callbacks],
    )


async def find_page(
    reader: Reader, filter: CallbackFilter, before: int | None, limit: int
) -> list[RecordedCallback]:
    """The latest callbacks, the newest first, with ids below `before`."""
    values: list[object] = [limit]
    clauses = []
    conditions = {
        "callback_id <": before,
        "service =": filter.service,
        "outcome =": filter.outcome,
        "order_id =": filter.order_id,
    }
    for condition, value in conditions.items():
        if value is not None:
            values.append(value)
            clauses.append(f"{condition} ${len(values)}")
    where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
    rows = await reader.fetch(
        f"SELECT * FROM callbacks {where} ORDER BY callback_id DESC LIMIT $1", *values
    )
    return [RecordedCallback(**row) for row in rows]


async def purge(reader: Reader) -> None:
    """Deletes some of what is older than KEPT_FOR, or more than KEPT_MAX."""
    await reader.execute(
        """
        DELETE FROM callbacks WHERE callback_id IN (
            SELECT callback_id FROM callbacks ORDER BY callback_id LIMIT $3
        ) AND (received_at < now() - $1::interval
               OR callback_id <= (SELECT max(callback_id) FROM callbacks) - $2)
        """,
        KEPT_FOR,
        KEPT_MAX,
        _PURGED_MAX,
    )
