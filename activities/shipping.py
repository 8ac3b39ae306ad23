"""The order's side of the carrier: book a shipment, and stop one that is not to leave."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from temporalio import activity

from activities.service_client import Body, Reply, Service, in_path, rejected_step
from orders.steps import Book, BookingAccepted, Piece, ShipmentDeparted, StepDone, StepRequest, Stop

Unseal = Callable[[str, str], Awaitable[dict[str, Any] | None]]
"""From a customer's id and a sealed address to the address; None if the customer was erased."""

GONE = "gone"
STOPPED = "stopped"


class Booked(Body):
    """The carrier will take the shipment."""

    tracking: str | None = None


class Gone(Body):
    """The shipment has left, with these pieces where the carrier knows them."""

    tracking: str | None = None
    lines: list[Piece] | None = None


class Shipping:
    """Activities over the carrier; each may be repeated at will."""

    def __init__(self, service: Service, unseal: Unseal) -> None:
        self._service = service
        self._unseal = unseal

    @activity.defn
    async def book_shipment(self, request: StepRequest) -> BookingAccepted | ShipmentDeparted:
        """Books a shipment, or its newest revision.

        One that was stopped is no answer to go on with: the order itself stops only what it books
        no more and then waits for no booking; if it does wait, somebody else has stopped it.
        """
        step = request.step
        assert isinstance(step, Book)
        body = {
            "step_id": step.step_id,
            "revision": step.revision,
            "location": step.location,
            "lines": [line.model_dump() for line in step.lines],
            "address": await self._address(request.customer_id, step.address),
        }
        path = in_path("shipments", request.order_id, step.shipment_id)
        refusals = {GONE, STOPPED}
        reply = await self._service.ask(request, "PUT", path, body, refusals, personal=True)
        if reply.refused == STOPPED:
            raise rejected_step(f"{reply.service} says that the shipment was stopped before")
        if reply.refused:
            return _gone(step.shipment_id, reply)
        return BookingAccepted(step_id=step.step_id, tracking=reply.read(Booked).tracking)

    @activity.defn
    async def stop_shipment(self, request: StepRequest) -> StepDone | ShipmentDeparted:
        """Makes sure that a shipment does not leave, unless it has left."""
        step = request.step
        assert isinstance(step, Stop)
        path = in_path("shipments", request.order_id, step.shipment_id, "stop")
        reply = await self._service.ask(request, "POST", path, {"step_id": step.step_id}, {GONE})
        return _gone(step.shipment_id, reply) if reply.refused else StepDone(step_id=step.step_id)

    async def _address(self, customer_id: str, sealed: str | None) -> dict[str, Any] | None:
        if sealed is None:
            return None
        address = await self._unseal(customer_id, sealed)
        if address is None:
            raise rejected_step("the customer was erased: there is no address to ship to")
        return address


def _gone(shipment_id: str, reply: Reply) -> ShipmentDeparted:
    gone = reply.read(Gone)
    return ShipmentDeparted(shipment_id=shipment_id, tracking=gone.tracking, lines=gone.lines)
