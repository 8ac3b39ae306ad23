"""What a payment service must do."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from dev.contract_check.calls import Call, Caller, Wrong, text_in
from dev.contract_check.examples import Examples
from orders.text import Reference

AMOUNT = 1_000
PART = 600


def authorisation(method: str) -> Call:
    """A new authorisation."""
    body = {
        "order_id": f"check_{secrets.token_hex(6)}",
        "authorisation_id": "authorise-1",
        "customer_id": "check",
        "amount": AMOUNT,
        "currency": "USD",
        "method": method,
    }
    return Call("/authorisations", body)


async def authorised(caller: Caller, examples: Examples) -> tuple[str, str]:
    """The order id and the reference of a new authorisation."""
    call = authorisation(examples.method)
    return call.body["order_id"], text_in(call, await caller.done(call), "reference", Reference)


def movement(owner: tuple[str, str], what: str, amount: int | None = None) -> Call:
    """A capture, refund or void."""
    order_id, reference = owner
    body = {"order_id": order_id, "step_id": f"{what}-{secrets.token_hex(4)}"}
    more = {} if amount is None else {"amount": amount}
    return Call(f"/authorisations/{reference}/{what}", body | more)


async def authorises_once(caller: Caller, examples: Examples) -> None:
    """An authorisation has a reference, and the same key gets it again."""
    call = authorisation(examples.method)
    first = await caller.done(call)
    text_in(call, first, "reference", Reference)
    await caller.repeats(call, first)


async def rejects_another_body(caller: Caller, examples: Examples) -> None:
    """Another body under a known key is a 422."""
    call = authorisation(examples.method)
    await caller.done(call)
    other = replace(call, body={**call.body, "amount": AMOUNT + 1})
    await caller.refuses(other, status=422)


async def authorises_concurrently(caller: Caller, examples: Examples) -> None:
    """Calls with the same key at the same time get the same reference."""
    call = authorisation(examples.method)
    bodies = await asyncio.gather(*(caller.done(call) for _ in range(4)))
    if len({text_in(call, body, "reference", Reference) for body in bodies}) > 1:
        raise Wrong(f"{call} was executed more than once under one key")


async def declines(caller: Caller, examples: Examples) -> None:
    """A declined payment is a 402 with the code `declined`, also when it is repeated."""
    call = authorisation(examples.declined_method)
    for _ in range(2):
        await caller.refuses(call, "declined", status=402)


async def captures_once(caller: Caller, examples: Examples) -> None:
    """A repeated capture takes no more money, and never more than is authorised."""
    owner = await authorised(caller, examples)
    part = movement(owner, "captures", PART)
    await caller.repeats(part, await caller.done(part))
    await caller.done(movement(owner, "captures", AMOUNT - PART))
    await caller.refuses(movement(owner, "captures", 1), "declined", status=402)


async def captures_once_without_response(caller: Caller, examples: Examples) -> None:
    """A capture whose response was lost is done once, and its repetition says so."""
    owner = await authorised(caller, examples)
    whole = movement(owner, "captures", AMOUNT)
    await caller.lose_response(whole)
    await caller.done(whole)


async def refunds_once(caller: Caller, examples: Examples) -> None:
    """A repeated refund pays no more, and never more than was captured."""
    owner = await authorised(caller, examples)
    await caller.done(movement(owner, "captures", AMOUNT))
    part = movement(owner, "refunds", PART)
    await caller.repeats(part, await caller.done(part))
    await caller.done(movement(owner, "refunds", AMOUNT - PART))
    await caller.refuses(movement(owner, "refunds", 1))


async def voids(caller: Caller, examples: Examples) -> None:
    """What is void cannot be captured."""
    owner = await authorised(caller, examples)
    void = movement(owner, "void")
    await caller.repeats(void, await caller.done(void))
    await caller.refuses(movement(owner, "captures", 1), "declined", status=402)


async def rejects_unknown_references(caller: Caller, examples: Examples) -> None:
    """An unknown reference is a 4xx with a code, and no decline."""
    nowhere = ("check_unknown", f"unknown-{secrets.token_hex(6)}")
    for what, amount in (("captures", 1), ("refunds", 1), ("void", None)):
        await caller.refuses(movement(nowhere, what, amount), status=404)


CHECKS: Mapping[str, Callable[[Caller, Examples], Awaitable[None]]] = {
    check.__doc__ or "": check
    for check in (
        authorises_once,
        rejects_another_body,
        authorises_concurrently,
        declines,
        captures_once,
        captures_once_without_response,
        refunds_once,
        voids,
        rejects_unknown_references,
    )
}
