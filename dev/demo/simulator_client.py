"""The stand-ins as seen from behind the counter: stock on shelves, a carrier's van, their books."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from dev.demo.http_client import Unanswered

PLENTY = 1_000_000  # What a stand-in has of anything that nobody has set.


class StandIns:
    """The control routes of payments, stock and shipping."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def stock(self, sku: str, east: int, west: int) -> None:
        """Puts so many pieces on the shelves, beside those that orders hold."""
        for location, free in (("EAST", east), ("WEST", west)):
            path = f"/stock/control/shelves/{quote(sku, safe='')}/{location}"
            await self._do("PUT", path, {"free": free})

    async def leave(self, order_id: str, shipment_id: str) -> None:
        """The carrier drives off with a shipment, and calls back."""
        await self._do("POST", f"/shipping/control/shipments/{order_id}/{shipment_id}/leave")

    async def deliver(self, order_id: str, shipment_id: str) -> None:
        """The carrier has delivered a shipment, and calls back."""
        await self._do("POST", f"/shipping/control/shipments/{order_id}/{shipment_id}/deliver")

    async def books(self, party: str) -> dict[str, Any]:
        """What a service has in its books, by order."""
        answer = await self._do("GET", f"/{party}/control/books")
        orders: dict[str, Any] = answer.json()["orders"]
        return orders

    async def _do(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> httpx.Response:
        try:
            answer = await self._http.request(method, path, json=body)
        except httpx.TransportError as error:
            told = f"no answer ({error or type(error).__name__})"
        else:
            if answer.is_success:
                return answer
            told = f"{answer.status_code} {answer.text}"
        raise Unanswered(f"The stand-ins: {method} {path}: {told}")
