"""The baskets that the demo replays, as their file has them."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError


class BasketsError(Exception):
    """The file cannot be replayed; the message says why, and in which line."""


class BasketLine(BaseModel):
    """One item as it was bought: sent as it is, so nothing in it may go unread."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    sku: str
    title: str
    quantity: int
    unit_price: int
    discount: int

    @property
    def paid(self) -> int:
        """What the customer paid for the line, in minor units."""
        return self.quantity * self.unit_price - self.discount

    @property
    def is_good(self) -> bool:
        """Whether an order may hold it: a line of nothing must be refused."""
        return self.quantity > 0


class Basket(BaseModel):
    """What one customer bought at once; `total` is what the file says that it came to."""

    model_config = ConfigDict(frozen=True, strict=True)

    basket_id: str
    customer_id: str
    currency: str
    lines: list[BasketLine]
    total: int


def read_baskets(file: Path, limit: int | None = None) -> list[Basket]:
    """The first `limit` baskets of a file with one a line; raises BasketsError."""
    try:
        with file.open(encoding="utf-8") as text:
            rows = [(at, row) for at, row in enumerate(islice(text, limit), 1) if row.strip()]
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise BasketsError(f"{file} cannot be read: {why}.") from error
    if not rows:
        raise BasketsError(f"{file} holds no basket.")
    baskets: dict[str, Basket] = {}
    for at, row in rows:
        basket = _basket(row, f"{file}, line {at}")
        if basket.basket_id in baskets:
            raise BasketsError(f"{file}, line {at}: basket {basket.basket_id} was there before.")
        baskets[basket.basket_id] = basket
    return list(baskets.values())


def _basket(row: str, where: str) -> Basket:
    try:
        return Basket.model_validate_json(row)
    except ValidationError as error:
        raise BasketsError(f"{where}: {_first(error.errors())}.") from error


def _first(errors: list[Any]) -> str:
    """The first thing that is wrong, as a person would say it."""
    wrong = errors[0]
    field = ".".join(map(str, wrong["loc"]))
    if wrong["type"] == "json_invalid":
        return f"not JSON ({wrong['ctx']['error']})"
    if wrong["type"] == "missing":
        return f"{field} is missing"
    return f"{field or 'it'}: {wrong['msg'][0].lower()}{wrong['msg'][1:]}"
