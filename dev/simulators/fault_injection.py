"""Magic values that inject a fault, in payment methods, SKUs and postal codes.

The tables are for people: docs/contracts.md lists the same.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from enum import Enum, auto

PAYMENT_METHODS = {
    "pm_card": "is approved, as is no method and any that is not in this table",
    "pm_declined": "is declined",
    "pm_declined_once": "the first authorisation of an order is declined, later ones are approved",
    "pm_declined_late": "is declined, but the first call of each key gets no response",
    "pm_capture_declined": "is approved, but captures are declined",
    "pm_timeout_after_charging": "is approved, but the first call of each key gets no response",
    "pm_slow": "takes two seconds for each key",
    "pm_flapping": "answers 503 to the first two calls of each key",
    "pm_busy": "answers 429 with `Retry-After: 1` to the first call of each key",
    "pm_down": "answers 503 until it recovers",
    "pm_refund_down": "is approved, but refunds are answered 503 until it recovers",
    "pm_expires": "is approved, and the first authorisation of an order ends a second later",
    "pm_capture_reversed": "is approved; each capture is done, and declined a second later",
    "pm_refund_fails": "is approved; each refund is accepted, and fails a second later",
    "pm_chargeback": "is approved; each capture is done, and disputed a second later",
    "pm_callback_first": "sends the callback of each operation before the response",
}
SKU_PREFIXES = {
    "SHORT-n-": "has only `n` pieces, as `SHORT-2-MILK` has two",
    "GONE-": "has none",
    "SLOWSTOCK-": "takes two seconds for each key",
    "FLAPSTOCK-": "answers 503 to the first two calls of each key",
    "DOWNSTOCK-": "answers 503 until it recovers",
}
POSTAL_CODES = {
    "00000": "answers 503 until it recovers",
    "00001": "answers 503 to the first two calls of each key",
}

LOCATIONS = ("EAST", "WEST")
DEFAULT_STOCK = 1_000_000


class Fault(Enum):
    """What goes wrong between a service and its caller."""

    NONE = auto()
    SLOW = auto()
    FLAPPING = auto()
    BUSY_ONCE = auto()
    DOWN = auto()
    NO_RESPONSE_ONCE = auto()
    CALLBACK_FIRST = auto()


_BY_METHOD = {
    "pm_timeout_after_charging": Fault.NO_RESPONSE_ONCE,
    "pm_declined_late": Fault.NO_RESPONSE_ONCE,
    "pm_slow": Fault.SLOW,
    "pm_flapping": Fault.FLAPPING,
    "pm_busy": Fault.BUSY_ONCE,
    "pm_down": Fault.DOWN,
    "pm_callback_first": Fault.CALLBACK_FIRST,
}
_BY_SKU_PREFIX = {
    "SLOWSTOCK": Fault.SLOW,
    "FLAPSTOCK": Fault.FLAPPING,
    "DOWNSTOCK": Fault.DOWN,
}
_BY_POSTAL_CODE = {"00000": Fault.DOWN, "00001": Fault.FLAPPING}


def is_declined(method: str | None, *, is_first: bool) -> bool:
    """Whether an authorisation is declined; `is_first` says that its order has had none before."""
    return method in ("pm_declined", "pm_declined_late") or (
        method == "pm_declined_once" and is_first
    )


def payment_fault(method: str | None, is_refund: bool = False) -> Fault:
    """The fault of an operation on a payment with this method."""
    if method == "pm_refund_down":
        return Fault.DOWN if is_refund else Fault.NONE
    return _BY_METHOD.get(method or "", Fault.NONE)


def stock_fault(skus: Iterable[str]) -> Fault:
    """The first fault among these SKUs."""
    found = (_BY_SKU_PREFIX.get(sku.partition("-")[0], Fault.NONE) for sku in skus)
    return next((fault for fault in found if fault is not Fault.NONE), Fault.NONE)


def booking_fault(postal_code: str | None) -> Fault:
    """The fault of a booking for an address with this postal code."""
    return _BY_POSTAL_CODE.get(postal_code or "", Fault.NONE)


def initial_stock(sku: str, location: str) -> int:
    """The pieces at a location before any is set or reserved.

    All pieces are at one location, which depends on the SKU, so that an order can be split.
    """
    if location != LOCATIONS[zlib.crc32(sku.encode()) % len(LOCATIONS)]:
        return 0
    if short := re.match(r"SHORT-(\d{1,6})-", sku):
        return int(short[1])
    return 0 if sku.startswith("GONE-") else DEFAULT_STOCK
