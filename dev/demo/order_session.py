"""One placed order: sends its commands, makes its services act, and waits for the result."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from dev.api_client import ApiClient, ConditionTimeout, Json
from dev.simulator_client import SimulatorClient

TIMEOUT_S = 60.0

Condition = Callable[[Json], bool]


class OrderStalled(Exception):
    """An order did not reach an expected state in time; the message says its actual state."""


class OrderSession:
    """An order, with the shop on one side of it and the services on the other."""

    def __init__(self, api: ApiClient, simulators: SimulatorClient, order_id: str) -> None:
        self.order_id = order_id
        self._api = api
        self._simulators = simulators
        self._commands = 0
        self._version = 0

    async def send(self, command: str, **fields: Any) -> None:
        """Sends one command; raises ApiRejection."""
        self._commands += 1
        key = f"{self.order_id}-{self._commands}"
        result = await self._api.command(self.order_id, command, fields, key=key)
        self._version = max(self._version, result["version"])

    async def order(self) -> Json:
        """The order with the effects of all commands sent so far."""
        return await self._api.order(self.order_id, self._version)

    async def wait_until(self, state: str, condition: Condition) -> Json:
        """The order once it meets the condition; raises OrderStalled."""
        try:
            order = await self._api.wait_until(
                self.order_id, condition, min_version=self._version, timeout_s=TIMEOUT_S
            )
        except ConditionTimeout as timeout:
            actual = describe_status(timeout.order)
            raise OrderStalled(f"{state} expected, but it is {actual}") from None
        self._version = max(self._version, order["version"])
        return order

    async def wait_until_ready(self) -> Json:
        """Stock is reserved, the payment is authorised, and each shipment is booked."""
        return await self.wait_until("confirmed", is_ready)

    async def wait_for_decision(self, decision: str) -> Json:
        """The order waits for the customer to decide on `payment` or `shortfall`."""
        return await self.wait_until(
            f"a wait for {decision}", lambda order: bool(order["awaits"] == decision)
        )

    async def wait_until_settled(self) -> Json:
        """No step is pending, and the customer paid what is earned."""
        return await self.wait_until("settled", is_settled)

    async def ship(self) -> Json:
        """The carrier collects each shipment."""
        for shipment_id in shipments(await self.wait_until_ready(), "planned"):
            await self._simulators.move_shipment(self.order_id, shipment_id, "leave")
        return await self._wait_until_fulfilled("shipped")

    async def deliver(self) -> Json:
        """The carrier delivers each shipment that it collected."""
        for shipment_id in shipments(await self.order(), "dispatched"):
            await self._simulators.move_shipment(self.order_id, shipment_id, "deliver")
        return await self._wait_until_fulfilled("delivered")

    async def deliver_by_shop(self) -> Json:
        """Ships and delivers by commands, without a carrier that sends callbacks."""
        for shipment_id in shipments(await self.wait_until_ready(), "planned"):
            await self.send("dispatch-shipment", shipment_id=shipment_id)
        for shipment_id in shipments(await self.order(), "dispatched"):
            await self.send("confirm-delivery", shipment_id=shipment_id)
        return await self._wait_until_fulfilled("delivered")

    async def return_pieces(self, line_id: str, quantity: int, reason: str) -> Json:
        """The customer returns sellable pieces, and gets the refund."""
        pieces = [{"line_id": line_id, "quantity": quantity}]
        await self.send("request-return", return_id="back", lines=pieces, reason=reason)
        await self.send("approve-return", return_id="back")
        await self.send("receive-return", return_id="back", lines=pieces, condition="sellable")
        return await self.wait_until_settled()

    async def _wait_until_fulfilled(self, status: str) -> Json:
        return await self.wait_until(
            status, lambda order: order["fulfilment_status"] == status and is_settled(order)
        )


def shipments(order: Json, status: str) -> list[str]:
    """The ids of the shipments in a status."""
    return [s["shipment_id"] for s in order["shipments"] if s["status"] == status]


def is_ready(order: Json) -> bool:
    """Whether all of it can be shipped."""
    planned = [s for s in order["shipments"] if s["status"] == "planned"]
    return (
        order["status"] == "confirmed"
        and not (order["pending"] or order["missing"])
        and bool(planned)
        and all(shipment["tracking"] for shipment in planned)
    )


def is_settled(order: Json) -> bool:
    """Whether no step is pending and the customer paid exactly what is earned."""
    return not order["pending"] and net_paid(order) == order["payment"]["earned"]


def net_paid(order: Json) -> int:
    """Captured less refunded, in minor units."""
    return int(order["payment"]["captured"] - order["payment"]["refunded"])


def open_authorisation(order: Json) -> int:
    """What is authorised and can still be captured, in minor units."""
    payment = order["payment"]
    return int(payment["authorised"] - payment["captured"] - payment["voided"])


def describe_status(order: Json) -> str:
    """The order's furthest status, with the steps that it waits for."""
    stuck = [f"{step['step_id']} ({step['reason']})" for step in order["needs_attention"]]
    pending = stuck or [step["step_id"] for step in order["pending"]]
    return f"{furthest_status(order)}{_listed(', which waits for', pending)}"


def furthest_status(order: Json) -> str:
    """The furthest of an order's statuses, as words."""
    if order["return_status"] in ("partly_returned", "returned"):
        return str(order["return_status"]).replace("_", " ")
    reached = order["fulfilment_status"] if order["status"] == "confirmed" else order["status"]
    return str(order["status"] if reached == "none" else reached).replace("_", " ")


def _listed(before: str, things: Iterable[str]) -> str:
    return f"{before} {', '.join(things)}" if things else ""
