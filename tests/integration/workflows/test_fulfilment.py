"""The whole life of an order, from placing to the last refund, and everybody's books after it."""

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


async def test_an_order_is_reserved_authorised_shipped_captured_delivered_and_sent_back(
    shop: Shop,
) -> None:
    order = await shop.sells(MILK)
    await order.settles(status="confirmed")
    total = MILK_CENTS + SHIPPING
    assert await order.money() == {"authorised": total, "captured": 0, "refunded": 0}
    assert (await order.stock())["held"] == {"MILK": 3}

    await order.leaves()
    assert await order.money() == {"authorised": 0, "captured": total, "refunded": 0}
    assert await order.stock() == {"held": {}, "withdrawn": {"MILK": 3}, "returned": {}}

    await order.arrives()
    await order.comes_back("milk", 3)
    await order.settles(return_status="returned", payment={"status": "partly_refunded"})
    assert (await order.money())["refunded"] == MILK_CENTS  # Its shipping was not for nothing.
    assert (await order.stock())["returned"] == {"MILK": 3}
    await order.assert_books_agree()


async def test_an_order_at_two_locations_travels_in_two_shipments_and_each_captures_its_share(
    shop: Shop,
) -> None:
    order = await shop.sells(MILK, BREAD)
    await order.settles(status="confirmed")
    east, west = await order.shipment_from("EAST"), await order.shipment_from("WEST")

    await order.carrier("leave", west)
    await order.settles(fulfilment_status="partly_shipped", payment={"status": "partly_captured"})
    assert (await order.money())["captured"] == BREAD_CENTS + SHIPPING
    await order.carrier("deliver", west)
    await order.carrier("leave", east)

    await order.settles(fulfilment_status="partly_delivered", payment={"status": "captured"})
    assert await order.money() == {"authorised": 0, "captured": BOTH_CENTS, "refunded": 0}
    await order.carrier("deliver", east)
    await order.settles(fulfilment_status="delivered")
    await order.assert_books_agree()


async def test_a_declined_card_is_followed_by_another_and_the_stock_is_held_once(
    shop: Shop,
) -> None:
    order = await shop.sells(MILK, payment_method="pm_declined")
    asked = await order.settles(status="awaiting_customer", awaits="payment")
    assert asked["payment"]["status"] == "failed"
    assert asked["deadline"]["name"] == "payment-answer"
    assert {"retry-payment", "cancel-order"} <= set(asked["allowed_commands"])

    await order.does("retry-payment", method="pm_card")

    await order.settles(status="confirmed", awaits=None)
    assert (await order.stock())["held"] == {"MILK": 3}
    assert len(await order.happened("stock-requested")) == 1
    await order.assert_books_agree()


async def test_who_accepts_a_shortfall_gets_and_pays_what_there_is(shop: Shop) -> None:
    order = await shop.sells(scarce(2, quantity=3))
    asked = await order.settles(status="awaiting_customer", awaits="shortfall")
    assert asked["missing"] == [piece("scarce", 1)]
    assert (await order.money())["authorised"] == 0, "nothing is authorised before it is agreed"

    await order.does("accept-shortfall")

    await order.settles(status="confirmed", total=2 * 1001 + SHIPPING)
    await order.leaves()
    assert (await order.money())["captured"] == 2 * 1001 + SHIPPING
    await order.assert_books_agree()


async def test_who_cancels_a_short_order_owes_and_holds_nothing(shop: Shop) -> None:
    order = await shop.sells(scarce(2, quantity=3), MILK)
    await order.settles(awaits="shortfall")

    await order.does("cancel-order", reason="then not")

    await order.settles(status="cancelled", cancel_reason="then not")
    await order.assert_books_agree()


async def test_part_of_an_order_leaves_first_and_the_parts_add_up_to_the_cent(shop: Shop) -> None:
    order = await shop.sells(MILK)
    await order.settles(status="confirmed")

    await order.does("create-shipment", shipment_id="first", lines=[piece("milk", 1)])
    await order.settles()
    await order.does("dispatch-shipment", shipment_id="first", tracking="ours-1")

    await order.settles(fulfilment_status="partly_shipped")
    assert (await order.money())["captured"] == ONE_MILK_CENTS + SHIPPING
    await order.leaves()
    assert await order.money() == {
        "authorised": 0,
        "captured": MILK_CENTS + SHIPPING,
        "refunded": 0,
    }
    await order.assert_books_agree()


async def test_what_was_captured_in_advance_is_not_captured_again_when_it_leaves(
    shop: Shop,
) -> None:
    order = await shop.sells(MILK)
    await order.settles(status="confirmed")

    await order.does("capture-payment", amount=777)
    await order.settles(payment={"status": "partly_captured"})
    assert (await order.money())["captured"] == 777
    too_much = await order.asks("capture-payment", amount=MILK_CENTS + SHIPPING - 777 + 1)
    assert (too_much.status_code, too_much.json()["code"]) == (409, "exceeds-authorised")

    await order.leaves()
    assert (await order.money())["captured"] == MILK_CENTS + SHIPPING
    await order.assert_books_agree()


async def test_goodwill_is_given_twice_but_never_beyond_what_was_captured(shop: Shop) -> None:
    order = await shop.sells(MILK)
    await order.leaves()

    for number in (1, 2):
        await order.does("refund-payment", refund_id=f"sorry-{number}", amount=50, reason="late")
    await order.settles(payment={"refunded": 100})
    too_much = await order.asks("refund-payment", amount=MILK_CENTS + SHIPPING - 100 + 1)
    assert (too_much.status_code, too_much.json()["code"]) == (409, "exceeds-captured")
    await order.does("refund-payment", amount=MILK_CENTS + SHIPPING - 100)

    await order.settles(payment={"status": "refunded"})
    await order.assert_books_agree()


async def test_sellable_pieces_go_back_to_the_shelf_and_damaged_ones_do_not(shop: Shop) -> None:
    order = await shop.sells(MILK)
    await order.leaves()
    await order.arrives()

    await order.comes_back("milk", 1, "sellable")
    await order.comes_back("milk", 1, "damaged")
    await order.settles(return_status="partly_returned")
    await order.does("request-return", return_id="last", lines=[piece("milk", 1)])
    await order.does("reject-return", return_id="last", reason="it is empty")

    await order.settles()
    assert (await order.stock())["returned"] == {"MILK": 1}
    assert (await order.money())["refunded"] == MILK_CENTS - ONE_MILK_CENTS
    await order.assert_books_agree()


async def test_an_amendment_is_foreseen_without_a_change_and_then_settled_as_foreseen(
    shop: Shop,
) -> None:
    order = await shop.sells(MILK)
    await order.settles(status="confirmed")
    await order.does("capture-payment", amount=700)
    before = await order.settles(payment={"captured": 700})
    seen = {"If-Match": f'"{before["version"]}"'}

    async def foreseen(unit_price: int, **terms: Any) -> httpx.Response:
        changes = [{"type": "change-line", "line_id": "milk", "unit_price": unit_price}]
        return await order.asks("amend-order/preview", changes=changes, **terms)

    dearer = (await foreseen(433, headers=seen)).json()
    assert (dearer["total_before"], dearer["total_after"]) == (before["total"], 1259 + SHIPPING)
    assert (dearer["to_authorise"], dearer["to_refund"]) == (300, 0)
    cheaper = (await foreseen(34)).json()
    assert cheaper["total_after"] == 62 + SHIPPING
    assert (cheaper["to_authorise"], cheaper["to_refund"]) == (0, 700 - 62 - SHIPPING)
    assert (await foreseen(1)).json()["code"] == "discount-exceeds-price"

    changes = [{"type": "change-line", "line_id": "milk", "unit_price": 34}]
    amended = await order.asks("amend-order", headers=seen, changes=changes)
    assert amended.status_code == 200, "it was only looked at: its version is what it was"
    assert [event["type"] for event in amended.json()["events"]] == cheaper["event_types"]
    await order.settles(payment={"refunded": cheaper["to_refund"]})
    stale = await foreseen(433, headers=seen)
    assert (stale.status_code, stale.json()["code"]) == (412, "version-conflict")
    await order.assert_books_agree()


async def test_a_held_order_asks_nobody_for_more_until_it_is_released(shop: Shop) -> None:
    order = await shop.sells(scarce(9, quantity=1, trouble="DOWNSTOCK"))
    await order.becomes(needs_attention=1)

    await order.does("hold-order", reason="is it fraud?")
    await shop.mends("stock", order)
    await order.does("retry-step")
    await order.settles(status="on_hold", lines={0: {"reserved": 1}})
    assert (await order.money())["authorised"] == 0
    await order.assert_books_agree()
    await order.does("release-order")

    await order.leaves()
    await order.assert_books_agree()


async def test_what_is_lost_on_its_way_is_paid_back(shop: Shop) -> None:
    order = await shop.sells(MILK, BREAD)
    await order.leaves()

    await order.carrier("fail", await order.shipment_from("EAST"), goods="lost")
    await order.settles(total=BREAD_CENTS + SHIPPING)
    await order.arrives()

    assert (await order.money())["refunded"] == MILK_CENTS
    assert (await order.stock())["returned"] == {}
    await order.assert_books_agree()


async def test_when_all_comes_back_undelivered_the_order_is_cancelled_and_no_charge_is_kept(
    shop: Shop,
) -> None:
    order = await shop.sells(MILK)
    await order.leaves()

    await order.carrier("fail", await order.shipment_from("EAST"), goods="returned")

    await order.settles(status="cancelled", fulfilment_status="none")
    assert (await order.money())["refunded"] == MILK_CENTS + SHIPPING
    assert (await order.stock())["returned"] == {"MILK": 3}
    await order.assert_books_agree()
