"""Requests and callbacks race, repeat and arrive late: one wins, and the ledgers agree."""

from __future__ import annotations

import asyncio
import secrets

import httpx
import pytest

from dev.simulator_client import SimulatorError
from tests.support.callback_events import event, send_callback
from tests.support.servers import Running
from tests.support.shop import MILK, MILK_CENTS, SHIPPING, PlacedOrder, Shop

TOTAL = MILK_CENTS + SHIPPING
RACES = 8


async def test_concurrent_refunds_do_not_exceed_the_limit(shop: Shop) -> None:
    order = await shop.place_order(MILK)
    await order.ship()
    most_of_it = TOTAL - 100

    responses = await asyncio.gather(
        *(order.send("refund-payment", amount=most_of_it) for _ in range(2))
    )

    assert sorted(response.status_code for response in responses) == [200, 409]
    await order.wait_until_settled()
    assert (await order.payment_ledger())["refunded"] == most_of_it
    await order.assert_ledgers_agree()


async def race(order: PlacedOrder, by_command: bool, leaves_s: float, cancels_s: float) -> int:
    """Dispatches a shipment while its order is cancelled; returns the dispatch's status code."""
    shipment = await order.shipment_from("EAST")

    async def dispatch() -> int:
        await asyncio.sleep(leaves_s)
        if by_command:
            return (await order.send("dispatch-shipment", shipment_id=shipment)).status_code
        try:
            await order.move_shipment(shipment, "leave")
        except SimulatorError as error:
            return error.status or 0
        return 204

    async def cancel() -> httpx.Response:
        await asyncio.sleep(cancels_s)
        return await order.send("cancel-order")

    dispatched, cancelled = await asyncio.gather(dispatch(), cancel())
    assert cancelled.status_code in (200, 409), cancelled.text
    return dispatched


# The earlier the dispatch, the more likely it wins; in between, either may.
@pytest.mark.parametrize(
    ("by_command", "pause_s", "cancels_s"), [(True, 0.005, 0.018), (False, 0.06, 0)]
)
async def test_cancellation_races_dispatch_and_exactly_one_wins(
    shop: Shop, by_command: bool, pause_s: float, cancels_s: float
) -> None:
    orders = await asyncio.gather(*(shop.place_order(MILK) for _ in range(RACES)))
    await asyncio.gather(*(order.wait_until_settled(status="confirmed") for order in orders))

    responses = await asyncio.gather(
        *(race(order, by_command, n * pause_s, cancels_s) for n, order in enumerate(orders))
    )

    async def end(order: PlacedOrder, response: int) -> None:
        if response in (200, 204):
            await order.wait_until_settled(status="confirmed", fulfilment_status="shipped")
            payments = await order.payment_ledger()
            assert payments == {"authorised": 0, "captured": TOTAL, "refunded": 0}
        else:
            assert response == 409
            await order.wait_until_settled(status="cancelled", fulfilment_status="none")
            assert await order.payment_ledger() == {"authorised": 0, "captured": 0, "refunded": 0}
        await order.assert_ledgers_agree()

    await asyncio.gather(*(end(*race) for race in zip(orders, responses, strict=True)))


async def test_refund_that_was_not_requested_is_recorded_once(shop: Shop, orderly: Running) -> None:
    """Its id looks like that of a step which the order does not have."""
    order = await shop.place_order(MILK)
    await order.ship()
    before = await order.wait_until_settled()
    told = event("refund.done", {"order_id": order.order_id, "step_id": "refund-1"})

    for outcome in ("recorded", "accepted"):  # The second is a repetition.
        response = await send_callback(orderly, "payments", told, secrets.token_hex(8))
        assert (response.status_code, response.json()) == (200, {"outcome": outcome})

    await order.execute("add-note", text="one event came before this")
    assert order.version == before["version"] + 2
    assert len(await order.event_data("discrepancy-recorded")) == 1
    await order.assert_ledgers_agree()


async def test_repeated_or_late_callbacks_change_nothing(shop: Shop, orderly: Running) -> None:
    order = await shop.place_order(MILK)
    await order.ship()
    before = await order.wait_until_settled()
    (authorised,) = await order.event_data("payment-authorised")
    (captured,) = await order.event_data("payment-captured")
    about = {"order_id": order.order_id}
    approved = {"authorisation_id": authorised["step_id"], "reference": authorised["reference"]}
    events = [
        ("payments", "authorisation.approved", approved),
        ("payments", "capture.done", {"step_id": captured["step_id"]}),
        ("shipping", "shipment.dispatched", {"shipment_id": await order.shipment_from("EAST")}),
    ]

    for service, type_, data in events * 2:
        response = await send_callback(
            orderly, service, event(type_, about | data), secrets.token_hex(8)
        )
        assert (response.status_code, response.json()) == (200, {"outcome": "accepted"})

    await order.execute("add-note", text="nothing came before this")
    assert order.version == before["version"] + 1
    await order.assert_ledgers_agree()
