"""The simulated stock service: two locations, held pieces, and the ledger."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Response
from pydantic import BaseModel, Field

from dev.simulators import inventory
from dev.simulators.fault_injection import Fault, stock_fault
from dev.simulators.idempotent_service import (
    CONTROL,
    IdempotentService,
    KeyedRequest,
    Rejection,
    ServiceRequest,
)
from dev.simulators.inventory import Loss, Reservation, ReservationResult, StockMovement
from dev.simulators.outbox import CallbackEvent


class Done(BaseModel):
    """It is done."""

    status: str = "done"


class StockLevel(ServiceRequest):
    """The number of pieces that are not held."""

    free: int = Field(ge=0)


def create(service: IdempotentService) -> FastAPI:
    """The application; its OpenAPI document is the contract for a real stock service."""
    app = FastAPI(title="Stock", version="1", description=__doc__)
    service.add_common_routes(app)
    rejected: dict[int | str, dict[str, Any]] = {422: {"model": Rejection}}

    @app.post(
        "/reservations", status_code=201, response_model=ReservationResult, responses=rejected
    )
    async def reserve(keyed: KeyedRequest, body: Reservation) -> Response:
        """Holds as many pieces as there are, at one location or several; fewer is no error."""
        fault = stock_fault(line.sku for line in body.lines)
        return await service.execute(
            keyed, body, body.order_id, fault, lambda db: inventory.reserve(db, body)
        )

    @app.post("/releases", response_model=Done, responses=rejected)
    async def release(keyed: KeyedRequest, body: StockMovement) -> Response:
        """Releases held pieces: other orders may have them."""
        return await service.execute(
            keyed, body, body.order_id, _fault(body), lambda db: inventory.release(db, body)
        )

    @app.post("/withdrawals", response_model=Done, responses=rejected)
    async def withdraw(keyed: KeyedRequest, body: StockMovement) -> Response:
        """Held pieces have left the location."""
        return await service.execute(
            keyed, body, body.order_id, _fault(body), lambda db: inventory.withdraw(db, body)
        )

    @app.post("/returns", response_model=Done, responses=rejected)
    async def restock(keyed: KeyedRequest, body: StockMovement) -> Response:
        """Pieces that had left came back and can be sold again."""
        return await service.execute(
            keyed, body, body.order_id, _fault(body), lambda db: inventory.restock(db, body)
        )

    @app.put("/control/shelves/{sku}/{location}", status_code=204, tags=[*CONTROL])
    async def set_stock_level(sku: str, location: str, body: StockLevel) -> None:
        """Sets the number of pieces that are not held."""
        with service.store.transaction() as db:
            inventory.set_free(db, sku, location, body.free)

    @app.post(
        "/control/losses", status_code=204, responses={422: {"model": Rejection}}, tags=[*CONTROL]
    )
    async def lose(body: Loss) -> None:
        """Removes held pieces, and sends the callback `stock.lost`."""
        with service.store.transaction() as db:
            inventory.lose(db, body)
            service.send_callback(db, CallbackEvent("stock.lost", body.model_dump()))

    @app.get("/control/books", tags=[*CONTROL])
    async def show_ledger(order_id: str | None = None) -> dict[str, Any]:
        """By order the pieces held, withdrawn, returned and lost; and all stock levels."""
        with service.store.transaction() as db:
            return {
                "orders": inventory.ledger(db, order_id),
                "shelves": inventory.stock_levels(db),
            }

    return app


def _fault(body: StockMovement) -> Fault:
    return stock_fault(pieces.sku for pieces in body.held)
