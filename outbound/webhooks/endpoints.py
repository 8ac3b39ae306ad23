"""Webhook endpoints as operators set them, in Postgres."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from eventlog.log import Checkpoint
from eventlog.postgres import Connection, Reader

ENDPOINTS_MAX = 200
OLD_SECRET_PERIOD = timedelta(days=1)
_LOCK = 7_306_093_652  # An arbitrary key: one registration at a time, so that the limit holds.


class TooManyEndpoints(Exception):
    """There are ENDPOINTS_MAX endpoints."""


class EndpointChanged(Exception):
    """The endpoint has another version than the caller expects."""

    def __init__(self, version: int) -> None:
        super().__init__(version)
        self.version = version


@dataclass(frozen=True)
class NewEndpoint:
    """An endpoint to register: where webhooks go, which, and how they are signed."""

    endpoint_id: str
    url: str
    event_types: tuple[str, ...] | None
    customer_id: str | None
    description: str | None
    base_url: str
    """The address of the API, for links in events."""
    secret: str
    """Sealed."""


@dataclass(frozen=True)
class Endpoint(NewEndpoint):
    """A registered endpoint. `version` counts its changes."""

    version: int
    old_secret: str | None
    """Sealed; it signs as well until `old_secret_until`."""
    old_secret_until: datetime | None
    status: str
    created_at: datetime
    updated_at: datetime
    resumed_at: datetime | None
    """When an operator last resumed it, or changed its URL or secret: then what waits is tried."""

    @property
    def target(self) -> tuple[object, ...]:
        """What stays the same as long as one delivery to it runs."""
        return self.url, self.event_types, self.customer_id, self.base_url


def new_endpoint_id() -> str:
    return f"we_{secrets.token_hex(8)}"


async def register(
    connection: Connection, new: NewEndpoint, start: Checkpoint, epoch: int
) -> Endpoint:
    """Stores an endpoint whose delivery begins after `start`; raises TooManyEndpoints."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        if await connection.fetchval("SELECT count(*) FROM webhook_endpoints") >= ENDPOINTS_MAX:
            raise TooManyEndpoints
        row = await connection.fetchrow(
            """
            INSERT INTO webhook_endpoints
                (endpoint_id, url, event_types, customer_id, description, base_url, secret)
            VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING *
            """,
            new.endpoint_id,
            new.url,
            new.event_types,
            new.customer_id,
            new.description,
            new.base_url,
            new.secret,
        )
        await connection.execute(
            "INSERT INTO webhook_health (endpoint_id) VALUES ($1)", new.endpoint_id
        )
        await connection.execute(
            "INSERT INTO webhook_cursors (cursor_id, endpoint_id, epoch, transaction_id, position)"
            " VALUES ($1, $1, $2, $3, $4)",
            new.endpoint_id,
            epoch,
            *start,
        )
    assert row is not None
    return _endpoint(row)


async def find(reader: Reader, endpoint_id: str) -> Endpoint | None:
    """The endpoint; None if there is none."""
    row = await reader.fetchrow(
        "SELECT * FROM webhook_endpoints WHERE endpoint_id = $1", endpoint_id
    )
    return _endpoint(row) if row else None


async def find_all(reader: Reader) -> list[Endpoint]:
    """All endpoints, the oldest first."""
    rows = await reader.fetch("SELECT * FROM webhook_endpoints ORDER BY created_at, endpoint_id")
    return [_endpoint(row) for row in rows]


# What `change` may set, which are names of columns.
CHANGEABLE = ("url", "event_types", "customer_id", "description")
# Makes the deliverer try at once what waits.
_RESUMED = "resumed_at = clock_timestamp()"


async def change(
    reader: Reader,
    endpoint_id: str,
    values: dict[str, Any],
    expected_versions: Sequence[int] | None,
) -> Endpoint | None:
    """Sets some of CHANGEABLE; None if the endpoint is unknown. Raises EndpointChanged.

    What waits is tried at once at a changed URL.
    """
    assert values.keys() <= set(CHANGEABLE)
    assignments = "".join(f", {name} = ${n}" for n, name in enumerate(values, 3))
    if "url" in values:
        assignments += f", {_RESUMED}"
    row = await reader.fetchrow(
        f"""
        UPDATE webhook_endpoints SET version = version + 1, updated_at = now(){assignments}
        WHERE endpoint_id = $1 AND ($2::int[] IS NULL OR version = ANY($2)) RETURNING *
        """,
        endpoint_id,
        expected_versions,
        *values.values(),
    )
    if row is None and (present := await find(reader, endpoint_id)) is not None:
        raise EndpointChanged(present.version)
    return _endpoint(row) if row else None


async def pause(reader: Reader, endpoint_id: str) -> Endpoint | None:
    """Stops delivery until `resume`; None if the endpoint is unknown."""
    return await _update(reader, endpoint_id, "status = 'paused'")


async def resume(reader: Reader, endpoint_id: str) -> Endpoint | None:
    """Continues delivery, and tries at once what waits; None if the endpoint is unknown."""
    return await _update(reader, endpoint_id, f"status = 'active', {_RESUMED}")


async def rotate_secret(reader: Reader, endpoint_id: str, secret: str) -> Endpoint | None:
    """Signs with `secret`, and for OLD_SECRET_PERIOD with the present one as well."""
    return await _update(
        reader,
        endpoint_id,
        f"old_secret = secret, old_secret_until = now() + $2, secret = $3, {_RESUMED}",
        OLD_SECRET_PERIOD,
        secret,
    )


async def delete(reader: Reader, endpoint_id: str) -> bool:
    """Deletes an endpoint, its cursors and its secrets; returns whether there was one."""
    deleted = await reader.execute(
        "DELETE FROM webhook_endpoints WHERE endpoint_id = $1", endpoint_id
    )
    return bool(deleted == "DELETE 1")


async def mark_gone(reader: Reader, endpoint_id: str, version: int) -> None:
    """Stops delivery to an endpoint that wants no further events, unless it has changed."""
    await reader.execute(
        "UPDATE webhook_endpoints SET status = 'gone', version = version + 1, updated_at = now()"
        " WHERE endpoint_id = $1 AND version = $2",
        endpoint_id,
        version,
    )


async def _update(
    reader: Reader, endpoint_id: str, assignments: str, *values: object
) -> Endpoint | None:
    row = await reader.fetchrow(
        f"UPDATE webhook_endpoints SET {assignments}, version = version + 1, updated_at = now()"
        " WHERE endpoint_id = $1 RETURNING *",
        endpoint_id,
        *values,
    )
    return _endpoint(row) if row else None


def _endpoint(row: asyncpg.Record) -> Endpoint:
    types = row["event_types"]
    return Endpoint(**{**dict(row), "event_types": tuple(types) if types is not None else None})
