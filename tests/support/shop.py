"""A shop that places orders through the API, and compares them with the services' ledgers."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx

from dev.api_client import ORDERS, ApiClient, ConditionTimeout, Json
from dev.simulator_client import SimulatorClient

TIMEOUT_S = 60.0
WAIT_S = 30  # A slow response of a busy machine is no failure.
PREFER_WAIT = {"Prefer": f"wait={WAIT_S}"}
SHIPPING = 499

# Shares of both leave odd cents. All milk is at EAST, and all bread is at WEST.
MILK: dict[str, Any] = {
    "line_id": "milk",
    "sku": "MILK",
    "title": "Milk",
    "quantity": 3,
    "unit_price": 333,
    "discount": 101,
    "tax": 61,
}
BREAD: dict[str, Any] = {
    "line_id": "bread",
    "sku": "BREAD",
    "title": "Bread",
    "quantity": 2,
    "unit_price": 249,
    "tax": 35,
}
MILK_CENTS, BREAD_CENTS = 959, 533
ONE_MILK_CENTS = 320  # Of three; two are 639.

# The carrier's status of a shipment, by the order's. One that was dispatched by command is still
# booked; one that was stopped before its booking may be unknown.
_CARRIER_STATUSES: dict[str, set[str | None]] = {
    "planned": {"booked"},
    "stopped": {"stopped", None},
    "dispatched": {"gone", "booked"},
    "delivered": {"delivered", "booked"},
    "failed": {"failed", "booked"},
}
_DISPATCHED = ("dispatched", "delivered", "failed")


def scarce(pieces: int, quantity: int, prefix: str = "SHORT") -> dict[str, Any]:
    """A line of a SKU with this many pieces in stock, which no other test orders."""
    sku = f"{prefix}-{pieces}-{secrets.token_hex(4)}"
    what = {"line_id": "scarce", "sku": sku, "title": "Rare", "unit_price": 1001}
    return {**what, "quantity": quantity}


def piece(line_id: str, quantity: int) -> dict[str, Any]:
    return {"line_id": line_id, "quantity": quantity}


@dataclass
class Shop:
    """Places orders through the API; `order_ids` are those that it has placed."""

    http: httpx.AsyncClient
    simulators: httpx.AsyncClient
    orders: list[PlacedOrder] = field(default_factory=list)

    @property
    def api(self) -> ApiClient:
        """Without retries: a test must see each rejection."""
        return ApiClient(self.http, retry_s=0, wait_s=WAIT_S)

    @property
    def control(self) -> SimulatorClient:
        return SimulatorClient(self.simulators)

    @property
    def order_ids(self) -> set[str]:
        return {order.order_id for order in self.orders}

    async def place_order(
        self, *lines: dict[str, Any], key: str | None = None, **fields: Any
    ) -> PlacedOrder:
        """Opens and places an order in one request; `fields` are further fields of it."""
        body = {"customer_id": f"c-{secrets.token_hex(4)}", "currency": "USD", "place": True}
        body |= {"lines": list(lines), "shipping_charge": SHIPPING, **fields}
        result = await self.api.open_order(body, key=key)
        order = PlacedOrder(self, result["order_id"], result["version"])
        self.orders.append(order)
        return order


@dataclass
class PlacedOrder:
    """One order of a shop; `version` is the newest in any command result."""

    shop: Shop
    order_id: str
    version: int = 0

    @property
    def path(self) -> str:
        return f"{ORDERS}/{self.order_id}"

    async def send(
        self, command: str, headers: dict[str, str] | None = None, **fields: Any
    ) -> httpx.Response:
        """Sends one command; returns the response, also an error."""
        response = await self.shop.api.send_command(self.order_id, command, fields, headers=headers)
        self.version = max(self.version, response.json().get("version", 0))
        return response

    async def execute(self, command: str, **fields: Any) -> None:
        """Sends one command, which must be accepted."""
        response = await self.send(command, **fields)
        assert response.status_code == 200, response.text

    async def document(self) -> Json:
        """The order as the read model has it, with the effects of all commands sent so far."""
        return await self.shop.api.order(self.order_id, self.version)

    async def wait_for(self, **fields: Any) -> Json:
        """The order once it has these fields.

        A dict names some entries of a field, and a number the length of a list.
        """
        try:
            return await self.shop.api.wait_until(
                self.order_id,
                lambda order: _matches(order, fields),
                min_version=self.version,
                timeout_s=TIMEOUT_S,
            )
        except ConditionTimeout as timeout:
            events = [event["type"] for event in await self.history()]
            raise AssertionError(f"no {fields}: {timeout.order}\n{events}") from None

    async def wait_until_settled(self, **fields: Any) -> Json:
        """The order once no step is pending, and it has these fields."""
        return await self.wait_for(pending=[], **fields)

    async def history(self) -> list[Json]:
        """The order's events, with those of all commands sent so far."""
        return await self.shop.api.history(self.order_id, min_version=self.version)

    async def event_data(self, event_type: str) -> list[Json]:
        """The data of the events of one type, in order."""
        return [event["data"] for event in await self.history() if event["type"] == event_type]

    async def first_event(self, event_type: str) -> Json:
        """The data of the first event of a type, once there is one; later reads include it."""
        async with asyncio.timeout(TIMEOUT_S):
            while not (found := [e for e in await self.history() if e["type"] == event_type]):
                await asyncio.sleep(0.05)
        self.version = max(self.version, found[0]["version"])
        return dict(found[0]["data"])

    async def shipment_ids(self, status: str = "planned") -> list[str]:
        """The ids of the shipments in a status."""
        order = await self.document()
        return [s["shipment_id"] for s in order["shipments"] if s["status"] == status]

    async def shipment_from(self, location: str) -> str:
        """The id of the only shipment from a location."""
        shipments = (await self.document())["shipments"]
        (one,) = (s["shipment_id"] for s in shipments if s["location"] == location)
        return str(one)

    async def move_shipment(self, shipment_id: str, action: str, **fields: Any) -> None:
        """Makes a shipment `leave`, `deliver` or `fail`; the carrier sends a callback."""
        await self.shop.control.move_shipment(self.order_id, shipment_id, action, **fields)

    async def recover(self, service: str) -> None:
        """Ends the outage of a service for this order."""
        await self.shop.control.recover(service, self.order_id)

    async def ship(self) -> None:
        """The carrier collects all booked shipments."""
        await self.wait_until_settled(status="confirmed")
        for shipment_id in await self.shipment_ids():
            await self.move_shipment(shipment_id, "leave")
        await self.wait_until_settled(fulfilment_status="shipped")

    async def deliver(self) -> None:
        """The carrier delivers all dispatched shipments."""
        for shipment_id in await self.shipment_ids("dispatched"):
            await self.move_shipment(shipment_id, "deliver")
        await self.wait_until_settled(fulfilment_status="delivered")

    async def return_pieces(self, line_id: str, quantity: int, condition: str = "sellable") -> None:
        """The customer sends pieces back, and the shop receives them."""
        return_id = f"return-{secrets.token_hex(4)}"
        pieces = [piece(line_id, quantity)]
        await self.execute("request-return", return_id=return_id, lines=pieces)
        await self.execute("approve-return", return_id=return_id)
        await self.execute("receive-return", return_id=return_id, lines=pieces, condition=condition)

    async def ledger(self, service: str) -> dict[str, Any]:
        """What a service recorded of this order."""
        orders = await self.shop.control.ledger(service, self.order_id)
        return dict(orders.get(self.order_id, {}))

    async def payment_ledger(self) -> dict[str, int]:
        """Amounts that payments recorded: `authorised` is what can still be captured."""
        row = await self.ledger("payments")
        return {key: row.get(key, 0) for key in ("authorised", "captured", "refunded")}

    async def stock_ledger(self) -> dict[str, dict[str, int]]:
        """Pieces by SKU that stock recorded."""
        row = await self.ledger("stock")
        return {key: row.get(key, {}) for key in ("held", "withdrawn", "returned")}

    async def assert_ledgers_agree(self) -> None:
        """The order and the services recorded the same, and executed each step once.

        Waits until no step is pending.
        """
        order = await self.wait_until_settled()
        await self._assert_payments_agree(order)
        await self._assert_stock_agrees(order)
        await self._assert_carrier_agrees(order)

    async def _assert_payments_agree(self, order: Json) -> None:
        payment = order["payment"]
        authorised = payment["authorised"] - payment["captured"] - payment["voided"]
        captured, refunded = payment["captured"], payment["refunded"]
        assert await self.payment_ledger() == {
            "authorised": authorised,
            "captured": captured,
            "refunded": refunded,
        }
        counts = await self.ledger("payments")
        captures = await self.event_data("payment-captured")
        refunds = await self.event_data("payment-refunded")
        assert counts.get("captures", 0) == len(captures), "captured twice, or never"
        assert counts.get("refunds", 0) == len(refunds), "refunded twice, or never"
        if order["awaits"] is None and order["status"] != "on_hold":
            assert captured - refunded == payment["earned"]
        if order["status"] in ("cancelled", "expired"):
            assert (authorised, captured - refunded) == (0, 0), "an ended order keeps money"

    async def _assert_stock_agrees(self, order: Json) -> None:
        sku = {line["line_id"]: line["sku"] for line in order["lines"]}
        dispatched = [s for s in order["shipments"] if s["status"] in _DISPATCHED]
        restocked = await self.event_data("restock-requested")
        stock = await self.stock_ledger()
        assert stock == {
            "held": sum_pieces((sku[line["line_id"]], line["reserved"]) for line in order["lines"]),
            "withdrawn": sum_pieces(
                (sku[p["line_id"]], p["quantity"]) for s in dispatched for p in s["lines"]
            ),
            "returned": sum_pieces((p["sku"], p["quantity"]) for r in restocked for p in r["held"]),
        }
        if order["status"] in ("cancelled", "expired"):
            assert not stock["held"], "an ended order holds stock"

    async def _assert_carrier_agrees(self, order: Json) -> None:
        parcels = await self.ledger("shipping")
        shipments = order["shipments"]
        assert parcels.keys() <= {s["shipment_id"] for s in shipments}
        for shipment in shipments:
            parcel: dict[str, Any] = parcels.get(shipment["shipment_id"], {"status": None})
            assert parcel["status"] in _CARRIER_STATUSES[shipment["status"]], (shipment, parcel)
            if shipment["status"] != "stopped":
                assert sum_pieces(
                    (p["line_id"], p["quantity"]) for p in parcel["lines"]
                ) == sum_pieces((p["line_id"], p["quantity"]) for p in shipment["lines"])


def sum_pieces(counted: Iterable[tuple[str, int]]) -> dict[str, int]:
    """The sum of pieces by key; zeros are left out."""
    total: Counter[str] = Counter()
    for key, quantity in counted:
        total[key] += quantity
    return dict(+total)


def _matches(actual: Any, expected: Any) -> bool:
    """Whether it has the entries of a dict, the length given by a number, or the same value."""
    if isinstance(expected, dict):
        return all(_matches(actual[key], value) for key, value in expected.items())
    if isinstance(actual, list) and isinstance(expected, int):
        return len(actual) == expected
    return bool(actual == expected)
