"""Checks out baskets as a web shop does: opens and places an order for each, and counts."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dev.api_client import ORDERS, ApiClient, ApiRejection, FieldError, Json, document
from dev.demo.baskets import Basket, BasketLine

LINE_BY_LINE_EVERY = 3


class RejectionReason(NamedTuple):
    """Why the API rejected a line or a request, in the API's own words."""

    field: str
    code: str
    detail: str


@dataclass(frozen=True)
class PlacedOrder:
    """An order that the API acknowledged as placed, for the basket of this number."""

    number: int
    order_id: str
    lines: int
    is_line_by_line: bool


@dataclass
class CheckoutStats:
    """What all checkouts came to so far."""

    placed: list[PlacedOrder] = field(default_factory=list)
    not_placed: int = 0
    commands: int = 0
    """Executed commands; one request can contain several."""
    rejections: Counter[RejectionReason] = field(default_factory=Counter)
    rejected_lines: Counter[str] = field(default_factory=Counter)
    """By basket id."""
    freshness_s: list[float] = field(default_factory=list)
    """For each order: from the last acknowledgement until the read model had it."""


class Checkout:
    """Turns baskets into orders; each request keeps its idempotency key when it is repeated.

    `payment_methods` are by a basket's number; without one, the default method pays.
    """

    def __init__(
        self, api: ApiClient, stats: CheckoutStats, payment_methods: Mapping[int, str | None]
    ) -> None:
        self._api = api
        self._stats = stats
        self._payment_methods = payment_methods
        self._run_id = secrets.token_hex(4)  # A second run on the same data makes new orders.

    async def check_out(self, number: int, basket: Basket) -> None:
        """Places an order for one basket, if it has a valid line; raises ApiUnavailable."""
        key = f"demo-{self._run_id}-{number}"
        is_line_by_line = number % LINE_BY_LINE_EVERY == 0
        payment = {"payment_method": self._payment_methods.get(number)}
        check_out = self._line_by_line if is_line_by_line else self._in_one_request
        result = await check_out(key, basket, payment)
        if result is None:
            self._stats.not_placed += 1
            return
        order = await self._wait_until_visible(result)
        self._stats.placed.append(
            PlacedOrder(number, order["order_id"], len(order["lines"]), is_line_by_line)
        )

    async def _line_by_line(self, key: str, basket: Basket, payment: Json) -> Json | None:
        """Opens a draft, adds each line, and places it; cancels a draft without lines."""
        draft = await self._post(ORDERS, f"{key}-open", _order_fields(basket))
        if draft is None:
            return None
        commands = f"{ORDERS}/{draft['order_id']}/commands"
        added = 0
        for index, line in enumerate(basket.lines):
            path = f"{commands}/add-item-to-order"
            if await self._post(path, f"{key}-line-{index}", line.model_dump()):
                added += 1
        self._stats.rejected_lines[basket.basket_id] += len(basket.lines) - added
        if added:
            return await self._post(f"{commands}/place-order", f"{key}-place", payment)
        cancelled = await self._post(f"{commands}/cancel-order", f"{key}-cancel", {})
        if cancelled:
            await self._wait_until_visible(cancelled)  # Else the final list might show a draft.
        return None

    async def _post(self, path: str, key: str, body: Json) -> Json | None:
        """The result of one command; None if it was rejected."""
        try:
            result = document(await self._api.post(path, body, key=key))
        except ApiRejection as rejection:
            self._stats.rejections[rejection_reasons(rejection)[0]] += 1
            return None
        self._stats.commands += 1
        return result

    async def _in_one_request(self, key: str, basket: Basket, payment: Json) -> Json | None:
        """Sends the whole basket; after a rejection, sends it again without the rejected lines."""
        lines, attempt = basket.lines, 1
        while lines:
            items = [line.model_dump() for line in lines]
            body = {**_order_fields(basket), **payment, "lines": items, "place": True}
            try:
                result = await self._api.open_order(body, key=f"{key}-{attempt}")
            except ApiRejection as rejection:
                kept = self._without_rejected_lines(lines, rejection)
                self._stats.rejected_lines[basket.basket_id] += len(lines) - len(kept)
                if len(kept) == len(lines):
                    return None  # The rejection names no line: another attempt cannot succeed.
                lines, attempt = kept, attempt + 1
            else:
                self._stats.commands += 1 + len(lines) + 1  # It opens, adds each line, and places.
                return result
        return None

    def _without_rejected_lines(
        self, lines: list[BasketLine], rejection: ApiRejection
    ) -> list[BasketLine]:
        by_line = rejected_lines(rejection)
        self._stats.rejections.update(list(by_line.values()) or rejection_reasons(rejection)[:1])
        return [line for index, line in enumerate(lines) if index not in by_line]

    async def _wait_until_visible(self, result: Json) -> Json:
        """The order as the read model has it at the version of a command result."""
        acknowledged = time.perf_counter()
        order = await self._api.order(result["order_id"], min_version=result["version"])
        self._stats.freshness_s.append(time.perf_counter() - acknowledged)
        return order


def rejection_reasons(rejection: ApiRejection) -> list[RejectionReason]:
    """The reason of each field error; without field errors, the problem itself."""
    return [_reason(error) for error in rejection.errors] or [
        RejectionReason("the whole request", rejection.code, rejection.detail)
    ]


def rejected_lines(rejection: ApiRejection) -> dict[int, RejectionReason]:
    """The first reason for each rejected line, by its index in the request."""
    reasons: dict[int, RejectionReason] = {}
    for error in rejection.errors:
        line, _ = _split_location(error.location)
        if line is not None:
            reasons.setdefault(line, _reason(error))
    return reasons


def _reason(error: FieldError) -> RejectionReason:
    line, field = _split_location(error.location)
    whole = "the whole request" if line is None else "the whole line"
    return RejectionReason(field or whole, error.code, error.detail)


def _split_location(location: str) -> tuple[int | None, str]:
    """The line's index and the field within it: `#/lines/3/sku` is (3, "sku")."""
    match location.removeprefix("#").lstrip("/").split("/"):
        case ["lines", index, *field] if index.isdecimal():
            return int(index), "/".join(field)
        case field:
            return None, "/".join(field)


def _order_fields(basket: Basket) -> dict[str, Any]:
    return {
        "customer_id": basket.customer_id,
        "currency": basket.currency,
        "external_reference": basket.basket_id,
    }
