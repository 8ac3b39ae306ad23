"""What a stock service must do."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from dev.contract_check.calls import Call, Caller, Json, Wrong, text_in
from dev.contract_check.examples import Examples
from orders.text import LongName

PIECES = 3


def reservation(sku: str, order_id: str | None = None) -> Call:
    """A reservation of some pieces for a new order."""
    body = {
        "order_id": order_id or f"check_{secrets.token_hex(6)}",
        "step_id": f"reserve-{secrets.token_hex(4)}",
        "lines": [{"line_id": "1", "sku": sku, "quantity": PIECES}],
    }
    return Call("/reservations", body)


def held_in(call: Call, body: Json) -> list[dict[str, Any]]:
    """The pieces that a reservation holds: never more than requested."""
    held = body.get("held")
    if not isinstance(held, list) or not all(map(_is_held, held)):
        raise Wrong(
            f"{call} answered without `held`, a list of line_id, sku, location and quantity"
        )
    for pieces in held:
        text_in(call, pieces, "location", LongName)
    if sum(pieces["quantity"] for pieces in held) > PIECES:
        raise Wrong(f"{call} reserved more than was requested")
    return held


def _is_held(pieces: object) -> bool:
    if not isinstance(pieces, dict):
        return False
    texts = all(isinstance(pieces.get(name), str) for name in ("line_id", "sku", "location"))
    quantity = pieces.get("quantity")
    return texts and isinstance(quantity, int) and quantity > 0


async def reserved(caller: Caller, examples: Examples) -> tuple[str, dict[str, Any]]:
    """The order id and the pieces, at one location, of a new reservation."""
    call = reservation(examples.sku)
    held = held_in(call, await caller.done(call))
    if sum(pieces["quantity"] for pieces in held) < PIECES:
        raise Wrong(f"{examples.sku} is out of stock: name another with --sku")
    return call.body["order_id"], held[0]


def movement(path: str, order_id: str, pieces: Json, quantity: int) -> Call:
    """A release, withdrawal or return."""
    body = {
        "order_id": order_id,
        "step_id": f"move-{secrets.token_hex(4)}",
        "held": [{**pieces, "quantity": quantity}],
    }
    return Call(path, body)


async def reserves_once(caller: Caller, examples: Examples) -> None:
    """A reservation names its pieces, and the same key gets them again."""
    call = reservation(examples.sku)
    first = await caller.done(call)
    held_in(call, first)
    await caller.repeats(call, first)


async def rejects_another_body(caller: Caller, examples: Examples) -> None:
    """Another body under a known key is a 422."""
    call = reservation(examples.sku)
    await caller.done(call)
    other = {**call.body, "lines": [{**call.body["lines"][0], "quantity": PIECES - 1}]}
    await caller.refuses(replace(call, body=other), status=422)


async def reserves_concurrently(caller: Caller, examples: Examples) -> None:
    """Calls with the same key at the same time get the same pieces."""
    call = reservation(examples.sku)
    bodies = await asyncio.gather(*(caller.done(call) for _ in range(4)))
    if any(body != bodies[0] for body in bodies):
        raise Wrong(f"{call} was executed more than once under one key")


async def reserves_what_there_is(caller: Caller, examples: Examples) -> None:
    """That there are too few pieces is a 2xx with fewer of them, or none."""
    call = reservation(examples.missing_sku)
    if held_in(call, await caller.done(call)):
        raise Wrong(f"{call} reserved {examples.missing_sku}, which is to be out of stock")


async def withdraws_once(caller: Caller, examples: Examples) -> None:
    """Pieces leave once, come back once, and never more than are held."""
    order_id, pieces = await reserved(caller, examples)
    all_of_it: int = pieces["quantity"]
    withdrawal = movement("/withdrawals", order_id, pieces, all_of_it)
    await caller.repeats(withdrawal, await caller.done(withdrawal))
    await caller.refuses(movement("/withdrawals", order_id, pieces, 1))
    back = movement("/returns", order_id, pieces, all_of_it)
    await caller.repeats(back, await caller.done(back))
    await caller.refuses(movement("/returns", order_id, pieces, 1))


async def releases_once_without_response(caller: Caller, examples: Examples) -> None:
    """A release whose response was lost is done once, and its repetition says so."""
    order_id, pieces = await reserved(caller, examples)
    release = movement("/releases", order_id, pieces, pieces["quantity"])
    await caller.lose_response(release)
    await caller.done(release)
    await caller.refuses(movement("/releases", order_id, pieces, 1))


async def rejects_unknown_orders(caller: Caller, examples: Examples) -> None:
    """Pieces that an order does not hold are a 4xx with a code."""
    pieces = {"line_id": "1", "sku": examples.sku, "location": examples.location}
    for path in ("/releases", "/withdrawals", "/returns"):
        await caller.refuses(movement(path, f"check_{secrets.token_hex(6)}", pieces, 1))


CHECKS: Mapping[str, Callable[[Caller, Examples], Awaitable[None]]] = {
    check.__doc__ or "": check
    for check in (
        reserves_once,
        rejects_another_body,
        reserves_concurrently,
        reserves_what_there_is,
        withdraws_once,
        releases_once_without_response,
        rejects_unknown_orders,
    )
}
