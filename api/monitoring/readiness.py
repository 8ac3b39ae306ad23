"""The state of each dependency in words, and what it leaves able to be served."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import asyncpg
from temporalio.service import RPCError

from admin.readiness import OK, Readiness, reasons_of
from api.dependencies import Services
from api.monitoring.event_delivery import read_event_delivery
from background import within
from eventlog.postgres import OTHER_TABLES, UNAVAILABLE
from orders.steps import SERVICE_OF_STEP
from readside.engine import checkpoints, parking
from readside.freshness import HEARTBEAT_SECONDS_MAX, Freshness
from readside.order_view import projection as order_view
from readside.order_view.stuck_steps import Waiting, count_waiting_orders
from readside.registry import PROJECTIONS
from workflows.client import health_of
from workflows.unpublished import Unpublished, find_unpublished
from workflows.versions import Version, without_current
from workflows.worker_heartbeats import ABSENT_AFTER_SECONDS, UNVERSIONED, Workers

CHECK_SECONDS_MAX = 1.5
LAG_SECONDS_MAX = 5
UNKNOWN = "unknown: Temporal does not list workers"
NO_CURRENT_VERSION = "no version is current: `orderly versions` lists them"
READ_ONLY = "read-only"
FULL = "full: all of its connections are in use"


class State(NamedTuple):
    """The state of a projection, and whether reads can be served from it."""

    words: str
    is_serving: bool


class ReadSide(NamedTuple):
    """The state of Postgres and of what is in it; None and empty where it could not be read."""

    postgres: str
    projections: Mapping[str, State] = {}
    parked_orders: int | None = None


@dataclass(frozen=True)
class ServiceState:
    """The state of all that commands and reads need.

    None where it could not be counted, which does not affect readiness; nor do counted orders.
    """

    temporal: str
    workers: State
    """Without one, only asynchronous commands are accepted."""
    postgres: str
    projections: Mapping[str, State]
    """By name. Only that of orders affects readiness, if it has stopped or is not heard of: one
    that is behind still serves reads, which say how far."""
    waiting_orders: Mapping[str, Waiting] | None
    """Orders that wait for payments, stock and shipping, by service: a step is stuck or late."""
    parked_orders: int | None
    """Orders that a projection fails on, listed by `orderly projections parked`."""
    unpublished: Unpublished | None
    """Orders that have acknowledged what the log does not have, for some ten seconds."""
    worker_versions: Mapping[str, str] | None
    """The versions of the workers, if they are versioned. One without workers, that is not the
    current one, does not affect readiness: only its own orders wait."""
    failing_orders: int | None
    """Orders whose workflow tasks fail, listed by `orderly stuck`."""
    event_delivery: Mapping[str, str] | None
    """Webhooks, if there are endpoints, and each relay to a message broker. Does not affect
    readiness."""

    @property
    def by_dependency(self) -> dict[str, str]:
        """The state of each dependency, by its name."""
        servers = {
            "temporal": self.temporal,
            "workers": self.workers.words,
            "postgres": self.postgres,
        }
        return servers | {name: state.words for name, state in self.projections.items()}

    def readiness(self) -> Readiness:
        """Whether commands and reads can be served.

        Commands need Temporal and a worker, and reads Postgres and the orders' projection.
        """
        name = order_view.PROJECTION.name
        commands = reasons_of({"temporal": self.temporal})
        if not self.workers.is_serving:
            commands.append(f"workers: {self.workers.words}")
        reads = []
        if self.postgres not in (OK, READ_ONLY, FULL):
            reads.append(f"postgres: {self.postgres}")
        elif not self.projections[name].is_serving:
            reads.append(f"{name}: {self.projections[name].words}")
        # Commands that need no key continue.
        others = [f"postgres: {READ_ONLY}"] if self.postgres == READ_ONLY else []
        return Readiness({"commands": commands, "reads": reads}, self._shown(), others)

    def _shown(self) -> dict[str, Any]:
        waiting = self.waiting_orders
        return {
            "temporal": self.temporal,
            "workers": self.workers.words,
            "postgres": self.postgres,
            "projections": {name: state.words for name, state in self.projections.items()},
            "waiting_orders": waiting and {name: one.orders for name, one in waiting.items()},
            "parked_orders": self.parked_orders,
            "unpublished_orders": self.unpublished and self.unpublished.orders,
            "worker_versions": self.worker_versions,
            "failing_orders": self.failing_orders,
            "event_delivery": self.event_delivery,
        }


async def read_state(services: Services) -> ServiceState:
    """The state of the service as this process sees it, within two seconds."""
    temporal, readside, waiting, unpublished, delivery = await asyncio.gather(
        health_of(services.client),
        _readside(services.pool, services.freshness),
        _waiting_orders(services.pool),
        _unpublished_orders(services),
        _event_delivery(services.pool),
    )
    return ServiceState(
        temporal=temporal,
        workers=state_of_workers(services.workers, services.versions.versions or ()),
        postgres=readside.postgres,
        projections=readside.projections,
        waiting_orders=waiting,
        parked_orders=readside.parked_orders,
        unpublished=unpublished,
        worker_versions=_worker_versions(services.versions.versions),
        failing_orders=services.versions.failing_orders,
        event_delivery=delivery,
    )


def state_of_workers(workers: Workers, versions: Sequence[Version] = ()) -> State:
    """Whether commands can be executed, as far as the workers' heartbeats show."""
    present = workers.present()
    if present is None:
        return State(UNKNOWN, True)
    silence = workers.silence_seconds()
    if present and without_current(versions):
        return State(NO_CURRENT_VERSION, False)
    if present or silence <= ABSENT_AFTER_SECONDS:
        deserted = [one.name for one in versions if one.is_deserted and one.role == "current"]
        if deserted:
            return State(f"no worker of the current version {deserted[0]}", False)
        return State(OK, True)
    return State(f"no worker has been heard of for {silence:.0f} seconds", False)


def _worker_versions(versions: Sequence[Version] | None) -> dict[str, str] | None:
    if versions is None:
        return None
    return {
        version.name: f"no workers for {version.orders} orders" if version.is_deserted else OK
        for version in versions
        if version.name != UNVERSIONED
    }


async def _unpublished_orders(services: Services) -> Unpublished | None:
    try:
        search = find_unpublished(services.client, services.gateway.task_queue)
        return await within(CHECK_SECONDS_MAX, search)
    except (RPCError, TimeoutError):
        return None


async def _waiting_orders(pool: asyncpg.Pool) -> dict[str, Waiting] | None:
    try:
        return await within(CHECK_SECONDS_MAX, count_waiting_orders(pool, SERVICE_OF_STEP))
    except (*UNAVAILABLE, *OTHER_TABLES):
        return None


async def _event_delivery(pool: asyncpg.Pool) -> dict[str, str] | None:
    try:
        return await within(CHECK_SECONDS_MAX, read_event_delivery(pool))
    except (*UNAVAILABLE, *OTHER_TABLES):
        return None


async def _readside(pool: asyncpg.Pool, freshness: Freshness) -> ReadSide:
    try:
        return await within(CHECK_SECONDS_MAX, _read(pool, freshness))
    except UNAVAILABLE as error:
        return ReadSide(f"unreachable: {_message_of(error)}")
    except asyncpg.UndefinedTableError:
        return ReadSide("not migrated: run `orderly migrate`")


async def _read(pool: asyncpg.Pool, freshness: Freshness) -> ReadSide:
    # It touches the tables that commands and reads need: one that is locked makes it wait.
    row = await pool.fetchrow(
        """
        SELECT current_setting('transaction_read_only')::bool,
            current_setting('max_connections')::int
            - CASE WHEN current_setting('is_superuser')::bool THEN 0
              ELSE current_setting('superuser_reserved_connections')::int END
            - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')
        WHERE EXISTS (SELECT FROM order_events) IS NOT NULL
          AND EXISTS (SELECT FROM customer_keys) IS NOT NULL
          AND EXISTS (SELECT FROM order_view.orders) IS NOT NULL
        """
    )
    assert row is not None
    is_read_only, free_connections = row
    stopped = await checkpoints.stop_reasons(pool)
    parked = {one.order_id for one in await parking.parked_orders(pool)}
    postgres = READ_ONLY if is_read_only else OK if free_connections > 0 else FULL
    states = {p.name: _state_of(p.name, stopped, freshness) for p in PROJECTIONS}
    return ReadSide(postgres, states, len(parked))


def _state_of(projection: str, stopped: Mapping[str, str], freshness: Freshness) -> State:
    if projection in stopped:
        return State(f"stopped: {stopped[projection]}", False)
    progress = freshness.progress(projection)
    if progress is None:
        return State("no projector has been heard of yet", False)
    if progress.silence_seconds > HEARTBEAT_SECONDS_MAX:
        return State(f"no projector for {progress.silence_seconds:.0f} seconds", False)
    if progress.lag_ms > LAG_SECONDS_MAX * 1000:
        return State(f"{progress.lag_ms / 1000:.0f} seconds behind", True)
    return State(OK, True)


def _message_of(error: Exception) -> str:
    return str(error) or type(error).__name__
