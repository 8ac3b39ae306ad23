"""What a history says of an order's events, also where another version wrote a part of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory

from cli.restore_differences import history_differences
from eventlog.envelope import Batch, Envelope
from orders.evolve import fold
from tests.support.given import bagels_added, opened, published
from workflows.activity_options import HEAD_OF_LOG, LOG_AFTER, PUBLISH_EVENTS
from workflows.comparison import Comparison, Run, by_version, compare, read_run
from workflows.data_converter import DATA_CONVERTER
from workflows.snapshot import Snapshot

EVENTS = published([opened, bagels_added], "opening")
MORE = [EVENTS[1].model_copy(update={"version": version}) for version in (3, 4)]
STARTED = EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED
SCHEDULED = EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
COMPLETED = EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED

Change = Callable[[dict[str, Any]], object]


def as_it_is(_: dict[str, Any]) -> None:
    pass


def without_quantities(snapshot: dict[str, Any]) -> None:
    """In the other version it has another name; the whole order is then unreadable."""
    for line in snapshot["order"]["lines"].values():
        line["pieces"] = line.pop("quantity")


def without_version(snapshot: dict[str, Any]) -> None:
    snapshot["order"]["revision"] = snapshot["order"].pop("version")


def without_order(snapshot: dict[str, Any]) -> None:
    snapshot["state"] = snapshot.pop("order")


def renamed_unpublished(snapshot: dict[str, Any]) -> None:
    snapshot["waiting"] = snapshot.pop("unpublished")


def unreadable_unpublished(snapshot: dict[str, Any]) -> None:
    for event in snapshot["unpublished"]:
        event["number"] = event.pop("version")


CHANGES = [as_it_is, without_quantities, without_version, without_order]
OF_VERSION_2 = Snapshot(made_by="another", order=fold([opened, bagels_added]))


async def started(change: Change, snapshot: Snapshot = OF_VERSION_2) -> list[HistoryEvent]:
    """The history of an idle run that began with a snapshot of another version."""
    content = snapshot.model_dump(mode="json")
    change(content)
    event = HistoryEvent(event_id=1, event_type=STARTED)
    event.workflow_execution_started_event_attributes.input.payloads.extend(
        await DATA_CONVERTER.encode([{"snapshot": json.loads(json.dumps(content))}])
    )
    return [event]


async def activity(run: list[HistoryEvent], name: str, argument: object, result: object) -> None:
    """Adds a completed activity to the history of a run."""
    first = HistoryEvent(event_id=len(run) + 1, event_type=SCHEDULED)
    begun = first.activity_task_scheduled_event_attributes
    begun.activity_type.name = name
    begun.input.payloads.extend(await DATA_CONVERTER.encode([argument]))
    last = HistoryEvent(event_id=len(run) + 2, event_type=COMPLETED)
    ended = last.activity_task_completed_event_attributes
    ended.scheduled_event_id = first.event_id
    ended.result.payloads.extend(await DATA_CONVERTER.encode([result]))
    run += [first, last]


async def compared(logged: list[Envelope], run: list[HistoryEvent]) -> Comparison:
    return compare(by_version(logged), [await read(run)])


async def read(run: list[HistoryEvent]) -> Run:
    return await read_run(WorkflowHistory("ord_1", run), DATA_CONVERTER)


@pytest.mark.parametrize("change", CHANGES)
async def test_run_that_began_in_another_version_lacks_nothing_of_the_log(change: Change) -> None:
    found = await compared(EVENTS, await started(change))
    assert (found.ahead, found.lost) == (0, [])
    assert not [*history_differences("ord_1", found, has_ended=False)], "nothing is to repair"


@pytest.mark.parametrize("change", [as_it_is, without_quantities])
async def test_what_a_run_of_another_version_lacks_is_found_by_its_version(change: Change) -> None:
    run = await started(change)
    assert (await compared([*EVENTS, *MORE], run)).ahead == 2
    assert (await compared(EVENTS[:1], run)).lost == [2]


@pytest.mark.parametrize("change", CHANGES)
async def test_what_a_run_of_another_version_published_is_missed(change: Change) -> None:
    run = await started(change)
    await activity(run, PUBLISH_EVENTS, Batch(order_id="ord_1", events=MORE[:1]), "digest")
    found = await compared(EVENTS, run)
    assert [event.version for event in found.missing] == [3]
    assert (await compared([*EVENTS, *MORE], run)).ahead == 1


async def test_run_that_began_with_unpublished_events_knows_them() -> None:
    snapshot = OF_VERSION_2.model_copy(update={"unpublished": EVENTS[1:]})
    run = await read(await started(without_order, snapshot))
    assert (run.base, run.head) == (1, 2)


@pytest.mark.parametrize("change", [renamed_unpublished, unreadable_unpublished])
async def test_of_a_run_whose_events_cannot_be_read_nothing_is_said(change: Change) -> None:
    """It may have published the last event or not, and may be about to read the log."""
    snapshot = OF_VERSION_2.model_copy(update={"unpublished": EVENTS[1:], "reopened": True})
    run = await started(change, snapshot)
    for logged in (EVENTS[:1], [*EVENTS, *MORE]):
        found = await compared(logged, run)
        assert (found.ahead, found.lost, found.missing) == (0, [], [])


async def test_run_that_reads_the_log_page_by_page_is_not_behind_it() -> None:
    run = await started(without_order)
    await activity(run, HEAD_OF_LOG, "ord_1", 4)
    await activity(run, LOG_AFTER, "ord_1", Batch(order_id="ord_1", events=EVENTS))
    assert (await compared([*EVENTS, *MORE], run)).ahead == 0
    await activity(run, LOG_AFTER, "ord_1", Batch(order_id="ord_1", events=MORE))
    assert (await read(run)).head == 4


async def test_new_order_knows_nothing_of_the_log() -> None:
    event = HistoryEvent(event_id=1, event_type=STARTED)
    event.workflow_execution_started_event_attributes.input.payloads.extend(
        await DATA_CONVERTER.encode([{"snapshot": None}])
    )
    assert (await compared(EVENTS, [event])).ahead == 2
