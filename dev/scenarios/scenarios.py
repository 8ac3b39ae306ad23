"""The scenarios: each a short script of what shop, customer and carrier do with one order.

Each yields once, what its order waits for: there it can be left unfinished.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from dev.api_client import Json
from dev.scenarios.session import ScenarioSession

Waits = AsyncGenerator[str, None]
Scenario = Callable[[ScenarioSession], Waits]

# The SKU decides on the location in the simulator: MILK is at EAST, BREAD at WEST.
BAGELS = {"line_id": "bagels", "sku": "MILK", "title": "Bagels", "quantity": 3, "unit_price": 179}
CHEESE = {"line_id": "cheese", "sku": "BREAD", "title": "Cheese", "quantity": 1, "unit_price": 499}


async def happy_path(session: ScenarioSession) -> Waits:
    """Placed, paid, shipped, delivered."""
    await session.place_order(BAGELS, shipping_charge=390)
    await _confirm(session)
    yield "the carrier to collect it"
    await _deliver(session)


async def split_shipment(session: ScenarioSession) -> Waits:
    """Two stock locations: two shipments, each captured when it leaves."""
    await session.place_order(BAGELS, CHEESE)
    order = await session.wait_until("confirmed", _has(status="confirmed"))
    first, second = (s["shipment_id"] for s in order["shipments"])
    session.comment("The first shipment leaves: its share of the money is captured.")
    await session.move_shipment(first, "leave")
    await session.wait_until("partly shipped", _has(fulfilment_status="partly_shipped"))
    yield "the carrier to collect the second shipment"
    session.comment("The second one follows.")
    await session.move_shipment(second, "leave")
    await session.wait_until("shipped", _has(fulfilment_status="shipped"))


async def declined_card(session: ScenarioSession) -> Waits:
    """The card is declined; the customer pays by another."""
    await session.place_order(BAGELS, payment_method="pm_declined")
    await session.wait_until("waiting for the customer", _has(status="awaiting_customer"))
    session.comment("The stock stays reserved; the customer has a day to pay by another card.")
    yield "the customer to pay by another card"
    await session.send("retry-payment", method="pm_card")
    await session.wait_until("confirmed", _has(status="confirmed"))


async def shortfall(session: ScenarioSession) -> Waits:
    """Too little in stock: the customer accepts the smaller quantity, and pays for no more."""
    rare = {**BAGELS, "sku": f"SHORT-2-{secrets.token_hex(3)}", "title": "Rare bagels"}
    await session.place_order(rare)
    await session.wait_until("waiting for the customer", _has(status="awaiting_customer"))
    session.comment("Two of three are in stock, and reserved.")
    yield "the customer to accept what is in stock"
    session.comment("The customer accepts.")
    await session.send("accept-shortfall")
    await session.wait_until("confirmed", _has(status="confirmed"))


async def amendment(session: ScenarioSession) -> Waits:
    """A placed order is amended: first previewed, then executed."""
    await session.place_order(BAGELS)
    await _confirm(session)
    changes = [{"type": "change-line", "line_id": "bagels", "quantity": 5}]
    preview = await session.send("amend-order/preview", changes=changes)
    session.comment(f"A preview, which changes nothing: {preview['to_authorise']} cents more.")
    yield "an operator to send the amendment"
    await session.send("amend-order", changes=changes)
    await session.wait_until("settled", lambda order: order["payment"]["authorised"] == 5 * 179)


async def partial_refund(session: ScenarioSession) -> Waits:
    """One piece was bruised: a part of the captured money is refunded."""
    await session.place_order(BAGELS)
    await _deliver(session)
    session.comment("One of them was bruised.")
    yield "the shop to refund it"
    await session.send("refund-payment", amount=100, reason="bruised")
    await session.wait_until("refunded", lambda order: order["payment"]["refunded"] == 100)


async def customer_return(session: ScenarioSession) -> Waits:
    """The customer returns pieces: their price is refunded, and they are restocked."""
    await session.place_order(BAGELS)
    await _deliver(session)
    pieces = [{"line_id": "bagels", "quantity": 2}]
    session.comment("Two are sent back.")
    await session.send("request-return", return_id="too-many", lines=pieces, reason="too many")
    await session.wait_until("in return", lambda order: order["returns"])
    yield "the shop to approve the return"
    await session.send("approve-return", return_id="too-many")
    await session.send("receive-return", return_id="too-many", lines=pieces, condition="sellable")
    await session.wait_until("refunded", lambda order: order["payment"]["refunded"] == 2 * 179)


async def stuck_step(session: ScenarioSession) -> Waits:
    """The carrier is down: the order needs attention, and retries the step on command."""
    address = {
        "name": "Ada Lovelace",
        "line1": "12 St James's Square",
        "city": "London",
        "postal_code": "00000",
        "country": "GB",
    }
    await session.place_order(BAGELS, shipping_address=address)
    order = await session.wait_until("stuck", lambda order: order["needs_attention"])
    session.comment(f"Needs attention: {order['needs_attention'][0]['reason']}.")
    yield "the carrier to recover"
    session.comment("The carrier recovers, and an operator retries the step.")
    await session.recover("shipping")
    await session.send("retry-step")
    await session.wait_until("well again", lambda order: not order["needs_attention"])


async def held(session: ScenarioSession) -> Waits:
    """The shop holds the order for a question, and releases it."""
    await session.place_order(BAGELS)
    await _confirm(session)
    await session.send("hold-order", reason="The address differs from the card's")
    await session.wait_until("on hold", _has(status="on_hold"))
    yield "an operator to release it"
    await session.send("release-order")
    await _deliver(session)


async def unpaid(session: ScenarioSession) -> Waits:
    """The bank declines the capture of what has left; the customer pays by another card."""
    await session.place_order(BAGELS, payment_method="pm_capture_declined")
    await _confirm(session)
    await _ship(session)
    await session.wait_until("shipped and unpaid", _has(awaits="payment"))
    session.comment("The goods are on their way, and the money does not come.")
    yield "the customer to pay for what has left"
    await session.send("retry-payment", method="pm_card")
    await session.wait_until("paid", lambda order: order["payment"]["captured"] == 3 * 179)


async def chargeback(session: ScenarioSession) -> Waits:
    """The customer's bank takes the money back, until the dispute is won."""
    await session.place_order(BAGELS)
    await _deliver(session)
    await session.dispute(3 * 179, "opened")
    await session.wait_until("disputed", lambda order: order["payment"]["disputed"])
    yield "the customer's bank to decide about the dispute"
    await session.dispute(3 * 179, "won")
    await session.wait_until("won", lambda order: not order["payment"]["disputed"])


SCENARIOS: Mapping[str, Scenario] = {
    "happy-path": happy_path,
    "split-shipment": split_shipment,
    "declined-card": declined_card,
    "shortfall": shortfall,
    "amendment": amendment,
    "partial-refund": partial_refund,
    "return": customer_return,
    "stuck-step": stuck_step,
    "held": held,
    "unpaid": unpaid,
    "chargeback": chargeback,
}


def _has(**fields: str) -> Callable[[Json], Any]:
    return lambda order: all(order[name] == value for name, value in fields.items())


async def _confirm(session: ScenarioSession) -> None:
    await session.wait_until("confirmed", _has(status="confirmed"))


async def _ship(session: ScenarioSession) -> None:
    for shipment in session.order["shipments"]:
        await session.move_shipment(shipment["shipment_id"], "leave")
    await session.wait_until("shipped", _has(fulfilment_status="shipped"))


async def _deliver(session: ScenarioSession) -> None:
    await _confirm(session)
    await _ship(session)
    for shipment in session.order["shipments"]:
        await session.move_shipment(shipment["shipment_id"], "deliver")
    await session.wait_until("delivered", _has(fulfilment_status="delivered"))
