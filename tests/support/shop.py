"""A shop that sells over REST, and the books of all who have a part in its sales."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.support.simulator_client import books

PATIENCE_S = 60.0
SHIPPING = 499
PATIENTLY = {"Prefer": "wait=30"}  # A busy machine is no failure.

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

# What a shipment of an order is to the carrier. One that the shop sent off by itself is still
# booked there; one that was stopped before it was booked, the carrier need not know.
_AT_THE_CARRIER: dict[str, set[str | None]] = {
    "planned": {"booked"},
    "stopped": {"stopped", None},
    "dispatched": {"gone", "booked"},
    "delivered": {"delivered", "booked"},
    "failed": {"failed", "booked"},
}
_LEFT = ("dispatched", "delivered", "failed")


def scarce(pieces: int, quantity: int, trouble: str = "SHORT") -> dict[str, Any]:
    """A line of something of which there are so many pieces, and that no other test sells."""
    sku = f"{trouble}-{pieces}-{secrets.token_hex(4)}"
    what = {"line_id": "scarce", "sku": sku, "title": "Rare", "unit_price": 1001}
    return {**what, "quantity": quantity}


def piece(line_id: str, quantity: int) -> dict[str, Any]:
    return {"line_id": line_id, "quantity": quantity}


@dataclass
class Shop:
    """Takes orders through the API, and can look into the books of the services behind it."""

    http: httpx.AsyncClient
    simulators: httpx.AsyncClient
    sales: list[Sale] = field(default_factory=list)

    @property
    def order_ids(self) -> set[str]:
        return {sale.order_id for sale in self.sales}

    async def sells(self, *lines: dict[str, Any], **terms: Any) -> Sale:
        """Opens and places an order in one request; `terms` are more of its fields."""
        key = {"Idempotency-Key": terms.pop("key", secrets.token_hex(8)), **PATIENTLY}
        basket = {"customer_id": f"c-{secrets.token_hex(4)}", "currency": "USD", "place": True}
        basket |= {"lines": list(lines), "shipping_charge": SHIPPING, **terms}
        answer = await self.http.post("/v1/orders", json=basket, headers=key)
        assert answer.status_code == 201, answer.text
        sale = Sale(self, answer.json()["order_id"], answer.json()["version"])
        self.sales.append(sale)
        return sale

    async def mends(self, party: str, sale: Sale) -> None:
        """A service that was down comes back, for one order."""
        body = {"order_id": sale.order_id}
        answer = await self.simulators.post(f"/{party}/control/mend", json=body)
        assert answer.status_code == 204, answer.text


@dataclass
class Sale:
    """One order, as its shop sees it; `version` is the newest that an answer told."""

    shop: Shop
    order_id: str
    version: int = 0

    @property
    def path(self) -> str:
        return f"/v1/orders/{self.order_id}"

    async def asks(
        self, command: str, headers: dict[str, str] | None = None, **fields: Any
    ) -> httpx.Response:
        """Sends one command, whatever the answer."""
        answer = await self.shop.http.post(
            f"{self.path}/commands/{command}", json=fields, headers={**PATIENTLY, **(headers or {})}
        )
        self.version = max(self.version, answer.json().get("version", 0))
        return answer

    async def does(self, command: str, **fields: Any) -> None:
        """Sends one command, which must be taken."""
        answer = await self.asks(command, **fields)
        assert answer.status_code == 200, answer.text

    async def document(self) -> dict[str, Any]:
        """The order as the read model has it, with all in it that was answered."""
        answer = await self.shop.http.get(self.path, params={"min_version": self.version})
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    async def becomes(self, **fields: Any) -> dict[str, Any]:
        """The order, once these fields of it are so.

        A dict says so of some entries of a field, and a number says how long a list is.
        """
        shown: dict[str, Any] = {}
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not _agrees(shown := await self.document(), fields):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            events = [event["type"] for event in await self.history()]
            raise AssertionError(f"it does not become {fields}: {shown}\n{events}") from None
        return shown

    async def settles(self, **fields: Any) -> dict[str, Any]:
        """The order, once nobody owes it anything, and these fields are so."""
        return await self.becomes(pending=[], **fields)

    async def history(self) -> list[dict[str, Any]]:
        answer = await self.shop.http.get(f"{self.path}/history")
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    async def happened(self, type_: str) -> list[dict[str, Any]]:
        """What the events of a type say, in order."""
        return [event["data"] for event in await self.history() if event["type"] == type_]

    async def shipments(self, status: str = "planned") -> list[str]:
        """The ids of the shipments in a status."""
        shown = await self.document()
        return [s["shipment_id"] for s in shown["shipments"] if s["status"] == status]

    async def shipment_from(self, location: str) -> str:
        """The id of the shipment that leaves, or left, from a location."""
        shipments = (await self.document())["shipments"]
        (one,) = (s["shipment_id"] for s in shipments if s["location"] == location)
        return str(one)

    async def carrier(self, happening: str, shipment_id: str, **body: Any) -> httpx.Response:
        """Lets a shipment leave, deliver or fail; the carrier tells the order by a callback."""
        path = f"/shipping/control/shipments/{self.order_id}/{shipment_id}/{happening}"
        return await self.shop.simulators.post(path, json=body)

    async def leaves(self) -> None:
        """The carrier takes all that is booked."""
        await self.settles(status="confirmed")
        for shipment_id in await self.shipments():
            assert (await self.carrier("leave", shipment_id)).status_code == 204
        await self.settles(fulfilment_status="shipped")

    async def arrives(self) -> None:
        """All that is on its way is delivered."""
        for shipment_id in await self.shipments("dispatched"):
            assert (await self.carrier("deliver", shipment_id)).status_code == 204
        await self.settles(fulfilment_status="delivered")

    async def comes_back(self, line_id: str, quantity: int, condition: str = "sellable") -> None:
        """The customer sends pieces back, and the shop takes them."""
        name = f"return-{secrets.token_hex(4)}"
        pieces = [piece(line_id, quantity)]
        await self.does("request-return", return_id=name, lines=pieces)
        await self.does("approve-return", return_id=name)
        await self.does("receive-return", return_id=name, lines=pieces, condition=condition)

    async def money(self) -> dict[str, int]:
        """What the payment service has in its books: still open, captured, refunded."""
        row = await books(self.shop.simulators, "payments", self.order_id) or {}
        return {key: row.get(key, 0) for key in ("authorised", "captured", "refunded")}

    async def stock(self) -> dict[str, dict[str, int]]:
        """What the stock service has in its books: pieces by SKU, held, withdrawn, returned."""
        row = await books(self.shop.simulators, "stock", self.order_id) or {}
        return {key: row.get(key, {}) for key in ("held", "withdrawn", "returned")}

    async def assert_books_agree(self) -> None:
        """Everybody's books say the same, to the cent and the piece, and each step was done once.

        Waits until nothing is owed any more.
        """
        shown = await self.settles()
        payment, shipments = shown["payment"], shown["shipments"]
        sku = {line["line_id"]: line["sku"] for line in shown["lines"]}

        is_open = payment["authorised"] - payment["captured"] - payment["voided"]
        taken, given = payment["captured"], payment["refunded"]
        assert await self.money() == {"authorised": is_open, "captured": taken, "refunded": given}
        counted = await books(self.shop.simulators, "payments", self.order_id) or {}
        captures = await self.happened("payment-captured")
        refunds = await self.happened("payment-refunded")
        assert counted.get("captures", 0) == len(captures), "captured twice, or never"
        assert counted.get("refunds", 0) == len(refunds), "refunded twice, or never"
        if shown["awaits"] is None and shown["status"] != "on_hold":
            assert taken - given == payment["due"]

        left = [s for s in shipments if s["status"] in _LEFT]
        restocked = await self.happened("restock-requested")
        assert await self.stock() == {
            "held": pieces((sku[line["line_id"]], line["reserved"]) for line in shown["lines"]),
            "withdrawn": pieces(
                (sku[p["line_id"]], p["quantity"]) for s in left for p in s["lines"]
            ),
            "returned": pieces((p["sku"], p["quantity"]) for r in restocked for p in r["held"]),
        }

        parcels = await books(self.shop.simulators, "shipping", self.order_id) or {}
        assert parcels.keys() <= {s["shipment_id"] for s in shipments}
        for shipment in shipments:
            parcel: dict[str, Any] = parcels.get(shipment["shipment_id"], {"status": None})
            assert parcel["status"] in _AT_THE_CARRIER[shipment["status"]], (shipment, parcel)
            if shipment["status"] != "stopped":
                assert pieces((p["line_id"], p["quantity"]) for p in parcel["lines"]) == pieces(
                    (p["line_id"], p["quantity"]) for p in shipment["lines"]
                )

        if shown["status"] in ("cancelled", "expired"):
            assert (is_open, taken - given) == (0, 0), "an ended order keeps money"
            assert not (await self.stock())["held"], "an ended order holds stock"


def pieces(counted: Any) -> dict[str, int]:
    """How many in all of each; what there is none of is left out."""
    total: Counter[str] = Counter()
    for key, quantity in counted:
        total[key] += quantity
    return dict(+total)


def _agrees(shown: Any, wanted: Any) -> bool:
    """Whether it is as wanted: in some entries, or in length, where no more is said."""
    if isinstance(wanted, dict):
        return all(_agrees(shown[key], value) for key, value in wanted.items())
    if isinstance(shown, list) and isinstance(wanted, int):
        return len(shown) == wanted
    return bool(shown == wanted)
