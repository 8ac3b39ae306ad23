"""The stock service's stand-in: two locations, pieces that are held, and the books."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Response
from pydantic import BaseModel, Field

from dev.simulators import fault_injection as magic
from dev.simulators import inventory as shelves
from dev.simulators.idempotent_service import CONTROL, Asked, Desk, Keyed, Rejected
from dev.simulators.inventory import Loss, Move, Reservation, Reserved
from dev.simulators.outbox import Event


class Done(BaseModel):
    """It is done."""

    status: str = "done"


class Shelf(Asked):
    """How many pieces there are that nobody holds."""

    free: int = Field(ge=0)


def create(desk: Desk) -> FastAPI:
    """The service; its OpenAPI document is the contract for a real one."""
    app = FastAPI(title="Stock", version="1", description=__doc__)
    desk.install(app)
    refused: dict[int | str, dict[str, Any]] = {422: {"model": Rejected}}

    @app.post("/reservations", status_code=201, response_model=Reserved, responses=refused)
    async def reserve(call: Keyed, asked: Reservation) -> Response:
        """Holds as many pieces as there are, at one location or several; fewer is no error."""
        trouble = magic.of_skus(line.sku for line in asked.lines)
        return await desk.carry_out(
            call, asked, asked.order_id, trouble, lambda db: shelves.reserved(db, asked)
        )

    @app.post("/releases", response_model=Done, responses=refused)
    async def release(call: Keyed, asked: Move) -> Response:
        """Lets go of pieces: others may have them."""
        trouble = magic.of_skus(pieces.sku for pieces in asked.held)
        return await desk.carry_out(
            call, asked, asked.order_id, trouble, lambda db: shelves.let_go(db, asked, "free")
        )

    @app.post("/withdrawals", response_model=Done, responses=refused)
    async def withdraw(call: Keyed, asked: Move) -> Response:
        """Held pieces have left the building."""
        trouble = magic.of_skus(pieces.sku for pieces in asked.held)
        return await desk.carry_out(
            call, asked, asked.order_id, trouble, lambda db: shelves.let_go(db, asked, "withdrawn")
        )

    @app.post("/returns", response_model=Done, responses=refused)
    async def take_back(call: Keyed, asked: Move) -> Response:
        """Pieces that had left came back and can be sold again."""
        trouble = magic.of_skus(pieces.sku for pieces in asked.held)
        return await desk.carry_out(
            call, asked, asked.order_id, trouble, lambda db: shelves.put_back(db, asked)
        )

    @app.put("/control/shelves/{sku}/{location}", status_code=204, tags=[*CONTROL])
    async def set_shelf(sku: str, location: str, asked: Shelf) -> None:
        """Says how many pieces there are beside those that are held."""
        with desk.store.transaction() as db:
            shelves.set_free(db, sku, location, asked.free)

    @app.post(
        "/control/losses", status_code=204, responses={422: {"model": Rejected}}, tags=[*CONTROL]
    )
    async def lose(asked: Loss) -> None:
        """Takes held pieces away, and tells of it by the callback `stock.lost`."""
        with desk.store.transaction() as db:
            shelves.lose(db, asked)
            desk.tell(db, Event("stock.lost", asked.model_dump()))

    @app.get("/control/books", tags=[*CONTROL])
    async def books(order_id: str | None = None) -> dict[str, Any]:
        """By order what is held, withdrawn, returned and lost of each SKU; and the shelves."""
        with desk.store.transaction() as db:
            return {"orders": shelves.orders(db, order_id), "shelves": shelves.shelves(db)}

    return app
