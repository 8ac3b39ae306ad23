"""The values that make a stand-in fail, and how; docs/contracts.md lists the same."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from enum import Enum, auto

PAYMENT_METHODS = {
    "pm_card": "is approved, as is no method and any that is not in this table",
    "pm_declined": "is declined",
    "pm_declined_once": "the first authorisation of an order is declined, later ones are approved",
    "pm_declined_late": "is declined, but the first call of each key waits for the answer",
    "pm_capture_refused": "is approved, but captures are refused",
    "pm_timeout_after_charging": "does what it is asked, but lets the first call of each key wait",
    "pm_slow": "takes two seconds for each key",
    "pm_flapping": "answers 503 to the first two calls of each key",
    "pm_busy": "answers 429 with `Retry-After: 1` to the first call of each key",
    "pm_down": "answers 503 until it is mended",
    "pm_refund_down": "is approved, but refunds are answered 503 until it is mended",
    "pm_callback_first": "sends a callback for each operation before it answers the call",
}
SKU_PREFIXES = {
    "SHORT-n-": "has only `n` pieces, as `SHORT-2-MILK` has two",
    "GONE-": "has none",
    "SLOWSTOCK-": "takes two seconds for each key",
    "FLAPSTOCK-": "answers 503 to the first two calls of each key",
    "DOWNSTOCK-": "answers 503 until it is mended",
}
POSTAL_CODES = {
    "00000": "answers 503 until it is mended",
    "00001": "answers 503 to the first two calls of each key",
}

LOCATIONS = ("EAST", "WEST")
PLENTY = 1_000_000


class Trouble(Enum):
    """What goes wrong between a stand-in and whoever calls it."""

    NONE = auto()
    SLOW = auto()
    FLAPPING = auto()
    BUSY_ONCE = auto()
    DOWN = auto()
    SILENT_ONCE = auto()
    CALLBACK_FIRST = auto()


_OF_METHOD = {
    "pm_timeout_after_charging": Trouble.SILENT_ONCE,
    "pm_declined_late": Trouble.SILENT_ONCE,
    "pm_slow": Trouble.SLOW,
    "pm_flapping": Trouble.FLAPPING,
    "pm_busy": Trouble.BUSY_ONCE,
    "pm_down": Trouble.DOWN,
    "pm_callback_first": Trouble.CALLBACK_FIRST,
}
_OF_SKU = {
    "SLOWSTOCK": Trouble.SLOW,
    "FLAPSTOCK": Trouble.FLAPPING,
    "DOWNSTOCK": Trouble.DOWN,
}
_OF_POSTAL_CODE = {"00000": Trouble.DOWN, "00001": Trouble.FLAPPING}


def of_method(method: str | None, refunds: bool = False) -> Trouble:
    """What goes wrong with an operation on a payment by this method."""
    if method == "pm_refund_down":
        return Trouble.DOWN if refunds else Trouble.NONE
    return _OF_METHOD.get(method or "", Trouble.NONE)


def of_skus(skus: Iterable[str]) -> Trouble:
    """What goes wrong with a call about these; of several troubles, the first."""
    found = (_OF_SKU.get(sku.partition("-")[0], Trouble.NONE) for sku in skus)
    return next((trouble for trouble in found if trouble is not Trouble.NONE), Trouble.NONE)


def of_postal_code(postal_code: str | None) -> Trouble:
    """What goes wrong with a booking for an address there."""
    return _OF_POSTAL_CODE.get(postal_code or "", Trouble.NONE)


def pieces_at_first(sku: str, location: str) -> int:
    """How many pieces there are before anybody sets or takes any.

    All are at one location, which follows from the SKU, so that a basket is split over both.
    """
    if location != LOCATIONS[zlib.crc32(sku.encode()) % len(LOCATIONS)]:
        return 0
    if short := re.match(r"SHORT-(\d{1,6})-", sku):
        return int(short[1])
    return 0 if sku.startswith("GONE-") else PLENTY
