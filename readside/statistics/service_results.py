"""Results of steps by external service and day, and the last failures of each service."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime

from pydantic import BaseModel, Field

from eventlog.log import SLICE, LoggedEvent
from eventlog.postgres import Connection, Reader
from orders.events import StepStuck
from orders.steps import SERVICE_OF_STEP, SERVICES
from readside.engine.projection import Projection, Streams, columns

_TABLES = """
CREATE TABLE orders (
    order_id text    PRIMARY KEY,
    version  integer NOT NULL
);
-- With the slice in the key, only one process updates a row, so none waits for another.
CREATE TABLE daily (
    day     date    NOT NULL,  -- in UTC
    service text    NOT NULL,
    outcome text    NOT NULL,  -- done, declined or stuck
    slice   integer NOT NULL,
    results bigint  NOT NULL,
    PRIMARY KEY (day, service, outcome, slice)
);
-- The last failure of each service in each slice.
CREATE TABLE failures (
    service     text        NOT NULL,
    slice       integer     NOT NULL,
    order_id    text        NOT NULL,
    step_id     text        NOT NULL,
    reason      text        NOT NULL,
    occurred_at timestamptz NOT NULL,
    PRIMARY KEY (service, slice)
);
"""

_DONE, _DECLINED, _STUCK = "done", "declined", "stuck"
# By type of event, the service that it is a result of, and the outcome.
_RESULTS = {
    "stock-reserved": ("stock", _DONE),
    "stock-short": ("stock", _DECLINED),
    "stock-released": ("stock", _DONE),
    "stock-withdrawn": ("stock", _DONE),
    "restocked": ("stock", _DONE),
    "payment-authorised": ("payments", _DONE),
    "payment-declined": ("payments", _DECLINED),
    "payment-captured": ("payments", _DONE),
    "capture-refused": ("payments", _DECLINED),
    "payment-voided": ("payments", _DONE),
    "payment-refunded": ("payments", _DONE),
    "shipment-booked": ("shipping", _DONE),
    "shipment-stopped": ("shipping", _DONE),
}
_STEP_STUCK = "step-stuck"
_Failure = tuple[str, str, str, str, datetime]
"""Service, order id, step id, reason, and when."""
_Result = tuple[str, date, str, str, _Failure | None]
"""Order id, day, service and outcome; of a stuck step, its failure."""


class DailyResults(BaseModel):
    """The results of a service on a day (UTC)."""

    day: date
    done: int
    declined: int = Field(description="answers that say no, such as a declined payment")
    stuck: int = Field(description="steps that failed until they needed a person")


class ServiceFailure(BaseModel):
    """A step that got stuck."""

    occurred_at: datetime
    order_id: str
    step_id: str
    reason: str


async def project(connection: Connection, streams: Streams) -> None:
    """Counts results under their day, and keeps the last failures."""
    await connection.execute(
        """
        INSERT INTO orders SELECT * FROM unnest($1::text[], $2::int[])
        ON CONFLICT (order_id) DO UPDATE SET version = excluded.version
        """,
        *columns((order_id, stream[-1].version) for order_id, stream in streams.items()),
    )
    results = list(_results(streams))
    if not results:
        return
    await connection.execute(
        f"""
        INSERT INTO daily SELECT day, service, outcome, {SLICE}, count(*)
        FROM unnest($1::text[], $2::date[], $3::text[], $4::text[])
             AS counted (order_id, day, service, outcome)
        GROUP BY 1, 2, 3, 4
        ON CONFLICT (day, service, outcome, slice) DO UPDATE
        SET results = daily.results + excluded.results
        """,
        *columns((order_id, day, *what) for order_id, day, *what, _ in results),
    )
    failures = [result[4] for result in results if result[4]]
    if failures:
        await _keep(connection, failures)


async def _keep(connection: Connection, failures: list[_Failure]) -> None:
    await connection.execute(
        f"""
        INSERT INTO failures
        SELECT DISTINCT ON (service, {SLICE})
               service, {SLICE}, order_id, step_id, reason, occurred_at
        FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[])
             AS failed (service, order_id, step_id, reason, occurred_at)
        ORDER BY service, {SLICE}, occurred_at DESC, order_id, step_id
        ON CONFLICT (service, slice) DO UPDATE
        SET order_id = excluded.order_id, step_id = excluded.step_id, reason = excluded.reason,
            occurred_at = excluded.occurred_at
        WHERE excluded.occurred_at >= failures.occurred_at
        """,
        *columns(failures),
    )


def _results(streams: Streams) -> Iterator[_Result]:
    """The results among new events."""
    for order_id, stream in streams.items():
        for logged in stream:
            day = logged.occurred_at.date()
            if logged.type in _RESULTS:
                yield order_id, day, *_RESULTS[logged.type], None
            elif failure := _failure(logged):
                yield order_id, day, failure[0], _STUCK, failure


def _failure(logged: LoggedEvent) -> _Failure | None:
    """The stuck step of an event; None for a type of step that this release does not know."""
    event = logged.event()
    if not isinstance(event, StepStuck):
        return None
    # A step's id begins with its type: see Order.next_step_id.
    service = SERVICE_OF_STEP.get(event.step_id.rpartition("-")[0])
    if service is None:
        return None
    return service, logged.order_id, event.step_id, event.reason, logged.occurred_at


async def by_day(reader: Reader, first: date, last: date) -> dict[str, list[DailyResults]]:
    """By service, the days with results from `first` to `last`, both included, in order."""
    rows = await reader.fetch(
        """
        SELECT service, day,
               coalesce(sum(results) FILTER (WHERE outcome = 'done'), 0) AS done,
               coalesce(sum(results) FILTER (WHERE outcome = 'declined'), 0) AS declined,
               coalesce(sum(results) FILTER (WHERE outcome = 'stuck'), 0) AS stuck
        FROM service_results.daily WHERE day BETWEEN $1 AND $2
        GROUP BY service, day ORDER BY day
        """,
        first,
        last,
    )
    days: dict[str, list[DailyResults]] = {service: [] for service in SERVICES}
    for service, *day in rows:
        days[service].append(
            DailyResults(**dict(zip(("day", "done", "declined", "stuck"), day, strict=True)))
        )
    return days


async def last_failures(reader: Reader) -> dict[str, list[ServiceFailure]]:
    """By service, the last failure of each slice of the orders, the newest first."""
    rows = await reader.fetch(
        """
        SELECT service, occurred_at, order_id, step_id, reason
        FROM service_results.failures ORDER BY occurred_at DESC, order_id
        """
    )
    found: dict[str, list[ServiceFailure]] = {service: [] for service in SERVICES}
    for row in rows:
        found[row["service"]].append(ServiceFailure(**row))
    return found


PROJECTION = Projection(
    name="service_results",
    version=1,
    tables=_TABLES,
    project=project,
    types=(*_RESULTS, _STEP_STUCK),
    pause_seconds=1,
)
