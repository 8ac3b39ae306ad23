"""Orders from placing to the last refund; afterwards, all services' ledgers agree."""

from __future__ import annotations

from typing import Any

import httpx

from tests.support.shop import (
    BREAD,
    BREAD_CENTS,
    MILK,
    MILK_CENTS,
    ONE_MILK_CENTS,
    SHIPPING,
    Shop,
    piece,
    scarce,
)

BOTH_CENTS = MILK_CENTS + BREAD_CENTS + SHIPPING


async def test_order_is_reserved_authorised_shipped_captured_delivered_and_returned(
    shop: Shop,
) -> None:
    order = await shop.place_order(MILK)
    await order.wait_until_settled(status="confirmed")
    total = MILK_CENTS + SHIPPING
    assert await order.payment_ledger() == {"authorised": total, "captured": 0, "refunded": 0}
    assert (await order.stock_ledger())["held"] == {"MILK": 3}

    await order.ship()
    assert await order.payment_ledger() == {"authorised": 0, "captured": total, "refunded": 0}
    assert await order.stock_ledger() == {"held": {}, "withdrawn": {"MILK": 3}, "returned": {}}

    await order.deliver()
    await order.return_pieces("milk", 3)
    await order.wait_until_settled(return_status="returned", payment={"status": "partly_refunded"})
    assert (await order.payment_ledger())["refunded"] == MILK_CENTS, (
        "the shipping charge is not refunded"
    )
    assert (await order.stock_ledger())["returned"] == {"MILK": 3}
    await order.assert_ledgers_agree()


async def test_order_from_two_locations_ships_twice_and_each_shipment_captures_its_share(
    shop: Shop,
) -> None:
    order = await shop.place_order(MILK, BREAD)
    await order.wait_until_settled(status="confirmed")
    east, west = await order.shipment_from("EAST"), await order.shipment_from("WEST")

    await order.move_shipment(west, "leave")
    await order.wait_until_settled(
        fulfilment_status="partly_shipped", payment={"status": "partly_captured"}
    )
    assert (await order.payment_ledger())["captured"] == BREAD_CENTS + SHIPPING
    await order.move_shipment(west, "deliver")
    await order.move_shipment(east, "leave")

    await order.wait_until_settled(
        fulfilment_status="partly_delivered", payment={"status": "captured"}
    )
    assert await order.payment_ledger() == {"authorised": 0, "captured": BOTH_CENTS, "refunded": 0}
    await order.move_shipment(east, "deliver")
    await order.wait_until_settled(fulfilment_status="delivered")
    await order.assert_ledgers_agree()


async def test_second_card_after_a_decline_reserves_no_stock_again(
    shop: Shop,
) -> None:
    order = await shop.place_order(MILK, payment_method="pm_declined")
    waiting = await order.wait_until_settled(status="awaiting_customer", awaits="payment")
    assert waiting["payment"]["status"] == "declined"
    assert waiting["deadline"]["name"] == "payment-answer"
    assert {"retry-payment", "cancel-order"} <= set(waiting["allowed_commands"])

    await order.execute("retry-payment", method="pm_card")

    await order.wait_until_settled(status="confirmed", awaits=None)
    assert (await order.stock_ledger())["held"] == {"MILK": 3}
    assert len(await order.event_data("stock-requested")) == 1
    await order.assert_ledgers_agree()


async def test_accepted_shortfall_ships_and_charges_the_available_pieces(shop: Shop) -> None:
    order = await shop.place_order(scarce(2, quantity=3))
    waiting = await order.wait_until_settled(status="awaiting_customer", awaits="shortfall")
    assert waiting["missing"] == [piece("scarce", 1)]
    assert (await order.payment_ledger())["authorised"] == 0, (
        "nothing is authorised before the customer accepts"
    )

    await order.execute("accept-shortfall")

    await order.wait_until_settled(status="confirmed", total=2 * 1001 + SHIPPING)
    await order.ship()
    assert (await order.payment_ledger())["captured"] == 2 * 1001 + SHIPPING
    await order.assert_ledgers_agree()


async def test_cancelled_shortfall_leaves_no_charge_and_no_reservation(shop: Shop) -> None:
    order = await shop.place_order(scarce(2, quantity=3), MILK)
    await order.wait_until_settled(awaits="shortfall")

    await order.execute("cancel-order", reason="then not")

    await order.wait_until_settled(status="cancelled", cancel_reason="then not")
    await order.assert_ledgers_agree()


async def test_partial_shipments_add_up_to_the_cent(shop: Shop) -> None:
    order = await shop.place_order(MILK)
    await order.wait_until_settled(status="confirmed")

    await order.execute("create-shipment", shipment_id="first", lines=[piece("milk", 1)])
    await order.wait_until_settled()
    await order.execute("dispatch-shipment", shipment_id="first", tracking="ours-1")

    await order.wait_until_settled(fulfilment_status="partly_shipped")
    assert (await order.payment_ledger())["captured"] == ONE_MILK_CENTS + SHIPPING
    await order.ship()
    assert await order.payment_ledger() == {
        "authorised": 0,
        "captured": MILK_CENTS + SHIPPING,
        "refunded": 0,
    }
    await order.assert_ledgers_agree()


async def test_amount_captured_in_advance_is_not_captured_again_on_dispatch(
    shop: Shop,
) -> None:
    order = await shop.place_order(MILK)
    await order.wait_until_settled(status="confirmed")

    await order.execute("capture-payment", amount=777)
    await order.wait_until_settled(payment={"status": "partly_captured"})
    assert (await order.payment_ledger())["captured"] == 777
    too_much = await order.send("capture-payment", amount=MILK_CENTS + SHIPPING - 777 + 1)
    assert (too_much.status_code, too_much.json()["code"]) == (409, "exceeds-authorised")

    await order.ship()
    assert (await order.payment_ledger())["captured"] == MILK_CENTS + SHIPPING
    await order.assert_ledgers_agree()


async def test_goodwill_refunds_never_exceed_the_captured_amount(shop: Shop) -> None:
    order = await shop.place_order(MILK)
    await order.ship()

    for number in (1, 2):
        await order.execute("refund-payment", refund_id=f"sorry-{number}", amount=50, reason="late")
    await order.wait_until_settled(payment={"refunded": 100})
    too_much = await order.send("refund-payment", amount=MILK_CENTS + SHIPPING - 100 + 1)
    assert (too_much.status_code, too_much.json()["code"]) == (409, "exceeds-captured")
    await order.execute("refund-payment", amount=MILK_CENTS + SHIPPING - 100)

    await order.wait_until_settled(payment={"status": "refunded"})
    await order.assert_ledgers_agree()


async def test_sellable_returns_are_restocked_and_damaged_ones_are_not(shop: Shop) -> None:
    order = await shop.place_order(MILK)
    await order.ship()
    await order.deliver()

    await order.return_pieces("milk", 1, "sellable")
    await order.return_pieces("milk", 1, "damaged")
    await order.wait_until_settled(return_status="partly_returned")
    await order.execute("request-return", return_id="last", lines=[piece("milk", 1)])
    await order.execute("reject-return", return_id="last", reason="it is empty")

    await order.wait_until_settled()
    assert (await order.stock_ledger())["returned"] == {"MILK": 1}
    assert (await order.payment_ledger())["refunded"] == MILK_CENTS - ONE_MILK_CENTS
    await order.assert_ledgers_agree()


async def test_amendment_preview_changes_nothing_and_matches_the_amendment(
    shop: Shop,
) -> None:
    order = await shop.place_order(MILK)
    await order.wait_until_settled(status="confirmed")
    await order.execute("capture-payment", amount=700)
    before = await order.wait_until_settled(payment={"captured": 700})
    seen = {"If-Match": f'"{before["version"]}"'}

    async def preview(unit_price: int, **terms: Any) -> httpx.Response:
        changes = [{"type": "change-line", "line_id": "milk", "unit_price": unit_price}]
        return await order.send("amend-order/preview", changes=changes, **terms)

    raised = (await preview(433, headers=seen)).json()
    assert (raised["total_before"], raised["total_after"]) == (before["total"], 1259 + SHIPPING)
    assert (raised["to_authorise"], raised["to_refund"]) == (300, 0)
    lowered = (await preview(34)).json()
    assert lowered["total_after"] == 62 + SHIPPING
    assert (lowered["to_authorise"], lowered["to_refund"]) == (0, 700 - 62 - SHIPPING)
    assert (await preview(1)).json()["code"] == "discount-exceeds-price"

    changes = [{"type": "change-line", "line_id": "milk", "unit_price": 34}]
    amended = await order.send("amend-order", headers=seen, changes=changes)
    assert amended.status_code == 200, "a preview must not change the version"
    assert [event["type"] for event in amended.json()["events"]] == [
        event["type"] for event in lowered["events"]
    ]
    await order.wait_until_settled(payment={"refunded": lowered["to_refund"]})
    stale = await preview(433, headers=seen)
    assert (stale.status_code, stale.json()["code"]) == (412, "version-conflict")
    await order.assert_ledgers_agree()


async def test_order_on_hold_begins_no_step_until_released(shop: Shop) -> None:
    order = await shop.place_order(scarce(9, quantity=1, prefix="DOWNSTOCK"))
    await order.wait_for(needs_attention=1)

    await order.execute("hold-order", reason="is it fraud?")
    await order.recover("stock")
    await order.execute("retry-step")
    await order.wait_until_settled(status="on_hold", lines={0: {"reserved": 1}})
    assert (await order.payment_ledger())["authorised"] == 0
    await order.assert_ledgers_agree()
    await order.execute("release-order")

    await order.ship()
    await order.assert_ledgers_agree()


async def test_lost_shipment_is_refunded(shop: Shop) -> None:
    order = await shop.place_order(MILK, BREAD)
    await order.ship()

    await order.move_shipment(await order.shipment_from("EAST"), "fail", goods="lost")
    await order.wait_until_settled(total=BREAD_CENTS + SHIPPING)
    await order.deliver()

    assert (await order.payment_ledger())["refunded"] == MILK_CENTS
    assert (await order.stock_ledger())["returned"] == {}
    await order.assert_ledgers_agree()


async def test_order_of_undelivered_shipments_is_cancelled_without_charges(
    shop: Shop,
) -> None:
    order = await shop.place_order(MILK)
    await order.ship()

    await order.move_shipment(await order.shipment_from("EAST"), "fail", goods="returned")

    await order.wait_until_settled(status="cancelled", fulfilment_status="none")
    assert (await order.payment_ledger())["refunded"] == MILK_CENTS + SHIPPING
    assert (await order.stock_ledger())["returned"] == {"MILK": 3}
    await order.assert_ledgers_agree()
