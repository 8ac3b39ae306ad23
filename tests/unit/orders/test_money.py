"""Money: no cent is lost in a split, and people read what was meant."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from orders.commands import AddItemToOrder, ApplyDiscount
from orders.money import (
    AMOUNT_MAX,
    CURRENCIES,
    QUANTITY_MAX,
    TOTAL_MAX,
    Currency,
    allocate,
    format_amount,
)
from tests.support.given import add_bagels, apply_welcome, but

AMOUNTS = st.integers(0, 20) | st.integers(0, TOTAL_MAX)
WEIGHTS = st.lists(st.integers(0, 9) | st.integers(0, TOTAL_MAX), min_size=1, max_size=12)


@given(AMOUNTS, WEIGHTS)
def test_allocated_parts_sum_to_the_whole(amount: int, weights: list[int]) -> None:
    parts = allocate(amount, weights)
    assert len(parts) == len(weights)
    assert sum(parts) == amount
    assert all(part >= 0 for part in parts)


@given(AMOUNTS, WEIGHTS.filter(any))
def test_largest_remainders_get_the_rest_earlier_ones_first(
    amount: int, weights: list[int]
) -> None:
    exact = [Fraction(amount * weight, sum(weights)) for weight in weights]
    up = [part - int(share) for part, share in zip(allocate(amount, weights), exact, strict=True)]
    assert set(up) <= {0, 1}
    remainders = [share % 1 for share in exact]
    by_claim = sorted(range(len(up)), key=lambda i: (-remainders[i], i))
    assert [up[i] for i in by_claim] == sorted(up, reverse=True)


@pytest.mark.parametrize(
    ("amount", "weights", "parts"),
    [
        (100, [1, 1, 1], [34, 33, 33]),
        (2, [1, 1, 1], [1, 1, 0]),
        (5, [3, 7], [2, 3]),
        (5, [7, 3], [4, 1]),
        (1, [1, 2], [0, 1]),
        (7, [0, 5, 0], [0, 7, 0]),
        (7, [0, 0], [7, 0]),
        (0, [3, 4], [0, 0]),
        # What a float would get wrong.
        (TOTAL_MAX, [1, 1, 9], [818836295885545, 818836295885544, 7369526662969902]),
    ],
)
def test_amount_is_allocated_in_proportion(
    amount: int, weights: list[int], parts: list[int]
) -> None:
    assert allocate(amount, weights) == parts


def test_amount_cannot_be_allocated_over_zero_weights() -> None:
    with pytest.raises(ValueError, match="at least one weight"):
        allocate(1, [])


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (1127, "USD", "11.27 USD"),
        (5, "EUR", "0.05 EUR"),
        (0, "EUR", "0.00 EUR"),
        (-101, "EUR", "-1.01 EUR"),
        (-1, "EUR", "-0.01 EUR"),
        (123_456_789, "EUR", "1,234,567.89 EUR"),
        (1127, "JPY", "1,127 JPY"),
        (-3, "JPY", "-3 JPY"),
        (1127, "KWD", "1.127 KWD"),
        (7, "BHD", "0.007 BHD"),
    ],
)
def test_amount_is_formatted_in_its_currency(amount: int, currency: str, text: str) -> None:
    assert format_amount(amount, currency) == text


@given(st.integers(-TOTAL_MAX, TOTAL_MAX), st.sampled_from(sorted(CURRENCIES)))
def test_formatted_amount_keeps_every_digit(amount: int, currency: str) -> None:
    number, _, code = format_amount(amount, currency).partition(" ")
    assert (int(number.replace(",", "").replace(".", "")), code) == (amount, currency)


_CURRENCY: TypeAdapter[str] = TypeAdapter(Currency)


@pytest.mark.parametrize("code", ["USD", "EUR", "JPY", "KWD", "CHF", "ZWG"])
def test_currency_is_validated_by_its_code(code: str) -> None:
    assert _CURRENCY.validate_python(code) == code


@pytest.mark.parametrize("code", ["", "usd", "US", "USDT", "USD\n", "$", "XXX", "XAU", "DEM", 840])
def test_invalid_currency_is_rejected(code: object) -> None:
    with pytest.raises(ValidationError):
        _CURRENCY.validate_python(code)


@pytest.mark.parametrize("field", ["unit_price", "discount", "tax"])
@pytest.mark.parametrize("amount", [-1, AMOUNT_MAX + 1, 1.0, "1", True, None])
def test_amount_is_an_integer_within_limits(field: str, amount: object) -> None:
    assert but(add_bagels, **{field: AMOUNT_MAX, "quantity": QUANTITY_MAX})
    with pytest.raises(ValidationError, match=field):
        but(add_bagels, **{field: amount})


@pytest.mark.parametrize("quantity", [0, -1, QUANTITY_MAX + 1, 1.0, "1", True])
def test_quantity_is_a_positive_integer(quantity: object) -> None:
    with pytest.raises(ValidationError, match="quantity"):
        but(add_bagels, quantity=quantity)


def test_discount_of_zero_is_rejected() -> None:
    assert but(add_bagels, discount=0)
    with pytest.raises(ValidationError, match="amount"):
        but(apply_welcome, amount=0)


@pytest.mark.parametrize("command", [AddItemToOrder, ApplyDiscount])
def test_unknown_field_of_a_command_is_rejected(
    command: type[AddItemToOrder] | type[ApplyDiscount],
) -> None:
    example = add_bagels if command is AddItemToOrder else apply_welcome
    with pytest.raises(ValidationError, match="price"):
        command.model_validate(example.model_dump() | {"price": 1})
