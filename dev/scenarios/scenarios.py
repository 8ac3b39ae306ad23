"""The stories: each a short script of what shop, customer, carrier and others do."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from dev.scenarios.shop import Shop
from dev.scenarios.timeline import Json

Story = Callable[[Shop], Awaitable[None]]

BAGELS = {"line_id": "bagels", "sku": "MILK", "title": "Bagels", "quantity": 3, "unit_price": 179}
CHEESE = {"line_id": "cheese", "sku": "BREAD", "title": "Cheese", "quantity": 1, "unit_price": 499}
# One is kept at EAST, the other at WEST: the stand-in decides so by the SKU.


async def happy_path(shop: Shop) -> None:
    """Placed, paid, shipped, delivered."""
    await shop.orders(BAGELS, shipping_charge=390)
    await _delivered(shop)


async def split_shipment(shop: Shop) -> None:
    """Two stock locations: two shipments, each captured when it leaves."""
    await shop.orders(BAGELS, CHEESE)
    order = await shop.sees("confirmed", _is("confirmed"))
    first, second = (s["shipment_id"] for s in order["shipments"])
    shop.says("The first shipment leaves: its share of the money is captured.")
    await shop.carrier("leave", first)
    await shop.sees("partly shipped", _is("partly_shipped", "fulfilment_status"))
    shop.says("The second one follows.")
    await shop.carrier("leave", second)
    await shop.sees("shipped", _is("shipped", "fulfilment_status"))


async def declined_card(shop: Shop) -> None:
    """The card is declined; the customer pays by another."""
    await shop.orders(BAGELS, payment_method="pm_declined")
    await shop.sees("waiting for the customer", _is("awaiting_customer"))
    shop.says("The stock stays reserved; the customer has a day to pay by another card.")
    await shop.asks("retry-payment", method="pm_card")
    await shop.sees("confirmed", _is("confirmed"))


async def shortfall(shop: Shop) -> None:
    """Not enough in stock: the customer takes what there is, and pays for no more."""
    rare = {**BAGELS, "sku": f"SHORT-2-{secrets.token_hex(3)}", "title": "Rare bagels"}
    await shop.orders(rare)
    await shop.sees("waiting for the customer", _is("awaiting_customer"))
    shop.says("Two of three are there, and held. The customer accepts.")
    await shop.asks("accept-shortfall")
    await shop.sees("confirmed", _is("confirmed"))


async def amendment(shop: Shop) -> None:
    """A placed order is changed: first seen what it would come to, then done."""
    await shop.orders(BAGELS)
    await shop.sees("confirmed", _is("confirmed"))
    changes = [{"type": "change-line", "line_id": "bagels", "quantity": 5}]
    preview = await shop.asks("amend-order/preview", changes=changes)
    shop.says(f"A preview, which changes nothing: {preview['to_authorise']} cents more.")
    await shop.asks("amend-order", changes=changes)
    await shop.sees("settled", lambda order: order["payment"]["authorised"] == 5 * 179)


async def partial_refund(shop: Shop) -> None:
    """One piece was bruised: a part of the money goes back, and no more than was captured."""
    await shop.orders(BAGELS)
    await _delivered(shop)
    shop.says("One of them was bruised.")
    await shop.asks("refund-payment", amount=100, reason="bruised")
    await shop.sees("refunded", lambda order: order["payment"]["refunded"] == 100)


async def customer_return(shop: Shop) -> None:
    """Pieces come back: what was paid for them is refunded, and they go into stock again."""
    await shop.orders(BAGELS)
    await _delivered(shop)
    back = [{"line_id": "bagels", "quantity": 2}]
    shop.says("Two are sent back.")
    await shop.asks("request-return", return_id="too-many", lines=back, reason="too many")
    await shop.asks("approve-return", return_id="too-many")
    await shop.asks("receive-return", return_id="too-many", lines=back, condition="sellable")
    await shop.sees("refunded", lambda order: order["payment"]["refunded"] == 2 * 179)


async def stuck_step(shop: Shop) -> None:
    """The carrier is down: the order says so, goes on with all else, and tries again when told."""
    nowhere = {
        "name": "Ada Lovelace",
        "line1": "12 St James's Square",
        "city": "London",
        "postal_code": "00000",
        "country": "GB",
    }
    await shop.orders(BAGELS, shipping_address=nowhere)
    order = await shop.sees("in trouble", lambda order: order["needs_attention"])
    shop.says(f"Needs attention: {order['needs_attention'][0]['reason']}.")
    shop.says("Somebody mends it, and asks for the step again.")
    await shop.mends("shipping")
    await shop.asks("retry-step")
    await shop.sees("well again", lambda order: not order["needs_attention"])


STORIES: Mapping[str, Story] = {
    "happy-path": happy_path,
    "split-shipment": split_shipment,
    "declined-card": declined_card,
    "shortfall": shortfall,
    "amendment": amendment,
    "partial-refund": partial_refund,
    "return": customer_return,
    "stuck-step": stuck_step,
}


def _is(value: str, field: str = "status") -> Callable[[Json], Any]:
    return lambda order: order[field] == value


async def _delivered(shop: Shop) -> None:
    order = await shop.sees("confirmed", _is("confirmed"))
    for shipment in order["shipments"]:
        await shop.carrier("leave", shipment["shipment_id"])
    await shop.sees("shipped", _is("shipped", "fulfilment_status"))
    for shipment in order["shipments"]:
        await shop.carrier("deliver", shipment["shipment_id"])
    await shop.sees("delivered", _is("delivered", "fulfilment_status"))
