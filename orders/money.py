"""Money: integer minor units of one ISO 4217 currency, and the arithmetic that keeps every cent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

# ISO 4217: all in use at some time since 2024, without funds and metals.
CURRENCIES = frozenset(
    """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN
    BZD CAD CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL
    GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF
    KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN
    MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD
    SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH
    UGX USD UYU UZS VED VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG
    """.split()
)
_MINOR_DIGITS = (
    dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF".split(), 0)
    | dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3)
)  # fmt: skip

AMOUNT_MAX = 10**12
QUANTITY_MAX = 10**6
TOTAL_MAX = 2**53 - 1  # Exact in every JSON client.


def _known_currency(code: str) -> str:
    if code not in CURRENCIES:
        raise ValueError("must be an ISO 4217 code in capitals, such as USD")
    return code


def _minor_units(value: object) -> object:
    if isinstance(value, float) or (isinstance(value, str) and value[:1].isdigit()):
        raise PydanticCustomError(
            "not_minor_units", "must be an integer in minor units, such as 1050 for 10.50"
        )
    return value


Currency = Annotated[str, AfterValidator(_known_currency), Field(examples=["USD"])]
Amount = Annotated[
    int,
    Field(ge=0, le=AMOUNT_MAX, description="integer minor units (cents)"),
    BeforeValidator(_minor_units),  # Last: it must not hide the bounds from the schema.
]
PositiveAmount = Annotated[
    int,
    Field(gt=0, le=AMOUNT_MAX, description="integer minor units (cents)"),
    BeforeValidator(_minor_units),
]
Quantity = Annotated[int, Field(gt=0, le=QUANTITY_MAX, description="pieces")]


def allocate(amount: int, weights: Sequence[int]) -> list[int]:
    """Splits `amount` in proportion to `weights` (none negative) by largest remainder.

    The parts are integers and sum to `amount`; of equal remainders, the earlier part gets the
    rest. If all weights are zero, the first part is the whole.
    """
    if not weights:
        raise ValueError("an amount can only be split over at least one weight")
    whole = sum(weights)
    if whole == 0:
        return [amount] + [0] * (len(weights) - 1)
    parts = [amount * weight // whole for weight in weights]
    remainders = [amount * weight % whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: -remainders[i])
    for i in by_remainder[: amount - sum(parts)]:
        parts[i] += 1
    return parts


def scale(amount: int, part: int, whole: int) -> int:
    """`amount` times `part` over `whole`, none of them negative; halves are rounded up."""
    return (2 * amount * part + whole) // (2 * whole)


def format_amount(amount: int, currency: str) -> str:
    """An amount of minor units as text: (1127, "USD") is "11.27 USD"."""
    digits = _MINOR_DIGITS.get(currency, 2)
    sign, units = "-" if amount < 0 else "", abs(amount)
    if digits == 0:
        return f"{sign}{units:,} {currency}"
    return f"{sign}{units // 10**digits:,}.{units % 10**digits:0{digits}} {currency}"
