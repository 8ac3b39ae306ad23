"""Events as consumers receive them."""

from __future__ import annotations

from typing import Any

PLACED: dict[str, Any] = {
    "specversion": "1.0",
    "id": "ord_x@3",
    "source": "/orders/ord_x",
    "type": "orderly.order.order-placed.v1",
    "subject": "ord_x",
    "time": "2026-03-02T09:30:00.123456Z",
    "datacontenttype": "application/json",
    "dataschema": "https://orders.example.com/v1/schemas/orderly.order.order-placed.v1",
    "partitionkey": "ord_x",
    "sequence": "0000000003",
    "correlationid": "c",
    "causationid": "c",
    "actor": "anonymous",
    "data": {"total": 180},
}


def placed(order_id: str, version: int = 3, **data: Any) -> dict[str, Any]:
    """An event of an order."""
    return {
        **PLACED,
        "id": f"{order_id}@{version}",
        "source": f"/orders/{order_id}",
        "subject": order_id,
        "sequence": f"{version:010}",
        "data": {"total": 180, **data},
    }
