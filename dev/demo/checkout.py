"""A shop front: takes baskets to the API the way a web shop does, and keeps count of it."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dev.demo.baskets import Basket
from dev.demo.http_client import Json, Reason, Rejected, Wire
from dev.demo.order_session import ORDERS

IN_STEPS_EVERY = 3


@dataclass(frozen=True)
class Placed:
    """An order that the API says is placed, of the basket with this number."""

    number: int
    order_id: str
    lines: int
    in_steps: bool


@dataclass
class Tally:
    """What has happened in the shop so far."""

    placed: list[Placed] = field(default_factory=list)
    not_placed: int = 0
    commands: int = 0
    """Those that an order has carried out; several may come in one request."""
    reasons: Counter[Reason] = field(default_factory=Counter)
    refused_lines: Counter[str] = field(default_factory=Counter)
    """By basket."""
    freshness_s: list[float] = field(default_factory=list)
    """For each order: from the last acknowledgement until the read model had it."""

    @property
    def baskets(self) -> int:
        return len(self.placed) + self.not_placed


class ShopFront:
    """Turns baskets into orders; every request has a key that it keeps when it is repeated.

    `methods` are the ways to pay, by a basket's number; the others pay in some way or other.
    """

    def __init__(self, wire: Wire, tally: Tally, methods: Mapping[int, str | None]) -> None:
        self._wire = wire
        self._tally = tally
        self._methods = methods
        self._visit = secrets.token_hex(4)  # A second run on the same data brings new orders.

    async def serve(self, number: int, basket: Basket) -> None:
        """Takes one basket to its order, or finds that it cannot be one; raises Unanswered."""
        key = f"demo-{self._visit}-{number}"
        in_steps = number % IN_STEPS_EVERY == 0
        payment = {"payment_method": self._methods.get(number)}
        answer = await (self._in_steps if in_steps else self._at_once)(key, basket, payment)
        if answer is None:
            self._tally.not_placed += 1
            return
        order = await self._seen(answer)
        placed = Placed(number, order["order_id"], len(order["lines"]), in_steps)
        self._tally.placed.append(placed)

    async def _in_steps(self, key: str, basket: Basket, payment: Json) -> Json | None:
        """As somebody shops who looks around: a draft, line by line, and placed at the end."""
        draft = await self._ask(ORDERS, f"{key}-open", _opening(basket))
        if draft is None:
            return None
        commands = f"{ORDERS}/{draft['order_id']}/commands"
        added = 0
        for place, line in enumerate(basket.lines):
            path = f"{commands}/add-item-to-order"
            if await self._ask(path, f"{key}-line-{place}", line.model_dump()):
                added += 1
        self._tally.refused_lines[basket.basket_id] += len(basket.lines) - added
        if added:
            return await self._ask(f"{commands}/place-order", f"{key}-place", payment)
        cancelled = await self._ask(f"{commands}/cancel-order", f"{key}-cancel", {})
        if cancelled:
            await self._seen(cancelled)  # Or the list might still show a draft at the end.
        return None

    async def _ask(self, path: str, key: str, body: Json) -> Json | None:
        """The answer to one command; None if it was refused."""
        try:
            answer = await self._wire.command(path, key, body)
        except Rejected as no:
            self._tally.reasons.update(no.reasons[:1])
            return None
        self._tally.commands += 1
        return answer

    async def _at_once(self, key: str, basket: Basket, payment: Json) -> Json | None:
        """The whole basket in one request; refused, it goes again without the lines at fault."""
        lines, attempt = basket.lines, 1
        while lines:
            sent = [line.model_dump() for line in lines]
            body = {**_opening(basket), **payment, "lines": sent, "place": True}
            try:
                answer = await self._wire.command(ORDERS, f"{key}-{attempt}", body)
            except Rejected as no:
                kept = [line for place, line in enumerate(lines) if place not in no.lines]
                self._tally.reasons.update(list(no.lines.values()) or no.reasons[:1])
                self._tally.refused_lines[basket.basket_id] += len(lines) - len(kept)
                if len(kept) == len(lines):
                    return None  # No line is at fault: without which should it go again?
                lines, attempt = kept, attempt + 1
            else:
                self._tally.commands += 1 + len(lines) + 1  # It opens, adds each line, and places.
                return answer
        return None

    async def _seen(self, answer: Json) -> Json:
        """The order as the read model has it once it knows what the answer says."""
        acknowledged = time.perf_counter()
        path = f"{ORDERS}/{answer['order_id']}"
        order = await self._wire.read(path, min_version=answer["version"])
        self._tally.freshness_s.append(time.perf_counter() - acknowledged)
        return order


def _opening(basket: Basket) -> dict[str, Any]:
    return {
        "customer_id": basket.customer_id,
        "currency": basket.currency,
        "external_reference": basket.basket_id,
    }
