"""The types of events are those of the schemas, and accept what the schemas may become."""

from __future__ import annotations

from typing import Any

import pytest

from contracts import consumer_types
from contracts.consumer_types import class_name
from contracts.json_schema_diff import Schema
from orderly_consumer import UnknownEvent, parse_event
from orderly_consumer.events import TYPES, OrderPlaced, ShippingAddressSet, StepSettled
from orders.events import BY_TAG
from outbound.cloudevents import type_name
from tests.support.consumed_events import PLACED


def test_types_are_generated_from_the_committed_schemas() -> None:
    assert consumer_types.FILE.read_text() == consumer_types.text(consumer_types.schemas()), (
        "run `make schemas`"
    )


def test_every_current_type_is_known() -> None:
    current = {type_name(tag, event.schema_version) for tag, event in BY_TAG.items()}
    assert current <= TYPES.keys()


def test_event_is_parsed_by_its_type() -> None:
    event = parse_event(PLACED, "opaque")
    assert isinstance(event, OrderPlaced)
    assert event.data.total == 180
    assert (event.order_id, event.version, event.cursor) == ("ord_x", 3, "opaque")
    assert event.data.payment_method is None


def test_unknown_fields_are_ignored() -> None:
    event = parse_event({**PLACED, "extension": 1, "data": {"total": 180, "gift": True}})
    assert event == parse_event(PLACED)


def test_value_that_was_added_to_a_list_is_accepted() -> None:
    kind = "orderly.order.step-settled.v1"
    event = parse_event(
        {**PLACED, "type": kind, "data": {"step_id": "s", "outcome": "new", "reason": ""}}
    )
    assert isinstance(event, StepSettled)
    assert event.data.outcome == "new"


def test_erased_address_is_told_from_others() -> None:
    kind = "orderly.order.shipping-address-set.v1"
    address = {"name": "Ada", "line1": "1 Road", "country": "GB"}
    kinds = []
    for sent in (address, {"erased": True}, {"unreadable": True}):
        event = parse_event({**PLACED, "type": kind, "data": {"address": sent}})
        assert isinstance(event, ShippingAddressSet)
        kinds.append(type(event.data.address).__name__)
    assert kinds == ["Address", "ErasedAddress", "UnreadableAddress"]


@pytest.mark.parametrize(
    "type", ["orderly.order.order-teleported.v1", "orderly.order.item-added.v9"]
)
def test_event_of_an_unknown_type_is_no_error(type: str) -> None:
    event = parse_event({**PLACED, "type": type, "data": {"anything": [1]}})
    assert isinstance(event, UnknownEvent)
    assert (event.version, event.data) == (3, {"anything": [1]})


@pytest.mark.parametrize("broken", [{}, {**PLACED, "data": {}}, {**PLACED, "data": {"total": "x"}}])
def test_document_that_is_no_event_is_an_error(broken: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        parse_event(broken)


def test_next_version_of_a_type_has_a_class_of_its_own() -> None:
    assert class_name("orderly.order.order-placed.v1") == "OrderPlaced"
    assert class_name("orderly.order.order-placed.v2") == "OrderPlacedV2"


def test_schemas_that_define_a_name_differently_are_rejected() -> None:
    def schema(kind: str) -> Schema:
        return {"properties": {"x": {"$ref": "#/$defs/X"}}, "$defs": {"X": {"type": kind}}}

    with pytest.raises(ValueError, match="define X differently"):
        consumer_types.text({"a.b.one.v1": schema("object"), "a.b.two.v1": schema("string")})
