"""What a person sees of an order in the Temporal Web UI, and what nobody may see there."""

from __future__ import annotations

from temporalio.api.enums.v1 import EventType

from orders.commands import AddNote, CancelOrder, PlaceOrder
from tests.support.command_builders import bagels, mail, new_order_id, opening
from tests.support.histories import current_details, runs_of
from tests.support.servers import Running
from tests.support.workflow_runs import ended, published
from workflows.order import CUSTOMER, STATUS

WAIT_SECONDS = 30.0


async def test_an_order_can_be_understood_by_looking_at_it(orderly: Running) -> None:
    order_id, gateway = new_order_id(), orderly.gateway
    handle = orderly.client.get_workflow_handle(order_id)
    await gateway.send(opening(order_id, bagels(), bagels()), WAIT_SECONDS)
    await published(orderly, order_id, 3)

    description = await handle.describe()
    assert await description.static_summary() == "customer 900, 2 lines, 1.00 USD"
    assert description.typed_search_attributes[CUSTOMER] == "900"
    assert description.typed_search_attributes[STATUS] == "draft"
    details = await current_details(orderly.client, order_id)
    assert "draft, 1.00 USD" in details
    assert "version 3" in details
    assert details.count("- 1 × ROLLS: BAGELS (1095275) at 0.50 USD: **0.50 USD**") == 2

    await gateway.send(mail(order_id, PlaceOrder()), WAIT_SECONDS)
    assert (await handle.describe()).typed_search_attributes[STATUS] == "placed"
    await gateway.send(mail(order_id, CancelOrder()), WAIT_SECONDS)
    await ended(orderly, order_id)
    ended_as = await handle.describe()
    assert ended_as.typed_search_attributes[STATUS] == "cancelled"
    assert await handle.result() == "cancelled at version 5"


async def test_each_publish_says_what_it_publishes(orderly: Running) -> None:
    order_id = new_order_id()
    await orderly.gateway.send(opening(order_id, bagels(), bagels(), PlaceOrder()), WAIT_SECONDS)
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


async def test_what_people_wrote_is_not_shown(orderly: Running) -> None:
    order_id = new_order_id()
    note = AddNote(text="leave it with Mrs Miller")
    await orderly.gateway.send(opening(order_id, note), WAIT_SECONDS)
    description = await orderly.client.get_workflow_handle(order_id).describe()
    shown = await current_details(orderly.client, order_id)
    shown += str(await description.static_summary()) + str(description.typed_search_attributes)
    assert "Miller" not in shown
