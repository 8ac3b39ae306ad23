"""Addresses as they are shown outside: in plaintext, or why they cannot be."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from prometheus_client import Counter

from privacy.address import Address
from privacy.keys import ReadableKeys
from privacy.sealing import BrokenSeal, unseal_all

UNREADABLE_ADDRESSES = Counter(
    "orderly_unreadable_addresses_total",
    "Addresses that were shown as unreadable, because their key is missing or they were changed."
    " Alert above 0.",
)


async def decrypt_addresses(
    sealed: Collection[str], keys: ReadableKeys | None
) -> dict[str, dict[str, Any]]:
    """By sealed address, its JSON: the address, `{"erased": true}` or `{"unreadable": true}`.

    Without keys, all are unreadable. That is intended, and so not counted: the count alerts.
    """
    if keys is None:
        return {token: {"unreadable": True} for token in sealed}
    addresses = await unseal_all(sealed, keys) if sealed else {}
    return {token: _address_json(address) for token, address in addresses.items()}


def _address_json(address: Address | BrokenSeal | None) -> dict[str, Any]:
    match address:
        case None:
            return {"erased": True}
        case BrokenSeal():
            UNREADABLE_ADDRESSES.inc()
            return {"unreadable": True}
        case _:
            return address.model_dump()
