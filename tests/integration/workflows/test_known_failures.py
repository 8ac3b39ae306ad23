"""Failures known from other order systems that only occur between real servers."""

from __future__ import annotations

import asyncio
import secrets

from tests.support.shop import MILK, MILK_CENTS, SHIPPING, Shop, scarce

TOTAL = MILK_CENTS + SHIPPING
AT_ONCE = 8


async def test_retried_create_opens_one_order(shop: Shop) -> None:
    key = secrets.token_hex(8)

    orders = await asyncio.gather(
        *(shop.place_order(MILK, customer_id=key, key=key) for _ in range(5))
    )

    assert len({order.order_id for order in orders}) == 1
    await orders[0].wait_until_settled(status="confirmed")
    listed = await shop.http.get("/v1/orders", params={"customer_id": key})
    assert len(listed.json()["items"]) == 1
    assert await orders[0].payment_ledger() == {"authorised": TOTAL, "captured": 0, "refunded": 0}
    await orders[0].assert_ledgers_agree()


async def test_order_is_not_confirmed_after_its_cancellation_raced_a_payment(
    shop: Shop,
) -> None:
    """Callback, response and cancellation of one payment, in every order."""

    async def live(wait_s: float) -> None:
        order = await shop.place_order(MILK, payment_method="pm_callback_first")
        await asyncio.sleep(wait_s)
        await order.execute("cancel-order")
        await order.wait_until_settled(status="cancelled")
        types = [event["type"] for event in await order.history()]
        assert types.count("payment-authorised") <= 1
        assert "order-confirmed" not in types[types.index("order-cancellation-requested") :]
        assert "payment-refunded" not in types, "nothing was captured"
        await order.assert_ledgers_agree()

    await asyncio.gather(*(live(number * 0.05) for number in range(AT_ONCE)))


async def test_concurrent_orders_do_not_oversell(shop: Shop) -> None:
    """Seven pieces, and eight orders of two each: three get two, one gets the last."""
    last = scarce(7, quantity=2)

    orders = await asyncio.gather(*(shop.place_order(last) for _ in range(AT_ONCE)))
    settled = await asyncio.gather(*(order.wait_until_settled() for order in orders))

    reserved = sorted(shown["lines"][0]["reserved"] for shown in settled)
    assert reserved == [0] * 4 + [1] + [2] * 3
    for shown in settled:
        is_whole = shown["lines"][0]["reserved"] == 2
        assert shown["status"] == ("confirmed" if is_whole else "awaiting_customer")
    for order in orders:
        await order.assert_ledgers_agree()


async def test_stock_of_a_cancelled_order_is_available_to_the_next(shop: Shop) -> None:
    """Stock that stayed reserved would leave the second order short."""
    last = scarce(2, quantity=2)
    first = await shop.place_order(last)
    await first.wait_until_settled(status="confirmed")
    second = await shop.place_order(last)
    await second.wait_until_settled(awaits="shortfall")

    await first.execute("cancel-order")
    await first.wait_until_settled(status="cancelled")
    await second.execute("amend-order", changes=[{"type": "change-shipping-charge", "amount": 0}])

    await second.wait_until_settled(status="confirmed", lines={0: {"reserved": 2}})
    for order in (first, second):
        await order.assert_ledgers_agree()


async def test_second_amendment_of_the_same_version_is_rejected(shop: Shop) -> None:
    """Two callers amend the same version: the second gets a version conflict."""
    order = await shop.place_order(MILK)
    shown = await order.wait_until_settled(status="confirmed")
    if_match = {"If-Match": f'"{shown["version"]}"'}
    to = [[{"type": "change-line", "line_id": "milk", "quantity": n}] for n in (4, 5)]

    responses = await asyncio.gather(
        *(order.send("amend-order", headers=if_match, changes=changes) for changes in to)
    )

    assert sorted(response.status_code for response in responses) == [200, 412]
    await order.wait_until_settled(status="confirmed")
    assert len(await order.event_data("order-amended")) == 1
    await order.assert_ledgers_agree()


async def test_second_equal_refund_is_not_a_duplicate(shop: Shop) -> None:
    """The same amount twice on purpose, and repeated once after a lost response."""
    order = await shop.place_order(MILK)
    await order.ship()
    keys = [{"Idempotency-Key": secrets.token_hex(8)} for _ in range(2)]

    for key in (*keys, keys[1]):
        response = await order.send("refund-payment", headers=key, amount=100, reason="late")
        assert response.status_code == 200, response.text

    await order.wait_until_settled(payment={"refunded": 200})
    assert (await order.payment_ledger())["refunded"] == 200
    await order.assert_ledgers_agree()


async def test_order_full_of_notes_can_be_shipped_and_returned(shop: Shop) -> None:
    """The limit on notes leaves room for the reports of the carrier and the end of the order."""
    order = await shop.place_order(MILK)
    await order.wait_until_settled(status="confirmed")
    notes = [{"type": "add-note", "text": "n" * 1000} for _ in range(200)]
    while (
        response := await shop.http.post(f"{order.path}/commands", json={"commands": notes})
    ).is_success:
        order.version = response.json()["version"]
        await order.document()  # Commands are refused if the log does not keep up.
    assert (response.status_code, response.json()["code"]) == (409, "too-many-notes")

    await order.ship()
    await order.deliver()
    await order.return_pieces("milk", 3)
    await order.wait_until_settled(payment={"refunded": MILK_CENTS})
    assert (await order.payment_ledger())["refunded"] == MILK_CENTS
