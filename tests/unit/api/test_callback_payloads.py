"""The data of callbacks: what services may report, and the result that it becomes."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from api.callbacks.payloads import EVENTS
from orders.money import QUANTITY_MAX
from orders.steps import PaymentRefused, Piece, ShipmentDeparted, StepResult, StockLost

BAGELS = {"line_id": "bagels", "sku": "1095275", "quantity": 2}


def reported(type_: str, **data: Any) -> StepResult:
    """The result of a callback with these data."""
    (payload,) = (types[type_] for types in EVENTS.values() if type_ in types)
    return payload.model_validate({"order_id": "ord_1", **data}).message()


@pytest.mark.parametrize(
    "change",
    [
        {"quantity": -3},
        {"quantity": QUANTITY_MAX + 1},
        {"line_id": ""},
        {"line_id": "a\x00b"},
    ],
)
def test_dispatched_pieces_are_not_counted_below_zero(change: dict[str, Any]) -> None:
    """A negative count would ship pieces again, beyond those that were ordered."""
    with pytest.raises(ValidationError):
        reported("shipment.dispatched", shipment_id="s", lines=[BAGELS | change])
    assert reported("shipment.dispatched", shipment_id="s", lines=[BAGELS]) == ShipmentDeparted(
        shipment_id="s", lines=[Piece(line_id="bagels", sku="1095275", quantity=2)]
    )


@pytest.mark.parametrize("other", [{"line_id": "gift bag", "sku": ""}, {"quantity": 0}])
def test_departure_is_reported_whatever_else_is_in_it(other: dict[str, Any]) -> None:
    departed = reported("shipment.dispatched", shipment_id="s", lines=[BAGELS, BAGELS | other])
    assert isinstance(departed, ShipmentDeparted)
    assert departed.lines == [Piece(**BAGELS), Piece(**BAGELS | other)]


def test_stock_is_reported_lost_wherever_it_may_be_reserved() -> None:
    lost = {"loss_id": "mouse", "line_id": "bagels", "quantity": 1}
    assert reported("stock.lost", location="Berlin Mitte", **lost) == StockLost(
        location="Berlin Mitte", **lost
    )


TEXTS = {
    "authorisation_id": "authorise-9",
    "step_id": "capture-20",
    "chargeback_id": "c",
    "loss_id": "mouse",
    "line_id": "bagels",
    "location": "EAST",
    "shipment_id": "shipment-12",
    "reference": "auth_1",
    "tracking": "1Z999",
    "reason": "no funds",
    "goods": "lost",
    "sku": "1095275",
}
FIELDS = [
    (type_, name)
    for types in EVENTS.values()
    for type_, payload in types.items()
    for name in payload.model_fields
    if name not in ("order_id", "amount", "quantity", "lines")
]


def data_of(type_: str) -> dict[str, Any]:
    """Valid data, with every field that the type has."""
    (payload,) = (types[type_] for types in EVENTS.values() if type_ in types)
    known = {**TEXTS, "amount": 1, "quantity": 1, "lines": [BAGELS]}
    return {name: known[name] for name in payload.model_fields if name != "order_id"}


def assert_no_nul(type_: str, data: dict[str, Any]) -> None:
    try:
        result = reported(type_, **data)
    except ValidationError:
        return
    assert r"\u0000" not in result.model_dump_json()


@pytest.mark.parametrize(("type_", "name"), FIELDS)
def test_no_text_of_a_service_brings_a_nul_into_an_order(type_: str, name: str) -> None:
    """Postgres stores none in JSON: the order could not publish its events any more."""
    data = data_of(type_)
    assert reported(type_, **data)
    assert_no_nul(type_, data | {name: f"{TEXTS[name]}\0"})


@pytest.mark.parametrize("name", ["line_id", "sku"])
def test_no_reported_piece_brings_a_nul_into_an_order(name: str) -> None:
    piece = BAGELS | {name: f"{TEXTS[name]}\0"}
    assert_no_nul("shipment.dispatched", {"shipment_id": "s", "lines": [piece]})


@pytest.mark.parametrize(
    ("type_", "name", "most"),
    [("authorisation.approved", "reference", 256), ("shipment.dispatched", "tracking", 100)],
)
def test_texts_that_orders_are_found_by_are_short_and_on_one_line(
    type_: str, name: str, most: int
) -> None:
    data = data_of(type_)
    assert reported(type_, **(data | {name: "é" * most}))
    for text in ("é" * (most + 1), "a\nb", "a\x85b", "a\u2028b"):
        with pytest.raises(ValidationError):
            reported(type_, **(data | {name: text}))


@pytest.mark.parametrize("tracking", ["", " ", None])
def test_blank_tracking_number_is_none(tracking: str | None) -> None:
    """It would erase the one that the order knows."""
    departed = reported("shipment.dispatched", shipment_id="s", tracking=tracking)
    assert departed == ShipmentDeparted(shipment_id="s")


def test_reason_is_cleaned_and_shortened() -> None:
    declined = reported("capture.declined", step_id="capture-20", reason="no\n\0funds" + "!" * 300)
    assert declined == PaymentRefused(step_id="capture-20", reason="no funds" + "!" * 192)
