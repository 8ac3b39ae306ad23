"""An order in the Temporal Web UI: names, summaries and details, without personal data."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowUpdateFailedError

from orders.commands import AddNote, CancelOrder, PlaceOrder
from tests.support.command_builders import bagels, message, new_order_id, opening
from tests.support.histories import assert_replays, current_details, runs_of
from tests.support.servers import TEMPORAL, Running
from tests.support.workflow_runs import ended, published
from workflows.order import CUSTOMER, STATUS

WAIT_SECONDS = 30.0


async def test_web_ui_shows_summary_details_and_search_attributes(orderly: Running) -> None:
    order_id, gateway = new_order_id(), orderly.gateway
    handle = orderly.client.get_workflow_handle(order_id)
    await gateway.execute(opening(order_id, bagels(), bagels()), WAIT_SECONDS)
    await published(orderly, order_id, 3)

    description = await handle.describe()
    assert await description.static_summary() == "customer 900, 2 lines, 1.00 USD"
    assert description.typed_search_attributes[CUSTOMER] == "900"
    assert description.typed_search_attributes[STATUS] == "draft"
    details = await current_details(orderly.client, order_id)
    assert "draft, 1.00 USD" in details
    assert "version 3" in details
    assert details.count("- 1 × ROLLS: BAGELS (1095275) at 0.50 USD: **0.50 USD**") == 2

    await gateway.execute(message(order_id, PlaceOrder()), WAIT_SECONDS)
    assert (await handle.describe()).typed_search_attributes[STATUS] == "placed"
    await gateway.execute(message(order_id, CancelOrder()), WAIT_SECONDS)
    await ended(orderly, order_id)
    ended_as = await handle.describe()
    assert ended_as.typed_search_attributes[STATUS] == "cancelled"
    assert await handle.result() == "cancelled at version 5"


async def test_publish_activity_names_its_events(orderly: Running) -> None:
    order_id = new_order_id()
    await orderly.gateway.execute(opening(order_id, bagels(), bagels(), PlaceOrder()), WAIT_SECONDS)
    await published(orderly, order_id, 4)
    (history,) = await runs_of(orderly.client, order_id)
    (scheduled,) = [
        event
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    ]
    assert scheduled.user_metadata.summary.data == (
        b'"1 to 4: order-opened, item-added, order-placed"'
    )


async def test_notes_are_not_shown(orderly: Running) -> None:
    order_id = new_order_id()
    note = AddNote(text="leave it with Mrs Miller")
    await orderly.gateway.execute(opening(order_id, note), WAIT_SECONDS)
    description = await orderly.client.get_workflow_handle(order_id).describe()
    shown = await current_details(orderly.client, order_id)
    shown += str(await description.static_summary()) + str(description.typed_search_attributes)
    assert "Miller" not in shown


async def test_timeline_shows_each_command_by_its_own_name(orderly: Running) -> None:
    order_id, gateway = new_order_id(), orderly.gateway
    await gateway.execute(opening(order_id, bagels(), bagels()), WAIT_SECONDS)
    await gateway.execute(message(order_id, bagels()), WAIT_SECONDS)
    await gateway.enqueue(message(order_id, AddNote(text="leave it with Mrs Miller")))
    await gateway.execute(message(order_id, PlaceOrder(), CancelOrder()), WAIT_SECONDS)
    await ended(orderly, order_id)

    events = await shown_by_temporal(orderly, order_id)
    accepted = "workflowExecutionUpdateAcceptedEventAttributes"
    assert [e[accepted]["acceptedRequest"]["input"]["name"] for e in events if accepted in e] == [
        "open-order, add-item-to-order ×2",
        "add-item-to-order",
        "place-order, cancel-order",
    ]
    signaled = "workflowExecutionSignaledEventAttributes"
    assert [e[signaled]["signalName"] for e in events if signaled in e] == ["add-note"]


async def test_start_event_shows_the_opening(orderly: Running) -> None:
    shown = {}
    for asynchronous in (False, True):
        order_id, gateway = new_order_id(), orderly.gateway
        first = opening(order_id, bagels())
        await (gateway.enqueue(first) if asynchronous else gateway.execute(first, WAIT_SECONDS))
        started, *_ = await shown_by_temporal(orderly, order_id)
        (payload,) = started["workflowExecutionStartedEventAttributes"]["input"]["payloads"]
        shown[asynchronous] = json.loads(base64.b64decode(payload["data"]))
    command = {"type": "open-order", "customer_id": "900", "currency": "USD"}
    assert shown[False] == shown[True]
    assert shown[False]["opening"] == command
    assert shown[False]["snapshot"] is None


async def test_malformed_signals_and_updates_change_nothing(orderly: Running) -> None:
    order_id, gateway = new_order_id(), orderly.gateway
    handle = orderly.client.get_workflow_handle(order_id)
    await gateway.execute(opening(order_id), WAIT_SECONDS)
    for payload in ([], ["text"], [{"command_id": 1}], [None, None]):
        await handle.signal("place-order", args=payload)
        with pytest.raises(WorkflowUpdateFailedError):
            await handle.execute_update("place-order", args=payload)
    assert (await gateway.execute(message(order_id, bagels()), WAIT_SECONDS)).version == 2
    await assert_replays(await runs_of(orderly.client, order_id))


async def shown_by_temporal(orderly: Running, order_id: str) -> list[dict[str, Any]]:
    """The events of the order's last run, as the command line of Temporal shows them."""
    command = [
        *(str(TEMPORAL), "workflow", "show", "--workflow-id", order_id, "--output", "json"),
        *("--address", orderly.client.service_client.config.target_host),
    ]
    shown = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
    events: list[dict[str, Any]] = json.loads(shown.stdout)["events"]
    return events
