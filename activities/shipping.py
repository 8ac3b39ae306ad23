"""Activities over the carrier: book a shipment, and stop one that must not leave."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from temporalio import activity

from activities.service_client import Body, Reply, Service, step_rejected, url_path
from orders.service_fields import ReportedPiece, Tracking
from orders.steps import Book, BookingAccepted, ShipmentDeparted, StepDone, StepRequest, Stop

Unseal = Callable[[str, str], Awaitable[dict[str, Any] | None]]
"""(customer id, sealed address) → address; None if the customer was erased."""

GONE = "gone"
STOPPED = "stopped"


class Booked(Body):
    """The carrier accepts the shipment."""

    tracking: Tracking = None


class Gone(Body):
    """The shipment has left; `lines` are its pieces, where the carrier knows them."""

    tracking: Tracking = None
    lines: list[ReportedPiece] | None = None


class Shipping:
    """Activities over the carrier; each is idempotent by the key of its step."""

    def __init__(self, service: Service, unseal: Unseal) -> None:
        self._service = service
        self._unseal = unseal

    @activity.defn
    async def book_shipment(self, request: StepRequest) -> BookingAccepted | ShipmentDeparted:
        """Books a shipment, or its newest revision.

        A rejection because the shipment was stopped leaves the step stuck: the order does not book
        what it has stopped itself, so the shipment was stopped elsewhere.
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
        path = url_path("shipments", request.order_id, step.shipment_id)
        rejections = {GONE, STOPPED}
        reply = await self._service.call(request, "PUT", path, body, rejections, personal=True)
        if reply.rejection_code == STOPPED:
            raise step_rejected(f"{reply.service} says that the shipment was stopped before")
        if reply.rejection_code:
            return _gone(step.shipment_id, reply)
        return BookingAccepted(step_id=step.step_id, tracking=reply.read(Booked).tracking)

    @activity.defn
    async def stop_shipment(self, request: StepRequest) -> StepDone | ShipmentDeparted:
        """Stops a shipment, unless it has left."""
        step = request.step
        assert isinstance(step, Stop)
        path = url_path("shipments", request.order_id, step.shipment_id, "stop")
        reply = await self._service.call(request, "POST", path, {"step_id": step.step_id}, {GONE})
        return (
            _gone(step.shipment_id, reply)
            if reply.rejection_code
            else StepDone(step_id=step.step_id)
        )

    async def _address(self, customer_id: str, sealed: str | None) -> dict[str, Any] | None:
        if sealed is None:
            return None
        address = await self._unseal(customer_id, sealed)
        if address is None:
            raise step_rejected("the customer was erased: there is no address to ship to")
        return address


def _gone(shipment_id: str, reply: Reply) -> ShipmentDeparted:
    gone = reply.read(Gone).model_dump()
    return ShipmentDeparted.model_validate({"shipment_id": shipment_id, **gone})
