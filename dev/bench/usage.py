"""What a stack has used so far: processor time, Postgres, Temporal; and what rates of it mean."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack

import asyncpg
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from dev.bench.load_generator import ReadCpu
from dev.stack import Stack
from workflows.history import runs_of

Usage = Mapping[str, float]
"""Amounts by name, of all orders together, of one command, or per second."""

COMPONENTS = ("api", "worker", "projector", "temporal", "postgres")
COMMITS, WAL, ROWS = "Postgres commits that write", "Postgres WAL bytes", "Postgres rows written"
LOG_ROWS, LOG_BYTES = "log rows", "log bytes, with indexes"
EVENTS, HISTORY_BYTES = "Temporal history events", "Temporal history bytes"
TRANSITIONS, ACTIONS = "Temporal state transitions", "Temporal actions"
STATISTICS_S = 11.0  # An idle session of Postgres reports what it wrote after ten seconds.
READERS = 20
SECONDS_PER_DAY = 86_400
SHARD_RATE = 50  # Above this rate of one shard Temporal warns: system.shardRPSWarnLimit.

_POSTGRES = f"""
SELECT pg_snapshot_xmax(pg_current_snapshot())::text::float8 AS "{COMMITS}",
    pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::float8 AS "{WAL}",
    (SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables)::float8 AS "{ROWS}",
    (SELECT count(*) FROM order_events)::float8 AS "{LOG_ROWS}",
    pg_total_relation_size('order_events')::float8 AS "{LOG_BYTES}"
"""
# https://docs.temporal.io/cloud/actions, as far as histories show it: retries of activities,
# queries and rejected updates are not among their events.
_ACTION_EVENTS = frozenset(
    {
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED,
        EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
        EventType.EVENT_TYPE_TIMER_STARTED,
        EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
    }
)


class Meter:
    """Reads what a stack has used."""

    def __init__(self, cpu: ReadCpu, postgres: asyncpg.Connection, client: Client) -> None:
        self._cpu = cpu
        self._postgres = postgres
        self._client = client

    @classmethod
    async def connect(cls, stack: Stack, cpu: ReadCpu, held: AsyncExitStack) -> Meter:
        """Connects to the servers of a stack until `held` is closed."""
        postgres = await asyncpg.connect(stack.postgres_dsn)
        held.push_async_callback(postgres.close)
        client = await Client.connect(stack.temporal_address, namespace=stack.temporal_namespace)
        return cls(cpu, postgres, client)

    async def machine(self) -> Usage:
        """Processor milliseconds by component, and what Postgres wrote."""
        [row], seconds = await self._postgres.fetch(_POSTGRES), self._cpu()
        return {name: 1000 * seconds[name] for name in COMPONENTS} | dict(row)

    async def temporal(self) -> Usage:
        """What Temporal has stored of all orders in the log, in all runs that it retains."""
        rows = await self._postgres.fetch("SELECT DISTINCT order_id FROM order_events")
        total: Counter[str] = Counter({EVENTS: 0, HISTORY_BYTES: 0, TRANSITIONS: 0, ACTIONS: 0})
        order_ids = iter([row["order_id"] for row in rows])

        async def read() -> None:
            for order_id in order_ids:
                total.update(await self._of_order(str(order_id)))

        await asyncio.gather(*(read() for _ in range(READERS)))
        return {name: float(number) for name, number in total.items()}

    async def _of_order(self, order_id: str) -> Counter[str]:
        total: Counter[str] = Counter()
        async for run in runs_of(self._client, order_id):
            total[EVENTS] += len(run.events)
            total[ACTIONS] += sum(event.event_type in _ACTION_EVENTS for event in run.events)
            handle = self._client.get_workflow_handle(order_id, run_id=run.run_id)
            info = (await handle.describe()).raw_description.workflow_execution_info
            total[HISTORY_BYTES] += info.history_size_bytes
            total[TRANSITIONS] += info.state_transition_count
        return total


def add(parts: Iterable[tuple[float, Usage]]) -> Usage:
    """The sum of some usages, each times a number."""
    total: Counter[str] = Counter()
    for times, usage in parts:
        total.update({name: times * amount for name, amount in usage.items()})
    return dict(total)


def at_rate(order: Usage, rate: float) -> Usage:
    """What orders at a rate per second need, if each uses as much as `order`."""
    per_second = {
        f"{name}, per second": rate * order[name]
        for name in (COMMITS, ROWS, LOG_ROWS, EVENTS, TRANSITIONS, ACTIONS)
    }
    return {
        **{f"{name}, cores": rate * order[name] / 1000 for name in COMPONENTS},
        **per_second,
        "Temporal history shards, at least": _power_of_two(rate * order[TRANSITIONS] / SHARD_RATE),
        "Postgres WAL, MB per second": rate * order[WAL] / 1e6,
        "log, GB per day": rate * order[LOG_BYTES] * SECONDS_PER_DAY / 1e9,
        "Temporal history, GB per day": rate * order[HISTORY_BYTES] * SECONDS_PER_DAY / 1e9,
    }


def _power_of_two(number: float) -> int:
    """The smallest that is not below it."""
    return 1 << max(math.ceil(number) - 1, 0).bit_length()
