"""The inbox, the search and the state of the read models, over HTTP."""

from __future__ import annotations

import secrets

import httpx
import pytest

from eventlog.postgres import connect_pool
from tests.support.api_requests import problem
from tests.support.servers import Running
from tests.support.shop import BREAD, MILK, Shop


async def found(http: httpx.AsyncClient, token: str, **filters: str) -> list[str]:
    params = {"consistency_token": token, **filters}
    response = await http.get("/v1/orders", params=params)
    assert response.status_code == 200, response.text
    return [order["order_id"] for order in response.json()["items"]]


async def test_orders_that_wait_for_a_person_are_in_the_inbox(shop: Shop) -> None:
    declined = await shop.place_order(MILK, payment_method="pm_declined")
    held = await shop.place_order(BREAD)
    await held.wait_until_settled(status="confirmed")
    reason = f"odd {secrets.token_hex(4)}"
    await held.execute("hold-order", reason=reason)
    document = await declined.wait_until_settled(status="awaiting_customer")
    assert document["awaits_since"] and document["payment"]["decline_reason"]

    token = f"{held.order_id}@{held.version}"
    response = await shop.http.get("/v1/inbox", params={"consistency_token": token, "limit": 500})
    inbox = response.json()
    assert response.headers["Cache-Control"] == "no-store"
    waits = {
        (group["kind"], item["order_id"]): (group["cause"], item)
        for group in inbox["groups"]
        for item in group["items"]
    }
    cause, item = waits["held", held.order_id]
    assert (cause, item["command"], item["amount"]) == (reason, "release-order", item["total"])
    cause, item = waits["awaits-payment", declined.order_id]
    assert cause == item["reason"] == document["payment"]["decline_reason"]
    assert item["deadline"]["name"] == "payment-answer"
    assert inbox["orders"] == len({order_id for _, order_id in waits})
    await held.execute("release-order")
    await declined.execute("cancel-order")
    await held.wait_until_settled(status="confirmed")


async def test_order_is_found_by_what_people_know_it_by(shop: Shop) -> None:
    reference = f"WEB-{secrets.token_hex(4)}"
    order = await shop.place_order(MILK, external_reference=reference)
    await order.ship()
    document = await order.document()
    (shipment,) = document["shipments"]
    (authorisation,) = document["payment"]["authorisations"]
    token, mine = f"{order.order_id}@{order.version}", [order.order_id]
    for term in (
        order.order_id,
        reference,
        document["customer_id"],
        shipment["tracking"],
        authorisation["reference"],
    ):
        assert await found(shop.http, token, search=term) == mine, term
    assert order.order_id in await found(shop.http, token, search="MILK", limit="100")
    assert await found(shop.http, token, search=reference, status="draft") == []
    assert await found(shop.http, token, search=reference[:-1]) == []
    for field, value in (
        ("payment_status", "captured"),
        ("fulfilment_status", "shipped"),
        ("return_status", "none"),
    ):
        assert await found(shop.http, token, search=reference, **{field: value}) == mine
    assert await found(shop.http, token, search=reference, payment_status="declined") == []


async def test_search_has_one_sort(http: httpx.AsyncClient) -> None:
    response = await http.get("/v1/orders", params={"search": "x", "sort": "total"})
    assert problem(response, 422, "malformed-request")["errors"][0]["parameter"] == "sort"
    response = await http.get("/v1/orders", params={"sort": "deadline_at"})
    assert problem(response, 422, "malformed-request")["errors"][0]["parameter"] == "sort"


@pytest.mark.parametrize("way", ["", "-"])
async def test_deadlines_are_listed_in_their_order(shop: Shop, way: str) -> None:
    customer = f"c-{secrets.token_hex(4)}"
    orders = [await shop.place_order(MILK, customer_id=customer) for _ in range(2)]
    for order in orders:
        await order.wait_until_settled(status="confirmed")
    params = {"customer_id": customer, "deadline_until": "2100-01-01T00:00:00Z", "limit": "1"}
    deadlines: list[str] = []
    while params is not None and len(deadlines) < 5:
        page = await shop.http.get("/v1/orders", params={**params, "sort": f"{way}deadline_at"})
        assert page.status_code == 200, page.text
        deadlines += [order["deadline"]["at"] for order in page.json()["items"]]
        if page.json()["next"] is None:
            break
        params["cursor"] = page.json()["next"]
    assert len(deadlines) == 2
    assert deadlines == sorted(deadlines, reverse=bool(way))


async def test_read_models_say_how_far_they_are(orderly: Running) -> None:
    async with await connect_pool(orderly.dsn) as pool:
        await pool.execute(
            "INSERT INTO parked_orders (projection, generation, order_id, version, error)"
            " VALUES ('lead_times', 'live', 'ord_parked', 3, 'expected version 2')"
        )
        try:
            read = (await orderly.http.get("/v1/projections")).json()
            inbox = (await orderly.http.get("/v1/inbox")).json()
        finally:
            await pool.execute("DELETE FROM parked_orders WHERE order_id = 'ord_parked'")
    models = {one["name"]: one for one in read["items"]}
    assert {"order_view", "order_stats", "lead_times"} <= models.keys()
    view = models["order_view"]
    assert view["version"] >= 5 and not view["is_stopped"] and view["rebuild"] is None
    assert models["lead_times"]["parked_orders"] == 1
    for parked in (read["parked_orders"], inbox["parked_orders"]):
        (one,) = (each for each in parked if each["order_id"] == "ord_parked")
        assert (one["projection"], one["version"]) == ("lead_times", 3)
