"""Customers and addresses, as clients send them and as reads show them."""

from __future__ import annotations

import secrets
from typing import Any

import httpx

ADA: dict[str, Any] = {
    "name": "Ada Lovelace",
    "line1": "12 St James's Square",
    "postal_code": "SW1Y 4JH",
    "city": "London",
    "country": "GB",
    "email": "ada@example.org",
    "phone": "+44 20 7946 0000",
}
BOB: dict[str, Any] = {**ADA, "name": "Bob Noyce", "company": "Analytical Engines"}
NOTHING_SAID: dict[str, Any] = {
    "line2": None,
    "region": None,
    "company": None,
    "email": None,
    "phone": None,
}
ERASED = {"erased": True}
UNREADABLE = {"unreadable": True}
FORGED = "sealed.1.k.AAAA"
SET_SHIPPING = "commands/set-shipping-address"


def whole(address: dict[str, Any]) -> dict[str, Any]:
    """An address as reads show it."""
    return {**NOTHING_SAID, **address}


def new_customer() -> str:
    return f"c-{secrets.token_hex(6)}"


async def erase(http: httpx.AsyncClient, customer: str) -> int:
    response = await http.delete(f"/v1/customers/{customer}/personal-data")
    assert (response.status_code, response.json()["customer_id"]) == (200, customer)
    deleted: int = response.json()["keys_deleted"]
    return deleted


NO_CARRIER_GOES_THERE = "00000"
