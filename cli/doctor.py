"""Looks at settings and servers without asking a process of orderly: what is wrong, what to do."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime

import asyncpg
from temporalio.api.workflowservice.v1 import GetSystemInfoRequest
from temporalio.client import Client
from temporalio.service import RPCError

from admin.certificates import CertificateFile, files_of
from cli.status import TEMPORAL, WORKERS, Finding
from eventlog.migrate import pending
from eventlog.postgres import UNAVAILABLE, connect
from outbound.webhooks.endpoints import find_all
from outbound.webhooks.ownership import count_processes
from readside.engine import checkpoints, generations
from readside.engine.generations import LIVE
from readside.registry import PROJECTIONS
from settings import Settings
from workflows.client import (
    MissingSearchAttributes,
    UnknownNamespace,
    check_namespace,
    check_search_attributes,
)
from workflows.client import connect as connect_temporal
from workflows.order import SEARCH_ATTRIBUTES
from workflows.worker_heartbeats import heard_of

OK = "ok"
POSTGRES_MIN = 140_000  # As in `server_version_num`.
TEMPORAL_MIN = (1, 29, 1)
SKEW_SECONDS_MAX = 1.0
CHECK_SECONDS_MAX = 15.0
DAYS_MIN = 7  # Of a certificate, as in the alert.

# Settings without which orderly runs, and something does not work.
_ADVISABLE: Mapping[str, str] = {
    "payments_url": "steps of payments wait until ORDERLY_PAYMENTS_URL is set",
    "stock_url": "steps of stock wait until ORDERLY_STOCK_URL is set",
    "shipping_url": "steps of shipping wait until ORDERLY_SHIPPING_URL is set",
    "webhook_secret": "callbacks are rejected until ORDERLY_WEBHOOK_SECRET is set",
}


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """The state of each part, from the settings on; a remedy for each that is not ok."""
    for finding in _of_settings(settings):
        yield finding
    for finding in map(_of_certificate, files_of(settings)):
        yield finding
    for check in (_of_postgres(settings.postgres_dsn), _of_temporal(settings.task_queue)):
        try:
            async with asyncio.timeout(CHECK_SECONDS_MAX):
                for finding in await check:
                    yield finding
        except TimeoutError:
            hangs = f"no answer within {CHECK_SECONDS_MAX:g} s"
            yield Finding("servers", hangs, "look at the first that is not listed here")


def _of_settings(settings: Settings) -> Iterator[Finding]:
    missing = [name for name in _ADVISABLE if getattr(settings, name) is None]
    if not missing:
        yield Finding("settings", OK)
    for name in missing:
        yield Finding(name, "not set", _ADVISABLE[name])


def _of_certificate(file: CertificateFile) -> Finding:
    """The certificate that a process would read now."""
    renewal = "renew it, then restart what uses it"
    try:
        expires_at = file.expires_at()
    except (OSError, ValueError) as error:
        return Finding(file.use, f"{file.path} cannot be read: {error}", "name a file in PEM")
    days = (expires_at - datetime.now(UTC)).total_seconds() / 86_400
    if days > DAYS_MIN:
        return Finding(file.use, OK)
    how = "has expired" if days < 0 else f"expires in {days:.1f} days"
    state = f"the certificate {how}, at {expires_at:%Y-%m-%d %H:%M} UTC"
    return Finding(file.use, state, renewal)


async def _of_postgres(dsn: str) -> list[Finding]:
    try:
        connection = await connect(dsn)
    except (*UNAVAILABLE, asyncpg.PostgresError) as error:
        reason = str(error) or type(error).__name__
        return [Finding("postgres", reason, "check the server and ORDERLY_POSTGRES_DSN")]
    try:
        found = [await _server(connection), await _clock(connection), await _tables(connection)]
        if not found[-1].remedy:
            found += [await _projection(connection, p.name, p.version) for p in PROJECTIONS]
            found.append(await _deliverers(connection))
        return found
    finally:
        await connection.close()


async def _server(connection: asyncpg.Connection) -> Finding:
    row = await connection.fetchrow(
        "SELECT current_setting('server_version_num')::int, current_setting('server_version'),"
        " pg_is_in_recovery(), pg_has_role('pg_read_all_stats', 'USAGE')"
    )
    assert row is not None
    number, version, is_standby, sees_others = row
    if number < POSTGRES_MIN:
        return Finding("postgres", f"version {version}", "orderly needs 14 or newer")
    if is_standby:
        return Finding("postgres", "a standby", "name the primary in ORDERLY_POSTGRES_DSN")
    if not sees_others:
        remedy = "GRANT pg_read_all_stats to its role, to see transactions that hold back reads"
        return Finding("postgres", "the role does not see the transactions of others", remedy)
    return Finding("postgres", OK)


async def _clock(connection: asyncpg.Connection) -> Finding:
    """Compares the clocks; half of the round trip is the error of that."""
    began = time.time()
    theirs = await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())")
    skew = float(theirs) - (began + time.time()) / 2
    if abs(skew) <= SKEW_SECONDS_MAX:
        return Finding("clocks", OK)
    remedy = "set both by NTP; tokens, callbacks and deadlines go by them"
    return Finding("clocks", f"that of Postgres differs by {skew:.1f} s", remedy)


async def _tables(connection: asyncpg.Connection) -> Finding:
    if missing := await pending(connection):
        return Finding("migrations", f"pending: {', '.join(missing)}", "run `orderly migrate`")
    return Finding("migrations", OK)


async def _projection(connection: asyncpg.Connection, name: str, version: int) -> Finding:
    made_by = await generations.version_of(connection, name, LIVE)
    if made_by != version:
        state = f"its tables are of version {made_by}, the code is {version}"
        return Finding(name, state, f"run `orderly projections rebuild {name}`")
    if reason := (await checkpoints.stop_reasons(connection)).get(name):
        return Finding(name, f"stopped: {reason}", "docs/operations.md says how to start it again")
    return Finding(name, OK)


async def _deliverers(connection: asyncpg.Connection) -> Finding:
    endpoints, processes = await find_all(connection), await count_processes(connection)
    if endpoints and not processes:
        return Finding("webhooks", f"{len(endpoints)} endpoints wait", "start `orderly deliverer`")
    return Finding("webhooks", OK)


async def _of_temporal(task_queue: str) -> list[Finding]:
    try:
        client = await connect_temporal()
        await check_namespace(client)
        return [*await _namespace(client), await _workers(client, task_queue)]
    except (ConnectionError, RPCError) as error:
        return [Finding("temporal", str(error).rstrip("."), TEMPORAL)]
    except UnknownNamespace as error:
        return [Finding("temporal", "unusable", str(error).rstrip("."))]


async def _namespace(client: Client) -> list[Finding]:
    server = await client.workflow_service.get_system_info(GetSystemInfoRequest())
    found = [_of_version(server.server_version)]
    try:
        await check_search_attributes(client, (key.name for key in SEARCH_ATTRIBUTES))
    except MissingSearchAttributes as error:
        return [*found, Finding("search attributes", "missing", str(error))]
    return [*found, Finding("search attributes", OK)]


def _of_version(version: str) -> Finding:
    parts = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if parts and parts < TEMPORAL_MIN:
        remedy = "1.29.1 or newer is needed, which says which workers there are"
        return Finding("temporal", f"version {version}", remedy)
    return Finding("temporal", OK)


async def _workers(client: Client, task_queue: str) -> Finding:
    heard = await heard_of(client, task_queue)
    if heard is None:
        return Finding("workers", "unknown: Temporal does not list workers")
    if not heard.total():
        return Finding("workers", f"none is heard of on task queue {task_queue}", WORKERS)
    return Finding("workers", OK)
