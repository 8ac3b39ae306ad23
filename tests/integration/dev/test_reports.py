"""Each report of a service, from the simulator through the callback to the order.

The names of the cases are the rows of the table in docs/contracts.md.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from api.callbacks.payloads import EVENTS
from tests.support.paths import ROOT
from tests.support.shop import MILK, MILK_CENTS, ONE_MILK_CENTS, SHIPPING, PlacedOrder, Shop

TOTAL = MILK_CENTS + SHIPPING
Case = Callable[[Shop], Awaitable[None]]
CASES: dict[str, Case] = {}
CONCURRENT_CASES = 8
SECONDS_MAX = 60  # On a busy machine.


def case(row: str) -> Callable[[Case], Case]:
    def add(function: Case) -> Case:
        CASES[row] = function
        return function

    return add


@pytest.mark.parametrize("service", EVENTS)
async def test_reports_are_applied_repeated_or_recorded(shop: Shop, service: str) -> None:
    slots = asyncio.Semaphore(CONCURRENT_CASES)

    async def run(row: str) -> None:
        async with slots:
            try:
                await CASES[row](shop)
            except Exception as error:
                error.add_note(f"in the case {row!r}")
                raise

    rows = [row for row in CASES if row.split()[0] in EVENTS[service]]
    await asyncio.gather(*map(run, rows))


def test_each_kind_of_report_is_in_the_docs_and_has_a_case() -> None:
    document = (ROOT / "docs" / "contracts.md").read_text()
    row = r"^\| `([a-z]+\.[a-z-]+)` \|[^|]*\| (\w+)(?: `([a-z-]+)`)?"
    rows = re.findall(row, document, re.MULTILINE)
    listed = {f"{event} {kind}" if kind else event for event, _, kind in rows}
    assert listed == set(CASES)
    reported = {event for service in EVENTS.values() for event in service}
    assert {event for event, _, _ in rows} == reported
    assert recordable_kinds() <= {kind for _, _, kind in rows}


def recordable_kinds() -> set[str]:
    """The kinds of discrepancy that the rules of reports name."""
    rules = [path.read_text() for path in (ROOT / "orders" / "rules").glob("*_reports.py")]
    found = re.findall(r'(?:PAYMENTS|STOCK|SHIPPING), f?"([a-z-]+)"', "".join(rules))
    assert len(found) > 8
    return set(found)


async def placed(shop: Shop, method: str = "pm_card") -> PlacedOrder:
    order = await shop.place_order(MILK, payment_method=method)
    await order.wait_until_settled(status="confirmed")
    return order


async def shipped(shop: Shop, method: str = "pm_card") -> PlacedOrder:
    order = await placed(shop, method)
    await order.ship()
    return order


async def cancelled(shop: Shop) -> tuple[PlacedOrder, str]:
    """A cancelled order, and its stopped shipment."""
    order = await placed(shop)
    (shipment_id,) = await order.shipment_ids()
    await order.execute("cancel-order")
    await order.wait_until_settled(status="cancelled")
    return order, shipment_id


async def report(order: PlacedOrder, service: str, type_: str, **data: Any) -> None:
    """The service sends a callback that contradicts its records."""
    await control(order, f"{service}/control/callbacks", type=type_, data=about(order) | data)


async def control(order: PlacedOrder, path: str, **body: Any) -> None:
    response = await order.shop.simulators.post(f"/{path}", json=body)
    assert response.status_code == 204, response.text


def about(order: PlacedOrder) -> dict[str, Any]:
    return {"order_id": order.order_id}


async def first(order: PlacedOrder, event_type: str, field: str = "step_id") -> Any:
    """A field of the first event of a type, once there is one; later reads include it."""
    return (await order.first_event(event_type))[field]


async def assert_recorded(order: PlacedOrder, kind: str) -> None:
    """A discrepancy is recorded, shown and can be resolved."""
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(SECONDS_MAX):
        while not found:
            attention = (await order.document())["needs_attention"]
            found = [entry for entry in attention if entry["kind"] == kind]
            await asyncio.sleep(0.05)
    (entry,) = found
    assert "resolve-discrepancy" in (await order.document())["allowed_commands"]
    await order.execute(
        "resolve-discrepancy", discrepancy_id=entry["discrepancy_id"], reason="settled"
    )
    kinds = {entry["kind"] for entry in (await order.document())["needs_attention"]}
    assert kind not in kinds


# Payments


@case("authorisation.approved")
async def _(shop: Shop) -> None:
    order = await placed(shop, "pm_callback_first")
    assert len(await order.event_data("payment-authorised")) == 1
    await order.assert_ledgers_agree()


@case("authorisation.approved approved-after-decline")
async def _(shop: Shop) -> None:
    order = await shop.place_order(MILK, payment_method="pm_declined")
    await order.wait_until_settled(awaits="payment")
    key = await first(order, "payment-declined")
    await report(order, "payments", "authorisation.approved", authorisation_id=key, reference="r")
    await assert_recorded(order, "approved-after-decline")


@case("authorisation.declined")
async def _(shop: Shop) -> None:
    order = await shop.place_order(MILK, payment_method="pm_declined")
    await order.wait_until_settled(awaits="payment")
    key = await first(order, "payment-declined")
    again = {"authorisation_id": key, "reason": "the card was declined"}
    await report(order, "payments", "authorisation.declined", **again)
    await order.execute("retry-payment", method="pm_card")
    await order.wait_until_settled(status="confirmed")
    assert len(await order.event_data("payment-declined")) == 1


@case("authorisation.declined declined-after-approval")
async def _(shop: Shop) -> None:
    order = await placed(shop)
    key = await first(order, "payment-authorised")
    await report(order, "payments", "authorisation.declined", authorisation_id=key, reason="fraud")
    await assert_recorded(order, "declined-after-approval")


@case("authorisation.expired")
async def _(shop: Shop) -> None:
    order = await placed(shop, "pm_expires")
    assert await first(order, "authorisation-reduced", "amount") == 0
    await order.wait_until_settled(status="confirmed", payment={"capturable": TOTAL})
    assert len(await order.event_data("payment-authorised")) == 2
    await order.assert_ledgers_agree()


@case("authorisation.reduced")
async def _(shop: Shop) -> None:
    order = await placed(shop)
    key = await first(order, "payment-authorised")
    path = f"payments/control/authorisations/{order.order_id}/{key}/reduce"
    await control(order, path, amount=100)
    assert await first(order, "authorisation-reduced", "amount") == 100
    await order.wait_until_settled(status="confirmed", payment={"capturable": TOTAL})
    await order.assert_ledgers_agree()


@case("authorisation.reduced unknown-authorisation")
async def _(shop: Shop) -> None:
    order = await placed(shop)
    ghost = {"authorisation_id": "ghost", "amount": 1}
    await report(order, "payments", "authorisation.reduced", **ghost)
    await assert_recorded(order, "unknown-authorisation")


@case("capture.done")
async def _(shop: Shop) -> None:
    order = await shipped(shop, "pm_callback_first")
    await order.wait_until_settled(payment={"captured": TOTAL})
    await order.assert_ledgers_agree()


@case("capture.done unknown-capture")
async def _(shop: Shop) -> None:
    order = await placed(shop)
    await report(order, "payments", "capture.done", step_id="by-hand", amount=5)
    await assert_recorded(order, "unknown-capture")


@case("capture.done captured-after-decline")
async def _(shop: Shop) -> None:
    order = await shipped(shop, "pm_capture_declined")
    key = await first(order, "capture-refused")
    await report(order, "payments", "capture.done", step_id=key)
    await assert_recorded(order, "captured-after-decline")


@case("capture.done amount-differs")
async def _(shop: Shop) -> None:
    order = await shipped(shop)
    key = await first(order, "payment-captured")
    await report(order, "payments", "capture.done", step_id=key, amount=5)
    await assert_recorded(order, "amount-differs")
    await order.wait_until_settled(payment={"captured": TOTAL})


@case("capture.declined")
async def _(shop: Shop) -> None:
    order = await shipped(shop, "pm_capture_declined")
    await order.wait_until_settled(awaits="payment", payment={"captured": 0})
    await order.execute("retry-payment", method="pm_card")
    await order.wait_until_settled(payment={"captured": TOTAL})
    await order.assert_ledgers_agree()


@case("capture.declined capture-reversed")
async def _(shop: Shop) -> None:
    order = await shipped(shop, "pm_capture_reversed")
    await assert_recorded(order, "capture-reversed")
    (unpaid,) = (await order.wait_until_settled(awaits="payment"))["needs_attention"]
    assert (unpaid["kind"], unpaid["amount"]) == ("unpaid", TOTAL)
    await order.execute("retry-payment", method="pm_card")
    await order.wait_until_settled(payment={"captured": TOTAL}, needs_attention=[])


@case("capture.declined unknown-decline")
async def _(shop: Shop) -> None:
    order = await placed(shop)
    await report(order, "payments", "capture.declined", step_id="by-hand", reason="no cover")
    await assert_recorded(order, "unknown-decline")


@case("refund.done")
async def _(shop: Shop) -> None:
    order = await shipped(shop)
    await order.wait_until_settled(payment={"captured": TOTAL})
    for _ in range(2):
        await report(order, "payments", "refund.done", step_id="by-hand", amount=100)
    await order.wait_until_settled(payment={"refunded": 100, "earned": TOTAL - 100})
    await control(order, "payments/control/refunds", **about(order), refund_id="r2", amount=50)
    await order.wait_until_settled(payment={"refunded": 150, "earned": TOTAL - 150})
    assert (await order.payment_ledger())["refunded"] == 50


@case("refund.done unknown-refund")
async def _(shop: Shop) -> None:
    order = await placed(shop)
    await report(order, "payments", "refund.done", step_id="by-hand", amount=10**6)
    await assert_recorded(order, "unknown-refund")


@case("refund.done amount-differs")
async def _(shop: Shop) -> None:
    order = await shipped(shop)
    await order.wait_until_settled(payment={"captured": TOTAL})
    await order.execute("refund-payment", amount=100)
    key = await first(order, "payment-refunded")
    await report(order, "payments", "refund.done", step_id=key, amount=5)
    await assert_recorded(order, "amount-differs")
    await order.wait_until_settled(payment={"refunded": 100})


@case("refund.failed")
async def _(shop: Shop) -> None:
    order = await shipped(shop, "pm_refund_down")
    await order.execute("refund-payment", amount=100)
    key = await first(order, "refund-requested")
    await report(order, "payments", "refund.failed", step_id=key, reason="the account is closed")
    async with asyncio.timeout(SECONDS_MAX):
        while not any("closed" in s["reason"] for s in await order.event_data("step-stuck")):
            await asyncio.sleep(0.05)
    await order.recover("payments")
    await order.execute("retry-step")
    await order.wait_until_settled(payment={"refunded": 100})
    await order.assert_ledgers_agree()


@case("refund.failed refund-failed")
async def _(shop: Shop) -> None:
    order = await shipped(shop, "pm_refund_fails")
    await order.execute("refund-payment", amount=100)
    await first(order, "refund-reversed")
    await assert_recorded(order, "refund-failed")  # It was paid by other means.
    await order.wait_until_settled(payment={"refunded": 100, "earned": TOTAL - 100})


@case("void.done")
async def _(shop: Shop) -> None:
    order = await placed(shop, "pm_callback_first")
    await order.execute("cancel-order")
    await order.wait_until_settled(status="cancelled")
    assert len(await order.event_data("payment-voided")) == 1
    await order.assert_ledgers_agree()


@case("void.done unknown-void")
async def _(shop: Shop) -> None:
    order = await placed(shop)
    await report(order, "payments", "void.done", step_id="by-hand")
    await assert_recorded(order, "unknown-void")


@case("chargeback.opened")
async def _(shop: Shop) -> None:
    order = await shipped(shop, "pm_chargeback")
    (entry,) = (await order.wait_for(needs_attention=1))["needs_attention"]
    assert (entry["kind"], entry["amount"]) == ("chargeback", TOTAL)


@case("chargeback.won")
async def _(shop: Shop) -> None:
    await _decided(shop, "won", refunded=0)


@case("chargeback.lost")
async def _(shop: Shop) -> None:
    await _decided(shop, "lost", refunded=100)


async def _decided(shop: Shop, state: str, refunded: int) -> None:
    order = await shipped(shop)
    await order.wait_until_settled(payment={"captured": TOTAL})
    dispute = {"chargeback_id": "c", "amount": 100, **about(order)}
    await control(order, "payments/control/chargebacks", **dispute)
    await order.wait_for(payment={"disputed": 100})
    await control(order, "payments/control/chargebacks", **dispute, state=state)
    await order.wait_until_settled(payment={"disputed": 0, "refunded": refunded})
    await order.assert_ledgers_agree()


@case("chargeback.opened unknown-chargeback")
async def _(shop: Shop) -> None:
    order = await placed(shop)
    await report(order, "payments", "chargeback.opened", chargeback_id="c", amount=5)
    await assert_recorded(order, "unknown-chargeback")


# Stock


@case("stock.lost")
async def _(shop: Shop) -> None:
    order = await placed(shop)
    loss = {"loss_id": "l", "line_id": "milk", "location": "EAST", "quantity": 1}
    await control(order, "stock/control/losses", **about(order), **loss)
    await first(order, "held-stock-lost", "loss_id")
    await order.wait_until_settled(status="confirmed", lines={0: {"reserved": 3}})
    await order.assert_ledgers_agree()


@case("stock.lost more-lost-than-reserved")
async def _(shop: Shop) -> None:
    order = await placed(shop)
    loss = {"loss_id": "l", "line_id": "milk", "location": "WEST", "quantity": 1}
    await report(order, "stock", "stock.lost", **loss)
    await assert_recorded(order, "more-lost-than-reserved")


# Shipping


@case("shipment.dispatched")
async def _(shop: Shop) -> None:
    order = await shipped(shop)
    (shipment_id,) = await order.shipment_ids("dispatched")
    again = {"shipment_id": shipment_id, "tracking": "T-2"}
    await report(order, "shipping", "shipment.dispatched", **again)
    assert await first(order, "tracking-changed", "tracking") == "T-2"
    assert len(await order.event_data("shipment-dispatched")) == 1
    await order.assert_ledgers_agree()


@case("shipment.dispatched left-although-stopped")
async def _(shop: Shop) -> None:
    order, shipment_id = await cancelled(shop)
    await order.move_shipment(shipment_id, "leave", although_stopped=True)
    await assert_recorded(order, "left-although-stopped")


@case("shipment.dispatched more-than-planned")
async def _(shop: Shop) -> None:
    order = await placed(shop)
    (shipment_id,) = await order.shipment_ids()
    lines = [
        {"line_id": "milk", "sku": "MILK", "quantity": 4},
        {"line_id": "ghost", "sku": "GHOST", "quantity": 1},
    ]
    await order.move_shipment(shipment_id, "leave", lines=lines)
    await order.wait_until_settled(lines={0: {"shipped": 3}})
    await assert_recorded(order, "more-than-planned")
    await order.assert_ledgers_agree()


@case("shipment.dispatched unknown-lines")
async def _(shop: Shop) -> None:
    order = await placed(shop)
    (shipment_id,) = await order.shipment_ids()
    other = {"line_id": "milk", "sku": "OTHER", "quantity": 1}
    await order.move_shipment(shipment_id, "leave", lines=[other])
    await assert_recorded(order, "unknown-lines")


@case("shipment.dispatched unknown-shipment")
async def _(shop: Shop) -> None:
    order = await placed(shop)
    await report(order, "shipping", "shipment.dispatched", shipment_id="ghost")
    await assert_recorded(order, "unknown-shipment")


@case("shipment.delivered")
async def _(shop: Shop) -> None:
    """The scan of the departure is uploaded after that of the arrival."""
    order = await placed(shop)
    (shipment_id,) = await order.shipment_ids()
    await order.move_shipment(shipment_id, "leave", report_after_s=1.5)
    await order.move_shipment(shipment_id, "deliver")
    await order.wait_until_settled(fulfilment_status="delivered", payment={"captured": TOTAL})
    await asyncio.sleep(2)
    assert len(await order.event_data("shipment-dispatched")) == 1
    await order.assert_ledgers_agree()


@case("shipment.delivered delivered-although-stopped")
async def _(shop: Shop) -> None:
    order, shipment_id = await cancelled(shop)
    await report(order, "shipping", "shipment.delivered", shipment_id=shipment_id)
    await assert_recorded(order, "delivered-although-stopped")


@case("shipment.failed")
async def _(shop: Shop) -> None:
    order = await shipped(shop)
    (shipment_id,) = await order.shipment_ids("dispatched")
    await order.move_shipment(shipment_id, "fail", goods="returned")
    await order.wait_until_settled(payment={"refunded": TOTAL})
    await order.assert_ledgers_agree()


@case("shipment.failed failed-although-delivered")
async def _(shop: Shop) -> None:
    order = await shipped(shop)
    await order.deliver()
    (shipment_id,) = await order.shipment_ids("delivered")
    await report(order, "shipping", "shipment.failed", shipment_id=shipment_id)
    await assert_recorded(order, "failed-although-delivered")


@case("shipment.delivery-revoked")
async def _(shop: Shop) -> None:
    order = await shipped(shop)
    await order.deliver()
    (shipment_id,) = await order.shipment_ids("delivered")
    await order.move_shipment(shipment_id, "revoke-delivery", reason="wrong door")
    await order.wait_until_settled(fulfilment_status="shipped")
    await order.deliver()
    await order.return_pieces("milk", 1)
    await order.wait_until_settled(payment={"refunded": ONE_MILK_CENTS})
    await order.assert_ledgers_agree()


@case("shipment.delivery-revoked delivery-denied")
async def _(shop: Shop) -> None:
    order, shipment_id = await cancelled(shop)
    await report(order, "shipping", "shipment.delivery-revoked", shipment_id=shipment_id)
    await assert_recorded(order, "delivery-denied")
