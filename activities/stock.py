"""The order's side of the stock service: hold pieces, let go of them, take them out, put back."""

from __future__ import annotations

from collections import Counter
from typing import Any

from temporalio import activity

from activities.service_client import Body, Service, rejected_step
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
    """What the stock service holds by now: as much of what was asked for as there is."""

    held: list[Held]


class Stock:
    """Activities over the stock service; each may be repeated at will."""

    def __init__(self, service: Service) -> None:
        self._service = service

    @activity.defn
    async def reserve_stock(self, request: StepRequest) -> StockHeld:
        """Asks for pieces to be held; it is no error that there are fewer, or none."""
        step = request.step
        assert isinstance(step, Reserve)
        body = _about(request) | {"lines": [line.model_dump() for line in step.lines]}
        reply = await self._service.ask(request, "POST", "/reservations", body)
        held = reply.read(Reserved).held
        if not _is_part_of(step.lines, held):
            raise rejected_step(f"{reply.service} holds what it was not asked for")
        return StockHeld(step_id=step.step_id, held=held)

    @activity.defn
    async def release_stock(self, request: StepRequest) -> StepDone:
        """Lets go of pieces that were held."""
        assert isinstance(request.step, Release)
        return await self._move(request, "/releases", request.step.held)

    @activity.defn
    async def withdraw_stock(self, request: StepRequest) -> StepDone:
        """Takes pieces that were held out of stock: they have left."""
        assert isinstance(request.step, Withdraw)
        return await self._move(request, "/withdrawals", request.step.held)

    @activity.defn
    async def restock(self, request: StepRequest) -> StepDone:
        """Puts pieces that came back on their shelf again."""
        assert isinstance(request.step, Restock)
        return await self._move(request, "/returns", request.step.held)

    async def _move(self, request: StepRequest, path: str, held: list[Held]) -> StepDone:
        body = _about(request) | {"held": [pieces.model_dump() for pieces in held]}
        await self._service.ask(request, "POST", path, body)
        return StepDone(step_id=request.step.step_id)


def _about(request: StepRequest) -> dict[str, Any]:
    return {"order_id": request.order_id, "step_id": request.step.step_id}


def _is_part_of(asked: list[Piece], held: list[Held]) -> bool:
    left = Counter({(piece.line_id, piece.sku): piece.quantity for piece in asked})
    for pieces in held:
        left[pieces.line_id, pieces.sku] -= pieces.quantity
    return min(left.values(), default=0) >= 0 and all(pieces.quantity > 0 for pieces in held)
