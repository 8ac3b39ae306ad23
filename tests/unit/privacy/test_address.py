"""Addresses as the world has them: what a country does not have is not required."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from privacy.address import Address


def address(**fields: Any) -> Address:
    return Address(name="Pat Example", line1="1 Sample Street", **fields)


@pytest.mark.parametrize(
    ("country", "fields"),
    [
        ("HK", {"city": "Kowloon"}),
        ("QA", {"city": "Doha"}),
        ("AE", {"city": "Dubai"}),
        ("AE", {"region": "Dubai"}),
        ("PA", {"city": "Panama"}),
        ("IE", {"city": "Cork"}),
        ("SG", {"postal_code": "018956"}),
        ("US", {"city": "Sampletown", "postal_code": "12345"}),
        ("XK", {"city": "Prishtina"}),
    ],
)
def test_address_needs_only_what_its_country_has(country: str, fields: dict[str, str]) -> None:
    assert address(country=country, **fields).country == country


@pytest.mark.parametrize(
    ("country", "fields", "missing", "words"),
    [
        ("US", {"city": "Sampletown"}, "postal_code", "an address in US needs a postal code"),
        ("DE", {"postal_code": "10115"}, "city", "an address in DE needs a city"),
        ("AE", {}, "city", "an address in AE needs a city"),
    ],
)
def test_missing_field_is_named(
    country: str, fields: dict[str, str], missing: str, words: str
) -> None:
    with pytest.raises(ValidationError) as invalid:
        address(country=country, **fields)
    (error,) = invalid.value.errors()
    assert (error["loc"], error["type"], error["msg"]) == ((missing,), "required", words)


@pytest.mark.parametrize("country", ["us", "USA", "ZZ", "", "U1"])
def test_unknown_country_is_rejected(country: str) -> None:
    with pytest.raises(ValidationError):
        address(country=country, city="Sampletown", postal_code="1")
