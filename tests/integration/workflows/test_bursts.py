"""In a burst of new orders, no task waits in Temporal's backlog until newer ones let it through."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHistory

from tests.support.event_log import AT
from tests.support.histories import runs_of
from tests.support.servers import Running
from tests.support.shop import BREAD, Shop

ORDERS = 30
BACKLOG = timedelta(seconds=5)
NEWER = timedelta(seconds=1)  # Parts of a queue may be that far apart.


async def test_burst_waits_for_no_poller(orderly: Running, shop: Shop) -> None:
    orders = await asyncio.gather(*(shop.place_order(BREAD) for _ in range(ORDERS)))
    for order in orders:
        await order.wait_until_settled(status="confirmed")
    tasks = [
        task
        for order in orders
        for run in await runs_of(orderly.client, order.order_id)
        for task in tasks_of(run)
    ]
    assert len(tasks) > 5 * ORDERS
    # On a busy machine all tasks wait, but none for newer ones.
    assert [task for task in tasks if task.waited > BACKLOG and task.was_overtaken(tasks)] == []


def test_overtaken_task_is_found() -> None:
    began = AT
    first, fair, newer, other = (
        Task(queue, began + timedelta(seconds=scheduled), began + timedelta(seconds=started))
        for queue, scheduled, started in (("a", 0, 6), ("a", 1, 7), ("a", 2, 3), ("b", 2, 3))
    )
    assert first.was_overtaken([first, newer, other])
    assert not first.was_overtaken([first, fair, other])


class Task(NamedTuple):
    """A task of an order: of its workflow, or the first attempt of an activity."""

    queue: str
    scheduled_at: datetime
    started_at: datetime

    @property
    def waited(self) -> timedelta:
        return self.started_at - self.scheduled_at

    def was_overtaken(self, tasks: Sequence[Task]) -> bool:
        """Whether a newer task of its queue was started before it."""
        return any(
            task.queue == self.queue
            and task.scheduled_at > self.scheduled_at + NEWER
            and task.started_at < self.started_at
            for task in tasks
        )


def tasks_of(run: WorkflowHistory) -> Iterator[Task]:
    """The tasks of a run that were started."""
    scheduled: dict[int, tuple[str, datetime]] = {}
    for event in run.events:
        at = event.event_time.ToDatetime()
        workflow_task = event.workflow_task_started_event_attributes
        activity = event.activity_task_started_event_attributes
        match event.event_type:
            case EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED:
                queue = event.workflow_task_scheduled_event_attributes.task_queue.name
                scheduled[event.event_id] = queue, at
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                queue = event.activity_task_scheduled_event_attributes.task_queue.name
                scheduled[event.event_id] = queue, at
            case EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED:
                yield Task(*scheduled[workflow_task.scheduled_event_id], at)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED if activity.attempt == 1:
                yield Task(*scheduled[activity.scheduled_event_id], at)
