"""The data of callbacks: what services may report, and the result that it becomes."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from api.callbacks.payloads import EVENTS
from orders.money import QUANTITY_MAX
from orders.steps import Piece, ShipmentDeparted, StepResult

BAGELS = {"line_id": "bagels", "sku": "1095275", "quantity": 2}


def reported(type_: str, **data: Any) -> StepResult:
    """The result of a callback with these data."""
    (payload,) = (types[type_] for types in EVENTS.values() if type_ in types)
    return payload.model_validate({"order_id": "ord_1", **data}).message()


@pytest.mark.parametrize(
    "change",
    [
        {"quantity": -3},
        {"quantity": 0},
        {"quantity": QUANTITY_MAX + 1},
        {"line_id": ""},
        {"line_id": "a b"},
    ],
)
def test_dispatched_pieces_are_counted_from_one(change: dict[str, Any]) -> None:
    """A negative count would ship pieces again, beyond those that were ordered."""
    with pytest.raises(ValidationError):
        reported("shipment.dispatched", shipment_id="s", lines=[BAGELS | change])
    assert reported("shipment.dispatched", shipment_id="s", lines=[BAGELS]) == ShipmentDeparted(
        shipment_id="s", lines=[Piece(line_id="bagels", sku="1095275", quantity=2)]
    )
