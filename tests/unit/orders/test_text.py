"""Text limits: what marketplaces send fits, and an error says the limit in words."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from orders.commands import AddItemToOrder, AddLine, AmendOrder
from orders.money import Amount
from orders.text import CustomerId, Id, LongName, Name, Text


def rejection(kind: Any, value: object) -> tuple[str, str]:
    """The type and the message of the error that a value gets."""
    with pytest.raises(ValidationError) as invalid:
        TypeAdapter(kind).validate_python(value)
    (error,) = invalid.value.errors()
    return error["type"], error["msg"]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (LongName, "t" * 255),
        (CustomerId, "ada.lovelace+shop@example.org"),
        (CustomerId, "a" * 243 + "@example.org"),
        (CustomerId, "guest:3f2a"),
        (CustomerId, "auth0|5f7c"),
        (Id, "a.b_c:d~e|f-1"),
        (Text, "two\nlines"),
        (Name, "Łódź 東京"),
    ],
)
def test_text_within_the_limits_is_accepted(kind: Any, value: str) -> None:
    assert TypeAdapter(kind).validate_python(value) == value


@pytest.mark.parametrize(
    ("kind", "value", "type_", "words"),
    [
        (LongName, "t" * 256, "too_long", "must have at most 255 characters, not 256"),
        (Name, "", "empty", "must not be empty"),
        (
            Name,
            "two\nlines",
            "invalid_characters",
            "may contain printable characters, without line breaks, only",
        ),
        (Id, "a b", "invalid_characters", "may contain letters, digits and . _ : ~ | - only"),
    ],
)
def test_error_says_the_limit_in_words(kind: Any, value: str, type_: str, words: str) -> None:
    assert rejection(kind, value) == (type_, words)


@pytest.mark.parametrize("value", [10.5, 10.0, "10.50", "1050"])
def test_decimal_amount_is_explained(value: object) -> None:
    assert rejection(Amount, value) == (
        "not_minor_units",
        "must be an integer in minor units, such as 1050 for 10.50",
    )


@given(st.text(max_size=300))
def test_schema_and_check_agree(text: str) -> None:
    for kind in (Id, Name, LongName, CustomerId, Text):
        adapter = TypeAdapter(kind)
        schema = adapter.json_schema()
        fits = len(text) <= schema["maxLength"] and re.search(schema["pattern"] + r"\Z", text)
        try:
            adapter.validate_python(text)
        except ValidationError:
            assert not fits
        else:
            assert fits


def test_ids_derived_from_long_ids_do_not_collide() -> None:
    line = AddLine(sku="S", title="t", quantity=1, unit_price=1)
    common = "shop-42:order-edit:2026-11-28T06.57.00Z:warehouse-east:".ljust(60, "x")
    ids = set()
    for end in ("0001", "0002"):
        command = AmendOrder(amendment_id=common + end, changes=[line, line])
        named = command.with_generated_ids("unused")
        ids |= {change.line_id for change in named.changes if isinstance(change, AddLine)}
    assert len(ids) == 4
    assert all(TypeAdapter(Id).validate_python(key) for key in ids)


def test_short_derived_id_stays_readable() -> None:
    line = AddLine(sku="S", title="t", quantity=1, unit_price=1)
    named = AmendOrder(amendment_id="a1", changes=[line]).with_generated_ids("unused")
    assert [c.line_id for c in named.changes if isinstance(c, AddLine)] == ["a1.0"]


def test_long_title_fits_an_item() -> None:
    item = AddItemToOrder(sku="s" * 255, title="t" * 255, quantity=1, unit_price=1)
    assert len(item.title) == 255
