"""Fields of the responses and callbacks of external services, as they may come into an event.

An event is kept for ever: what an order cannot use is rejected before it is a result. So is a NUL,
which Postgres stores in no JSON: no event of the order could be published any more.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from orders.money import QUANTITY_MAX
from orders.steps import Held, Piece
from orders.text import LongName, Name, one_line

Reason = Annotated[str, AfterValidator(one_line)]
"""Words for people: shortened and cleaned instead of rejected."""


def _none_if_blank(text: object) -> object:
    return None if isinstance(text, str) and not text.strip() else text


Tracking = Annotated[Name | None, BeforeValidator(_none_if_blank)]
"""A blank one says nothing, so it must not replace the one that an order knows."""


class ReportedPiece(Piece):
    """A quantity of a line in a shipment, as the carrier counts it.

    The line need not be one of the order: what has left has left, and is recorded.
    """

    line_id: LongName
    sku: LongName | Literal[""]
    quantity: Annotated[int, Field(ge=0, le=QUANTITY_MAX)]


class ReservedPiece(Held):
    """A quantity of a line, as the stock service has reserved it at one location."""

    location: LongName
