"""HTTP client of the simulators' control routes: stock levels, shipments, outages, ledgers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

DEFAULT_STOCK = 1_000_000  # Pieces of a SKU whose stock was never set.


class SimulatorError(Exception):
    """The simulators did not do what they were asked to; `status` is None without a response."""

    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message)
        self.status = status


class SimulatorClient:
    """Makes things happen in payments, stock and shipping, and reads what they recorded."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def set_stock(self, sku: str, east: int, west: int) -> None:
        """Sets how many unreserved pieces each location has."""
        for location, free in (("EAST", east), ("WEST", west)):
            path = f"/stock/control/shelves/{quote(sku, safe='')}/{location}"
            await self._request("PUT", path, {"free": free})

    async def move_shipment(
        self, order_id: str, shipment_id: str, action: str, **fields: Any
    ) -> None:
        """Makes a shipment `leave`, `deliver` or `fail`; the carrier sends a callback."""
        path = f"/shipping/control/shipments/{order_id}/{shipment_id}/{action}"
        await self._request("POST", path, fields)

    async def dispute(self, order_id: str, amount: int, state: str) -> None:
        """A chargeback of an order is `opened`, `won` or `lost`; payments sends a callback."""
        dispute = {"order_id": order_id, "chargeback_id": "dispute", "amount": amount}
        await self._request("POST", "/payments/control/chargebacks", {**dispute, "state": state})

    async def recover(self, service: str, order_id: str | None = None) -> None:
        """Ends the simulated outage of a service, for one order or for all."""
        await self._request("POST", f"/{service}/control/recover", {"order_id": order_id})

    async def ledger(self, service: str, order_id: str = "") -> dict[str, Any]:
        """What a service recorded, by order id: of one order, or of all."""
        response = await self._request("GET", f"/{service}/control/books?order_id={order_id}")
        orders: dict[str, Any] = response.json()["orders"]
        return orders

    async def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        where = f"Simulators: {method} {path}"
        try:
            response = await self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            why = str(error) or type(error).__name__
            raise SimulatorError(f"{where}: no response ({why})", None) from error
        if not response.is_success:
            raise SimulatorError(
                f"{where}: {response.status_code} {response.text}", response.status_code
            )
        return response
