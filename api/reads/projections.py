"""The state of the read models: how far each is, what it fails on, and its rebuild."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from fastapi import APIRouter
from pydantic import BaseModel, Field

from api.auth.authentication import require_scope
from api.auth.permissions import OPERATE
from api.dependencies import PoolDep
from api.problems.handlers import PROBLEMS
from eventlog.postgres import Reader
from readside.engine import parking
from readside.engine.monitoring import read_generations, read_metrics
from readside.registry import PROJECTIONS

router = APIRouter(
    prefix="/v1/projections",
    tags=["Operations"],
    responses=PROBLEMS,
    route_class=require_scope(OPERATE),
)


class ParkedOrder(BaseModel):
    """An order that a read model cannot show up to date."""

    projection: str
    order_id: str
    version: int = Field(description="of the event that it fails on")
    error: str
    since: datetime


class Rebuild(BaseModel):
    """A new generation of a read model that is being filled, or is prepared."""

    filled: int = Field(description="events so far")
    events: int
    is_filled: bool


class ReadModel(BaseModel):
    """One read model."""

    name: str
    version: int | None = Field(description="of the code that made its tables")
    position: int = Field(description="in the log; all events up to it are projected")
    lag_seconds: float = Field(description="age of the oldest event that is not projected; 0: none")
    is_stopped: bool = Field(description="until a person restarts it")
    parked_orders: int
    rebuild: Rebuild | None
    previous_version: int | None = Field(description="of what a rollback restores; null: nothing")


class ReadModels(BaseModel):
    """All read models, and the orders that one of them fails on."""

    items: list[ReadModel]
    parked_orders: list[ParkedOrder]


@router.get("", summary="Get the read models")
async def get_projections(pool: PoolDep) -> ReadModels:
    """Lag, parked orders, and rebuilds of each read model."""
    names = [projection.name for projection in PROJECTIONS]
    generations = await read_generations(pool)
    items = []
    for one in await read_metrics(pool, names):
        known = generations[one.projection]
        about = known._asdict()
        rebuild = None if known.events is None else Rebuild(**about)
        items.append(ReadModel(name=one.projection, rebuild=rebuild, **asdict(one), **about))
    return ReadModels(items=items, parked_orders=await parked_orders(pool))


async def parked_orders(reader: Reader) -> list[ParkedOrder]:
    """The orders that a read model fails on, the oldest first."""
    return [
        ParkedOrder(since=one.parked_at, **one._asdict())
        for one in await parking.parked_orders(reader)
    ]
