"""What a shipping service must do."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from dev.contract_check.calls import Call, Caller, Json, Wrong, text_in
from dev.contract_check.examples import Examples
from orders.text import Name

ADDRESS = {
    "name": "Check",
    "line1": "1 Elm Street",
    "city": "Springfield",
    "postal_code": "90210",
    "country": "US",
}


def new_shipment() -> str:
    """The path of a shipment."""
    return f"/shipments/check_{secrets.token_hex(6)}/shipment-1"


def booking(path: str, examples: Examples, revision: int = 1, pieces: int = 1) -> Call:
    """A booking; a higher revision replaces an earlier one."""
    body = {
        "step_id": f"book-{revision}",
        "revision": revision,
        "location": examples.location,
        "lines": [{"line_id": "1", "sku": examples.sku, "quantity": pieces}],
        "address": ADDRESS,
    }
    return Call(path, body, "PUT")


def stop(path: str) -> Call:
    """Stops a shipment."""
    return Call(f"{path}/stop", {"step_id": f"stop-{secrets.token_hex(4)}"})


def check_tracking(call: Call, body: Json) -> None:
    """A tracking number is a text, or there is none yet."""
    if not isinstance(body.get("tracking"), str | None):
        raise Wrong(f"{call} answered a `tracking` that is no text")
    if body.get("tracking"):
        text_in(call, body, "tracking", Name)


async def books_once(caller: Caller, examples: Examples) -> None:
    """A booking is accepted, and the same key gets the first response again."""
    call = booking(new_shipment(), examples)
    first = await caller.done(call)
    check_tracking(call, first)
    await caller.repeats(call, first)


async def rejects_another_body(caller: Caller, examples: Examples) -> None:
    """Another body under a known key is a 422."""
    call = booking(new_shipment(), examples)
    await caller.done(call)
    await caller.refuses(replace(call, body={**call.body, "revision": 2}), status=422)


async def books_without_response(caller: Caller, examples: Examples) -> None:
    """A booking whose response was lost is accepted when it is repeated."""
    call = booking(new_shipment(), examples)
    await caller.lose_response(call)
    check_tracking(call, await caller.done(call))


async def books_revisions(caller: Caller, examples: Examples) -> None:
    """A higher revision replaces a booking, and an overtaken one is no error."""
    path = new_shipment()
    await caller.done(booking(path, examples, revision=2, pieces=2))
    await caller.done(booking(path, examples, revision=3, pieces=1))
    await caller.done(booking(path, examples, revision=1, pieces=3))


async def stops_for_ever(caller: Caller, examples: Examples) -> None:
    """A stopped shipment can be stopped again, and is not booked any more."""
    path = new_shipment()
    await caller.done(booking(path, examples))
    call = stop(path)
    await caller.repeats(call, await caller.done(call))
    await caller.done(stop(path))
    await caller.refuses(booking(path, examples, revision=2), "stopped", status=409)


async def stops_before_the_booking(caller: Caller, examples: Examples) -> None:
    """A shipment that is not known yet can be stopped, and its late booking is a 409."""
    path = new_shipment()
    await caller.done(stop(path))
    await caller.refuses(booking(path, examples), "stopped", status=409)


CHECKS: Mapping[str, Callable[[Caller, Examples], Awaitable[None]]] = {
    check.__doc__ or "": check
    for check in (
        books_once,
        rejects_another_body,
        books_without_response,
        books_revisions,
        stops_for_ever,
        stops_before_the_booking,
    )
}
