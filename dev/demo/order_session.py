"""One order after it was placed: what can be done with it, and waiting for what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from dev.demo.http_client import Json, Wire
from dev.demo.simulator_client import StandIns

ORDERS = "/v1/orders"
PATIENCE_S = 60.0

Is = Callable[[Json], bool]


class Stalled(Exception):
    """An order has not become in time what it should; the message says what it is instead."""


class Sale:
    """An order, with the shop on one side of it and the services on the other."""

    def __init__(self, wire: Wire, stand_ins: StandIns, order_id: str) -> None:
        self.order_id = order_id
        self.stand_ins = stand_ins
        self._wire = wire
        self._asked = 0
        self._version = 0

    @property
    def path(self) -> str:
        return f"{ORDERS}/{self.order_id}"

    async def ask(self, command: str, **fields: Any) -> None:
        """Sends one command; raises Refused."""
        self._asked += 1
        key = f"{self.order_id}-{self._asked}"
        answer = await self._wire.command(f"{self.path}/commands/{command}", key, fields)
        self._version = max(self._version, answer["version"])

    async def order(self) -> Json:
        """The order with all in it that was answered so far."""
        return self._seen(await self._wire.read(self.path, min_version=self._version))

    async def becomes(self, what: str, so: Is) -> Json:
        """The order, once it is so; raises Stalled."""
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + PATIENCE_S
        order = await self.order()
        while not so(order):
            if clock() > give_up_at:
                raise Stalled(f"{what} expected, but it is {standing(order)}")
            if news := await self._wire.news(self.path, order["version"]):
                order = self._seen(news)
        return order

    def _seen(self, order: Json) -> Json:
        self._version = max(self._version, order["version"])
        return order

    # What often happens

    async def is_confirmed(self) -> Json:
        """Stock is held, the money is promised, and the carrier knows of each shipment."""
        return await self.becomes("confirmed", is_ready)

    async def awaits(self, answer: str) -> Json:
        """The customer has to decide on something."""
        return await self.becomes(f"a wait for {answer}", lambda order: order["awaits"] == answer)

    async def leaves(self) -> Json:
        """The carrier takes each shipment along."""
        for shipment_id in shipments(await self.is_confirmed(), "planned"):
            await self.stand_ins.leave(self.order_id, shipment_id)
        return await self.becomes("shipped", lambda o: has_come(o, "shipped") and is_settled(o))

    async def arrives(self) -> Json:
        """The carrier delivers what it took along."""
        for shipment_id in shipments(await self.order(), "dispatched"):
            await self.stand_ins.deliver(self.order_id, shipment_id)
        return await self.becomes("delivered", lambda o: has_come(o, "delivered") and is_settled(o))

    async def is_brought(self) -> Json:
        """The same without a carrier that calls back: the shop says itself how far it is."""
        for shipment_id in shipments(await self.is_confirmed(), "planned"):
            await self.ask("dispatch-shipment", shipment_id=shipment_id)
        for shipment_id in shipments(await self.order(), "dispatched"):
            await self.ask("confirm-delivery", shipment_id=shipment_id)
        return await self.becomes("delivered", lambda o: has_come(o, "delivered") and is_settled(o))

    async def comes_back(self, line_id: str, quantity: int, reason: str) -> Json:
        """The customer sends pieces back; they are fit for sale, and paid back."""
        pieces = [{"line_id": line_id, "quantity": quantity}]
        await self.ask("request-return", return_id="back", lines=pieces, reason=reason)
        await self.ask("approve-return", return_id="back")
        await self.ask("receive-return", return_id="back", lines=pieces, condition="sellable")
        return await self.settles()

    async def settles(self) -> Json:
        """Nobody owes anything any more."""
        return await self.becomes("settled", is_settled)


def shipments(order: Json, status: str) -> list[str]:
    """The ids of the shipments in a status."""
    return [s["shipment_id"] for s in order["shipments"] if s["status"] == status]


def has_come(order: Json, fulfilment: str) -> bool:
    return bool(order["fulfilment_status"] == fulfilment)


def is_ready(order: Json) -> bool:
    """Whether all of it can leave."""
    planned = [s for s in order["shipments"] if s["status"] == "planned"]
    return (
        order["status"] == "confirmed"
        and not (order["pending"] or order["missing"])
        and bool(planned)
        and all(shipment["tracking"] for shipment in planned)
    )


def is_settled(order: Json) -> bool:
    """Whether nothing is owed, neither by a service nor to the customer."""
    return not order["pending"] and paid(order) == order["payment"]["due"]


def paid(order: Json) -> int:
    """What the customer has paid and not got back, in minor units."""
    return int(order["payment"]["captured"] - order["payment"]["refunded"])


def promised(order: Json) -> int:
    """What is authorised and can still be captured, in minor units."""
    payment = order["payment"]
    return int(payment["authorised"] - payment["captured"] - payment["voided"])


def standing(order: Json) -> str:
    """How far an order is, in a few words; with what it waits for, if it does."""
    owed = [f"{step['step_id']} ({step['reason']})" for step in order["needs_attention"]]
    owed = owed or [step["step_id"] for step in order["pending"]]
    return f"{ending(order)}{_listed(', which waits for', owed)}"


def ending(order: Json) -> str:
    """How far an order is, in a word or two."""
    if order["return_status"] in ("partly_returned", "returned"):
        return str(order["return_status"]).replace("_", " ")
    reached = order["fulfilment_status"] if order["status"] == "confirmed" else order["status"]
    return str(order["status"] if reached == "none" else reached).replace("_", " ")


def _listed(before: str, things: Iterable[str]) -> str:
    return f"{before} {', '.join(things)}" if things else ""
