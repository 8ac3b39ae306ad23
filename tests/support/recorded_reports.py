"""Orders to record: services report what no request caused, and time ends some."""

from __future__ import annotations

from typing import Any

from orders.commands import OpenOrder, PlaceOrder
from orders.policy import Policy
from tests.support.command_builders import bagels, message, new_order_id
from tests.support.servers import Running
from tests.support.shop import BREAD, MILK, PlacedOrder, Shop

AT_ONCE = Policy(draft=1, return_window=1)


async def reported(running: Running) -> list[str]:
    """Three orders: one that arrives in the end, and two whose payments fail."""
    shop = Shop(running.http, running.simulators)
    await _arriving(shop)
    await _paid_late(shop)
    await _paid_in_vain(shop)
    return [order.order_id for order in shop.orders]


async def ended_by_time(running: Running) -> list[str]:
    """A draft that expires, and an order that is completed when its return window closes."""
    draft, order_id = new_order_id(), new_order_id()
    opening = OpenOrder(customer_id="900", currency="USD", policy=AT_ONCE)
    await running.gateway.execute(message(draft, opening, creates_order=True), 30)
    placing = message(order_id, opening, bagels(), PlaceOrder(), creates_order=True)
    placed = await running.gateway.execute(placing, 30)
    order = PlacedOrder(Shop(running.http, running.simulators), order_id, placed.version)
    await order.ship()
    await order.deliver()
    for each in (draft, order_id):
        await running.client.get_workflow_handle(each).result()
    return [draft, order_id]


async def _arriving(shop: Shop) -> None:
    order = await shop.place_order(MILK)
    await order.wait_until_settled(status="confirmed")
    about = {"order_id": order.order_id}
    loss = {"loss_id": "l", "line_id": "milk", "location": "EAST", "quantity": 1}
    await _control(order, "stock/control/losses", **about, **loss)
    await order.first_event("held-stock-lost")
    await order.wait_until_settled(status="confirmed")
    authorised = (await order.first_event("payment-authorised"))["step_id"]
    path = f"payments/control/authorisations/{order.order_id}/{authorised}/reduce"
    await _control(order, path, amount=100)
    await order.first_event("authorisation-reduced")
    await order.wait_until_settled(status="confirmed")
    changes = [
        {"type": "add-line", **BREAD},
        {"type": "change-shipping-charge", "amount": 300},
    ]
    await order.execute("amend-order", changes=changes)
    await order.wait_until_settled(status="confirmed")
    await order.execute("amend-order", changes=[{"type": "remove-line", "line_id": "bread"}])
    await order.ship()
    shipment_id, *_ = await order.shipment_ids("dispatched")
    again = {"shipment_id": shipment_id, "tracking": "T-2"}
    await _report(order, "shipping", "shipment.dispatched", **again)
    await order.first_event("tracking-changed")
    await order.deliver()
    await order.move_shipment(shipment_id, "revoke-delivery", reason="wrong door")
    await order.first_event("delivery-revoked")
    dispute = {**about, "chargeback_id": "c", "amount": 100}
    await _control(order, "payments/control/chargebacks", **dispute)
    await order.first_event("chargeback-opened")
    await _control(order, "payments/control/chargebacks", **dispute, state="lost")
    await order.first_event("chargeback-closed")
    refund = {"refund_id": "by-hand", "amount": 50}
    await _control(order, "payments/control/refunds", **about, **refund)
    await order.first_event("refund-recorded")
    await order.move_shipment(shipment_id, "fail", goods="returned")
    await order.first_event("delivery-failed")
    await order.wait_until_settled()


async def _paid_late(shop: Shop) -> None:
    order = await shop.place_order(MILK, payment_method="pm_down")
    await order.wait_for(needs_attention=1)
    await order.recover("payments")
    await order.execute("retry-step")
    await order.wait_until_settled(status="confirmed")
    await order.execute("cancel-order")
    await order.wait_until_settled(status="cancelled")


async def _paid_in_vain(shop: Shop) -> None:
    order = await shop.place_order(MILK, payment_method="pm_capture_declined")
    await order.ship()
    await order.wait_until_settled(awaits="payment")
    await order.execute("retry-payment", method="pm_capture_reversed")
    await order.first_event("capture-reversed")
    await order.wait_until_settled(awaits="payment")
    await order.execute("retry-payment", method="pm_refund_fails")
    await order.wait_until_settled(awaits=None)
    await order.execute("refund-payment", amount=100)
    await order.first_event("refund-reversed")
    await order.wait_until_settled()


async def _control(order: PlacedOrder, path: str, **body: Any) -> None:
    response = await order.shop.simulators.post(f"/{path}", json=body)
    assert response.status_code == 204, response.text


async def _report(order: PlacedOrder, service: str, type_: str, **data: Any) -> None:
    """A callback that contradicts the records of the service."""
    about = {"order_id": order.order_id, **data}
    await _control(order, f"{service}/control/callbacks", type=type_, data=about)
