"""The baskets that the demo replays, read from a JSON Lines file."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from field_errors import words_for

PACKAGED_BASKETS = Path(__file__).with_name("baskets.jsonl")


class BasketsError(Exception):
    """The file cannot be replayed; the message says why, and in which line."""


class BasketLine(BaseModel):
    """One item as it was bought; sent unchanged, so unknown fields are an error."""

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
    def is_valid(self) -> bool:
        """Whether the API must accept the line; it must reject one without pieces."""
        return self.quantity > 0


class Basket(BaseModel):
    """What one customer bought in one purchase; `total` is the file's sum, in minor units."""

    model_config = ConfigDict(frozen=True, strict=True)

    basket_id: str
    customer_id: str
    currency: str
    lines: list[BasketLine]
    total: int


def read_baskets(file: Path, limit: int | None = None) -> list[Basket]:
    """The first `limit` baskets of a file, one per line; raises BasketsError."""
    try:
        with file.open(encoding="utf-8") as text:
            rows = [(at, row) for at, row in enumerate(islice(text, limit), 1) if row.strip()]
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise BasketsError(f"{file} cannot be read: {why}.") from error
    if not rows:
        raise BasketsError(f"{file} contains no baskets.")
    baskets: dict[str, Basket] = {}
    for at, row in rows:
        basket = _parse(row, f"{file}, line {at}")
        if basket.basket_id in baskets:
            raise BasketsError(
                f"{file}, line {at}: basket_id {basket.basket_id} is a duplicate; use each once."
            )
        baskets[basket.basket_id] = basket
    return list(baskets.values())


def _parse(row: str, where: str) -> Basket:
    try:
        return Basket.model_validate_json(row)
    except ValidationError as error:
        raise BasketsError(f"{where}: {_describe(error.errors()[0])}.") from error


def _describe(error: Any) -> str:
    field = ".".join(map(str, error["loc"]))
    if error["type"] == "json_invalid":
        return f"not JSON ({error['ctx']['error']})"
    if error["type"] == "missing":
        return f"{field} is missing"
    if not field:
        return "a basket must be a JSON object"
    return f"{field} {words_for(error)[1]}"
