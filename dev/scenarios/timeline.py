"""Describes each event of an order's history in one line."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from dev.api_client import Json
from orders.money import format_amount

_SHOWN = ("reason", "method", "tracking", "location", "goods", "condition", "text")
_SERVICES = ("payments", "stock", "shipping", "deadline")


def describe_event(event: Json, currency: str) -> str:
    """Time, version, actor, event type and the most important data."""
    at = datetime.fromisoformat(event["occurred_at"]).astimezone()
    actor = event["actor"] if event["actor"] in _SERVICES else "shop"
    event_type = event["type"].replace("-", " ")
    details = ", ".join(_details(event["data"], currency))
    return f"{at:%H:%M:%S}  {event['version']:>3}  {actor:<9} {event_type:<30} {details}".rstrip()


def _details(data: Json, currency: str) -> list[str]:
    details = [
        format_amount(data[key], currency)
        for key in ("amount", "total")
        if isinstance(data.get(key), int)
    ]
    if "sku" in data:
        details.append(f"{data['quantity']} × {data['title']}")
    details += _pieces(data.get("lines") or data.get("held") or [])
    details += [str(data[key]) for key in ("shipment_id",) if key in data]
    return details + [str(data[key]) for key in _SHOWN if data.get(key)]


def _pieces(pieces: list[Any]) -> list[str]:
    """The number of pieces, and their locations."""
    if not pieces:
        return []
    number = sum(piece["quantity"] for piece in pieces)
    locations = sorted({piece["location"] for piece in pieces if "location" in piece})
    return [f"{number} piece{'s' * (number != 1)}", *locations]
