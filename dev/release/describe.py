"""Describes the version of its checkout: its shapes, and what it makes of recorded orders.

`python -m dev.release.describe` reads a Request from its input, and writes a Description to a file.
Each version is described by its own code, in a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
from pydantic import BaseModel
from temporalio.client import WorkflowHistory

from contracts import event_schemas, openapi_document, stored_examples, stored_shapes
from dev.release.golden import read_history
from eventlog import log
from eventlog.envelope import Envelope, Metadata
from eventlog.postgres import connect
from orders.evolve import fold
from orders.order import Order
from orders.upcasting import UnreadableEvent, restore
from readside.engine import generations, parking
from readside.engine.batches import catch_up
from readside.engine.generations import LIVE
from readside.engine.migrate import migrate
from readside.engine.projection import Projection
from readside.registry import PROJECTIONS
from rehearsal.redecide import Input, Unreadable, apply, decide
from workflows.replay import reason_of, replayer
from workflows.snapshot import state_of

Json = dict[str, Any]

REASON_CHARACTERS_MAX = 200
_METADATA = Metadata(actor="anonymous", command="any", command_id="any", payload_hash="any")


class Request(BaseModel):
    """What to describe."""

    output: Path
    """Not the standard output: Temporal's SDK logs there, and rules may print."""
    orders: Path
    """Recorded orders, as `dev.release.past` writes them."""
    dsn: str
    """Of an empty database, for the read models."""
    histories: list[Path] = []
    """Recorded runs of workflows, to replay."""
    written: dict[str, str] | None = None
    """Examples of what the other version writes; None for the version before."""
    old_database: str | None = None
    """The address of a database that the other version has set up, to migrate."""


class ReadModel(BaseModel):
    """A read model of the recorded orders."""

    version: int
    rows: list[str]
    """Each with its table, as text; sorted."""
    parked: dict[str, str]
    """Why an order cannot be projected, by its id."""


class Description(BaseModel):
    """A version of orderly."""

    states: dict[str, Json]
    """Of the recorded orders, by id."""
    unreadable: dict[str, str]
    """Why the events of an order cannot be read, by its id."""
    read_models: dict[str, ReadModel]
    replayed: int = 0
    diverged: dict[str, str] = {}
    """Why a recorded run does not replay, by its name."""
    # Not of the version before: it is held to the contracts that it has committed.
    shapes: Json = {}
    openapi: Json = {}
    event_schemas: dict[str, Json] = {}
    # Nor the rest: it decides nothing again.
    redecided: int = 0
    rewritten: dict[str, str] = {}
    """What of a recorded order would be decided otherwise, by its id."""
    unreadable_examples: list[str] = []


async def describe(request: Request) -> Description:
    """The version that is imported here."""
    if request.old_database is not None:
        await migrate(request.old_database, PROJECTIONS)
    orders = [json.loads(line) for line in request.orders.read_text().splitlines()]
    states, unreadable = _folded(orders)
    description = Description(
        states=states,
        unreadable=unreadable,
        read_models=await _read_models(request.dsn, orders),
        replayed=len(request.histories),
        diverged=await _diverged(request.histories),
    )
    if request.written is not None:
        description.shapes = stored_shapes.shapes()
        description.openapi = openapi_document.document()
        description.event_schemas = event_schemas.schemas()
        description.unreadable_examples = list(stored_examples.unreadable(request.written))
        description.redecided = len(orders)
        reasons = {order["order_id"]: _rewritten(order["inputs"]) for order in orders}
        description.rewritten = {key: reason for key, reason in reasons.items() if reason}
    return description


def _folded(orders: Sequence[Json]) -> tuple[dict[str, Json], dict[str, str]]:
    states: dict[str, Json] = {}
    unreadable: dict[str, str] = {}
    for order in orders:
        facts = [fact for given in order["inputs"] for fact in given[3]]
        try:
            states[order["order_id"]] = state_of(fold(restore(*fact) for fact in facts))
        except UnreadableEvent as error:
            unreadable[order["order_id"]] = _short(error)
    return states, unreadable


async def _read_models(dsn: str, orders: Sequence[Json]) -> dict[str, ReadModel]:
    """Projects the events of the orders in a database of its own."""
    await migrate(dsn, PROJECTIONS)
    connection = await connect(dsn)
    try:
        for order in orders:
            await log.append(connection, order["order_id"], _envelopes(order["inputs"]))
    finally:
        await connection.close()
    return {projection.name: await _read_model(dsn, projection) for projection in PROJECTIONS}


def _envelopes(inputs: Sequence[Any]) -> list[Envelope]:
    facts = [(at, fact) for at, _, _, events in inputs for fact in events]
    return [
        Envelope(
            version=version,
            occurred_at=datetime.fromisoformat(at),
            type=type_,
            schema_version=schema_version,
            data=data,
            metadata=_METADATA,
        )
        for version, (at, (type_, schema_version, data)) in enumerate(facts, start=1)
    ]


async def _read_model(dsn: str, projection: Projection) -> ReadModel:
    rows: list[str] = []
    async with generations.connected(dsn, projection) as connection:
        await catch_up(connection, projection, LIVE)
        tables = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = $1", projection.name
        )
        for (table,) in tables:
            found = await connection.fetch(f"SELECT to_jsonb(t)::text FROM {table} t")
            rows += [f"{table} {row[0]}" for row in found]
        parked = await parking.parked_orders(connection)
    errors = {p.order_id: _short(p.error) for p in parked if p.projection == projection.name}
    return ReadModel(version=projection.version, rows=sorted(rows), parked=errors)


def _rewritten(inputs: Sequence[Any]) -> str | None:
    """What these rules decide otherwise of what was accepted; None if nothing."""
    order = Order()
    for at, intent, code, events in inputs:
        if code is not None:
            continue  # A rejection leaves no trace in a history.
        given = Input(datetime.fromisoformat(at), intent, code, events)
        try:
            if intent is None:
                order = apply(events, order)
                continue
            decision = decide(given, order)
        except Unreadable as error:
            return _short(error)
        except Exception as error:  # The rules are under test: they may fail in any way.
            return _short(f"{type(error).__name__}: {error}")
        if not decision.is_as(given):
            came = decision.code or ", ".join(event.type for event in decision.events) or "nothing"
            was = ", ".join(fact[0] for fact in events)
            other = f"of other content: {came}" if came == was else f"{came} instead of {was}"
            return f"{decision.messages[0].type} would cause {other}"
        order = decision.order
    return None


async def _diverged(files: Sequence[Path]) -> dict[str, str]:
    """Why recorded runs do not replay, by file name."""
    names: list[str] = []
    reasons: dict[str, str] = {}

    async def histories() -> AsyncIterator[WorkflowHistory]:
        for file in files:
            history = read_history(file)
            if len(history.events) > 1:  # See `begun`.
                names.append(file.stem)
                yield history

    async with replayer().workflow_replay_iterator(histories()) as results:
        async for result in results:
            if result.replay_failure is not None:
                reasons[names[-1]] = reason_of(result.replay_failure)
    return reasons


def _short(reason: object) -> str:
    return " ".join(str(reason).split())[:REASON_CHARACTERS_MAX]


def main() -> None:
    request = Request.model_validate_json(sys.stdin.read())
    try:
        description = asyncio.run(describe(request))
    except asyncpg.PostgresError as error:
        reason = str(error).partition("\n")[0]
        sys.exit(f"Postgres rejects a statement of this version: {reason}")
    request.output.write_text(description.model_dump_json())


if __name__ == "__main__":
    main()
