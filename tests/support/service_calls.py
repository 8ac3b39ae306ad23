"""Calls of the services' contract, as an order's worker makes them."""

from __future__ import annotations

from typing import Any

import httpx

from dev.simulator_client import SimulatorClient

MILK = {"line_id": "1", "sku": "MILK", "quantity": 2}


async def post(
    http: httpx.AsyncClient, path: str, body: dict[str, Any], key: str = "key"
) -> httpx.Response:
    return await http.post(path, json=body, headers={"Idempotency-Key": key})


async def authorise(
    http: httpx.AsyncClient,
    order_id: str,
    amount: int = 1000,
    method: str | None = None,
    n: int = 1,
) -> httpx.Response:
    body = {
        "order_id": order_id,
        "authorisation_id": f"a{n}",
        "customer_id": "900",
        "amount": amount,
        "currency": "USD",
        "method": method,
    }
    return await post(http, "/payments/authorisations", body, f"{order_id}:a{n}")


async def authorised(http: httpx.AsyncClient, order_id: str, **fields: Any) -> str:
    """The path of a new authorisation."""
    response = await authorise(http, order_id, **fields)
    assert response.status_code == 201, response.text
    return f"/payments/authorisations/{response.json()['reference']}"


async def move(
    http: httpx.AsyncClient, path: str, order_id: str, step_id: str, amount: int | None = None
) -> httpx.Response:
    """A capture, refund or void."""
    body: dict[str, Any] = {"order_id": order_id, "step_id": step_id}
    body |= {} if amount is None else {"amount": amount}
    return await post(http, path, body, f"{order_id}:{step_id}")


async def reserve(
    http: httpx.AsyncClient, order_id: str, *lines: dict[str, Any], step_id: str = "r1"
) -> httpx.Response:
    body = {"order_id": order_id, "step_id": step_id, "lines": list(lines)}
    return await post(http, "/stock/reservations", body, f"{order_id}:{step_id}")


async def book(
    http: httpx.AsyncClient, shipment: str, revision: int = 1, postal_code: str | None = "90210"
) -> httpx.Response:
    """Books `order/shipment`, with the milk in it."""
    body = {
        "step_id": f"b{revision}",
        "revision": revision,
        "location": "EAST",
        "lines": [MILK | {"quantity": revision}],
        "address": postal_code and {"name": "Ada Lovelace", "postal_code": postal_code},
    }
    headers = {"Idempotency-Key": f"{shipment}:b{revision}"}
    return await http.put(f"/shipping/shipments/{shipment}", json=body, headers=headers)


async def ledger(http: httpx.AsyncClient, service: str, order_id: str) -> Any:
    """What a service recorded for one order; None if nothing."""
    return (await SimulatorClient(http).ledger(service, order_id)).get(order_id)
