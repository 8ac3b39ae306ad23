"""Activities over the stock service: reserve, release, withdraw, restock."""

from __future__ import annotations

from collections import Counter

from temporalio import activity

from activities.service_client import Body, Service, step_body, step_rejected
from orders.service_fields import ReservedPiece
from orders.steps import (
    Held,
    Piece,
    Release,
    Reserve,
    Restock,
    StepDone,
    StepRequest,
    StockHeld,
    Withdraw,
)


class Reserved(Body):
    """The pieces reserved, which may be fewer than requested."""

    held: list[ReservedPiece]


class Stock:
    """Activities over the stock service; each is idempotent by the key of its step."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @activity.defn
    async def reserve_stock(self, request: StepRequest) -> StockHeld:
        """Reserves pieces; it is no error that there are fewer, or none."""
        step = request.step
        assert isinstance(step, Reserve)
        body = step_body(request) | {"lines": [line.model_dump() for line in step.lines]}
        reply = await self._service.call(request, "POST", "/reservations", body)
        reserved = reply.read(Reserved).model_dump()
        result = StockHeld.model_validate({"step_id": step.step_id, **reserved})
        if not _is_part_of(step.lines, result.held):
            raise step_rejected(f"{reply.service} reserved pieces that the order did not request")
        return result

    @activity.defn
    async def release_stock(self, request: StepRequest) -> StepDone:
        """Releases reserved pieces."""
        assert isinstance(request.step, Release)
        return await self._move(request, "/releases", request.step.held)

    @activity.defn
    async def withdraw_stock(self, request: StepRequest) -> StepDone:
        """Takes reserved pieces out of stock: they have left."""
        assert isinstance(request.step, Withdraw)
        return await self._move(request, "/withdrawals", request.step.held)

    @activity.defn
    async def restock(self, request: StepRequest) -> StepDone:
        """Puts returned pieces back in stock."""
        assert isinstance(request.step, Restock)
        return await self._move(request, "/returns", request.step.held)

    async def _move(self, request: StepRequest, path: str, held: list[Held]) -> StepDone:
        body = step_body(request) | {"held": [pieces.model_dump() for pieces in held]}
        await self._service.call(request, "POST", path, body)
        return StepDone(step_id=request.step.step_id)


def _is_part_of(requested: list[Piece], held: list[Held]) -> bool:
    left = Counter({(piece.line_id, piece.sku): piece.quantity for piece in requested})
    for pieces in held:
        left[pieces.line_id, pieces.sku] -= pieces.quantity
    return min(left.values(), default=0) >= 0 and all(pieces.quantity > 0 for pieces in held)
