"""What happened to an order, as one line for each event."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from orders.money import formatted

Json = Mapping[str, Any]

_SHOWN = ("reason", "method", "tracking", "location", "goods", "condition", "text")
_PARTIES = ("payments", "stock", "shipping", "deadline")


def line(event: Json, currency: str) -> str:
    """One event of an order's history, in words."""
    at = datetime.fromisoformat(event["occurred_at"]).astimezone()
    who = event["actor"] if event["actor"] in _PARTIES else "shop"
    what = event["type"].replace("-", " ")
    told = ", ".join(_told(event["data"], currency))
    return f"{at:%H:%M:%S}  {event['version']:>3}  {who:<9} {what:<30} {told}".rstrip()


def _told(data: Json, currency: str) -> list[str]:
    told = [
        formatted(data[key], currency)
        for key in ("amount", "total")
        if isinstance(data.get(key), int)
    ]
    if "sku" in data:
        told.append(f"{data['quantity']} × {data['title']}")
    pieces = data.get("lines") or data.get("held")
    if pieces:
        count = sum(piece["quantity"] for piece in pieces)
        told.append(f"{count} piece{'s' * (count != 1)}")
        told += sorted({piece["location"] for piece in pieces if "location" in piece})
    told += [str(data[key]) for key in ("shipment_id",) if key in data]
    return told + [str(data[key]) for key in _SHOWN if data.get(key)]
