"""Histories of whole orders, recorded once and replayed by every later version of the code.

`python -m tests.support.recorded_histories NAME` records the scenario NAME with today's code. Never
record an existing one again: that would hide the very change that its replay is there to find. A
release that decides the past otherwise on purpose begins a new epoch: make the next folder in
`golden_histories`, and record all scenarios there (docs/releasing.md).
"""

from __future__ import annotations

import asyncio
import re
import sys

from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from orders.commands import (
    AddNote,
    ApplyDiscount,
    CancelOrder,
    ChangeItemQuantity,
    PlaceOrder,
    RemoveDiscount,
    RemoveItemFromOrder,
)
from orders.steps import ShipmentArrived
from tests.support.command_builders import bagels, message, opening
from tests.support.histories import GOLDEN_HISTORIES, GOLDEN_ORDER_ID, runs_of
from tests.support.recorded_reports import ended_by_time, reported
from tests.support.servers import TEMPORAL, Running, new_database, postgres_server, run_orderly
from tests.support.shop import BREAD, MILK, Shop, piece, scarce
from workflows import continuation
from workflows.continuation import HistoryBounds
from workflows.order import SEARCH_ATTRIBUTES

IDENTITY = "recorder"
# Orders continue as new at several points; each run costs a second in the sandbox.
BOUNDS = HistoryBounds(at_rest=100, forced=150, seconds_min=0.5)
DRAFT_COMMANDS = (
    (ApplyDiscount(discount_id="welcome", amount=50), AddNote(note_id="bell", text="ring twice")),
    (bagels().model_copy(update={"line_id": "more"}),),
    (ChangeItemQuantity(line_id="more", quantity=3),),
    (RemoveItemFromOrder(line_id="more"),),
    (RemoveDiscount(discount_id="welcome"),),
    (PlaceOrder(),),
    (PlaceOrder(),),
    (CancelOrder(reason="changed my mind"),),
)


async def record(name: str) -> None:
    """Runs a scenario against real servers and writes each run of its orders to a file."""
    continuation.HISTORY_BOUNDS = BOUNDS
    with postgres_server() as server:
        async with (
            await WorkflowEnvironment.start_local(
                dev_server_existing_path=str(TEMPORAL),
                data_converter=pydantic_data_converter,
                search_attributes=SEARCH_ATTRIBUTES,
                identity=IDENTITY,
            ) as environment,
            run_orderly(environment.client, await new_database(server)) as running,
        ):
            for which, order_id in enumerate(await SCENARIOS[name](running)):
                runs = reversed(await runs_of(environment.client, order_id))
                for number, run in enumerate(runs):
                    file = GOLDEN_HISTORIES / f"{name}-{which}-{number}.json"
                    file.write_text(without_stack_traces(run.to_json()))


def without_stack_traces(history: str) -> str:
    """A history in JSON without what names the folders of the machine that recorded it."""
    return re.sub(r'"stackTrace": "(?:[^"\\]|\\.)*"', '"stackTrace": ""', history)


async def draft_to_cancelled(running: Running) -> list[str]:
    gateway = running.gateway
    await gateway.execute(opening(GOLDEN_ORDER_ID, bagels()), 30)
    for number, commands in enumerate(DRAFT_COMMANDS):
        await gateway.execute(message(GOLDEN_ORDER_ID, *commands, key=str(number)), 30)
        await asyncio.sleep(0.2)  # So that each is published on its own.
    await running.client.get_workflow_handle(GOLDEN_ORDER_ID).result()
    return [GOLDEN_ORDER_ID]


async def fulfilled(running: Running) -> list[str]:
    """Three orders: one through most commands to its returns, one short of stock, one cancelled."""
    shop = Shop(running.http, running.simulators)
    kept = await shop.place_order(MILK, BREAD, place=False)
    address = {"name": "Ada", "line1": "1 Road", "postal_code": "1", "city": "X", "country": "GB"}
    await kept.execute("set-shipping-address", address=address)
    await kept.execute("set-shipping-charge", amount=300)
    await kept.execute("place-order", payment_method="pm_card")
    await kept.wait_until_settled(status="confirmed")
    await kept.execute("hold-order")
    await kept.execute("set-billing-address", address=address)
    await kept.execute("release-order")
    await kept.execute("capture-payment", amount=100)
    dearer = {"type": "change-line", "line_id": "bread", "unit_price": 260}
    await kept.execute("amend-order", changes=[dearer])
    await kept.wait_until_settled(status="confirmed")
    await kept.execute("create-shipment", lines=[piece("milk", 1)])
    await kept.wait_until_settled(status="confirmed")
    await kept.execute("cancel-lines", lines=[piece("bread", 1)])
    await kept.wait_until_settled(status="confirmed")
    *delivered, lost = await kept.shipment_ids()
    for shipment_id in (*delivered, lost):
        await kept.execute("dispatch-shipment", shipment_id=shipment_id)
    for shipment_id in delivered:
        await kept.execute("confirm-delivery", shipment_id=shipment_id)
    await kept.execute("report-delivery-failure", shipment_id=lost)
    back = next(line for line in (await kept.document())["lines"] if line["delivered"])["line_id"]
    await kept.return_pieces(back, 1)
    await kept.execute("refund-payment", amount=1)
    await kept.execute("retry-step")
    await kept.assert_ledgers_agree()

    short = await shop.place_order(MILK, scarce(1, 2), payment_method="pm_declined")
    await short.wait_until_settled(awaits="shortfall")
    await short.execute("accept-shortfall")
    await short.wait_until_settled(awaits="payment")
    await short.execute("retry-payment", method="pm_card")
    await short.ship()
    await short.deliver()
    await short.execute("request-return", return_id="no", lines=[piece("milk", 1)])
    await short.execute("reject-return", return_id="no")

    cancelled = await shop.place_order(MILK)
    await cancelled.wait_until_settled(status="confirmed")
    await cancelled.execute("cancel-order")
    await cancelled.wait_until_settled(status="cancelled")
    return [kept.order_id, short.order_id, cancelled.order_id]


async def asynchronous(running: Running) -> list[str]:
    """Asynchronous commands only, some of which are rejected."""
    gateway = running.gateway
    await gateway.enqueue(opening(GOLDEN_ORDER_ID, bagels()))
    for number, commands in enumerate(DRAFT_COMMANDS):
        await gateway.enqueue(message(GOLDEN_ORDER_ID, *commands, key=str(number)))
        await gateway.enqueue(message(GOLDEN_ORDER_ID, RemoveItemFromOrder(line_id="none")))
        await asyncio.sleep(0.2)
    await running.client.get_workflow_handle(GOLDEN_ORDER_ID).result()
    return [GOLDEN_ORDER_ID]


async def reopened(running: Running) -> list[str]:
    """The second run of an order: it had ended and was reopened by an asynchronous command."""
    await running.gateway.execute(opening(GOLDEN_ORDER_ID, CancelOrder()), 30)
    await running.client.get_workflow_handle(GOLDEN_ORDER_ID).result()
    await running.gateway.enqueue(message(GOLDEN_ORDER_ID, AddNote(text="one more thing")))
    await running.client.get_workflow_handle(GOLDEN_ORDER_ID).result()
    return [GOLDEN_ORDER_ID]


async def settled_by_hand(running: Running) -> list[str]:
    """A step and a discrepancy that a person settles."""
    shop = Shop(running.http, running.simulators)
    order = await shop.place_order({**MILK, "sku": "DOWNSTOCK-MILK"})
    (step,) = (await order.document())["pending"]
    by_hand = {"step_id": step["step_id"], "outcome": "done", "location": "EAST"}
    await order.execute("settle-step", reason="counted", **by_hand)
    await order.wait_until_settled(status="confirmed")
    arrived = ShipmentArrived(shipment_id="ghost")
    await running.gateway.execute(message(order.order_id, arrived), 30)
    resolve = {"discrepancy_id": "unknown-shipment:ghost", "reason": "another shop's"}
    await order.execute("resolve-discrepancy", **resolve)
    await asyncio.sleep(0.5)  # Until it is published.
    return [order.order_id]


SCENARIOS = {
    "reported": reported,
    "ended-by-time": ended_by_time,
    "settled-by-hand": settled_by_hand,
    "asynchronous": asynchronous,
    "reopened": reopened,
    "draft-to-cancelled": draft_to_cancelled,
    "fulfilled": fulfilled,
}

if __name__ == "__main__":
    asyncio.run(record(sys.argv[1]))
