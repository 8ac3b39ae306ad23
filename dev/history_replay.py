"""Replays the Temporal histories of orders with today's code, as a worker with an empty cache does.

An order whose history does not replay stands still from the next restart of a worker on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from temporalio.client import Client, WorkflowHistory

from workflows.history import all_runs_of
from workflows.replay import begun, replayer


@dataclass
class Replayed:
    """The number of replayed runs by order id, and why some did not replay."""

    runs: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


async def replay_orders(client: Client, order_ids: Iterable[str]) -> Replayed:
    """Replays every run of these orders that Temporal retains."""
    replayed = Replayed()

    async def histories() -> AsyncIterator[WorkflowHistory]:
        for order_id in order_ids:
            async for run in all_runs_of(client, order_id):
                replayed.runs[order_id] += 1
                yield run

    async with replayer().workflow_replay_iterator(begun(histories())) as results:
        async for result in results:
            if result.replay_failure is not None:
                subject = f"{result.history.workflow_id}, run {result.history.run_id}"
                replayed.failures.append(f"{subject}: {result.replay_failure}")
    return replayed
