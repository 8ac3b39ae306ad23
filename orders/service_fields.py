"""Fields of the responses and callbacks of external services, as they may come into an event.

An event is kept for ever: what an order cannot use is rejected before it is a result.
"""

from __future__ import annotations

from orders.money import Quantity
from orders.steps import Piece
from orders.text import Id


class ReportedPiece(Piece):
    """A quantity of a line in a shipment, as the carrier counts it."""

    line_id: Id
    quantity: Quantity
