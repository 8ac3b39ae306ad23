"""Records Temporal histories of orders as files, which `make release-check` replays."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path

from temporalio.client import Client, WorkflowHistory

from cli.operations import writing
from workflows.history import runs_of
from workflows.visibility import orders_query

LISTED_MAX = 100_000


async def record(
    client: Client, task_queue: str, sample: int, folder: Path
) -> AsyncIterator[tuple[str, int]]:
    """Writes each run of a random sample of orders; yields the order ids and numbers of runs.

    Exits if the folder cannot be written.
    """
    listed = client.list_workflows(orders_query(task_queue), limit=LISTED_MAX)
    order_ids = sorted({run.id async for run in listed})
    for order_id in random.sample(order_ids, min(sample, len(order_ids))):
        runs: list[WorkflowHistory] = [run async for run in runs_of(client, order_id)]
        for number, run in enumerate(reversed(runs)):
            with writing(folder):
                (folder / f"{order_id}-{number}.json").write_text(run.to_json())
        yield order_id, len(runs)
