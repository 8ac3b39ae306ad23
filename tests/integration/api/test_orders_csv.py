"""The list of orders as CSV: the same orders in the same order, safe for spreadsheets."""

from __future__ import annotations

import csv
import io
import secrets
from typing import Any

import httpx
import pytest

from api.reads import orders_csv
from tests.support.api_requests import BAGELS, opened, problem, shown

Row = dict[str, str]


async def rows_of(http: httpx.AsyncClient, **query: Any) -> list[Row]:
    response = await http.get("/v1/orders.csv", params=query)
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.DictReader(io.StringIO(response.text)))


@pytest.mark.parametrize("page", [2, 3, 500])
async def test_csv_has_the_orders_of_the_list(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(orders_csv, "PAGE", page)
    customer = f"c-{secrets.token_hex(4)}"
    for number in range(6):
        reference = f'{number}, "next" =x'
        path = await opened(
            http,
            customer_id=customer,
            external_reference=reference,
            lines=[{**BAGELS, "quantity": number + 1}],
        )
        await shown(http, path, 2)
    for sort in ("-opened_at", "total"):
        query = {"customer_id": customer, "sort": sort}
        listed = (await http.get("/v1/orders", params=query)).json()["items"]
        rows = await rows_of(http, **query)
        assert [row["order_id"] for row in rows] == [item["order_id"] for item in listed]
        for row, item in zip(rows, listed, strict=True):
            assert row["total"] == f"{item['total'] / 100:.2f}"
            assert row["opened_at"][:19] == item["opened_at"][:19]
            assert row["external_reference"] == item["external_reference"]
            assert (row["currency"], row["status"], row["placed_at"]) == ("USD", "draft", "")
            assert (row["payment_status"], row["needs_attention"]) == ("none", "no")
    assert len(await rows_of(http, customer_id=customer, limit=3)) == 3
    assert await rows_of(http, customer_id=customer, status="placed") == []


async def test_no_cell_is_a_formula(http: httpx.AsyncClient) -> None:
    customer = f"c-{secrets.token_hex(4)}"
    references = ["=HYPERLINK(1)", "+1", "-1", "@SUM(1)", "1=1"]
    for reference in references:
        path = await opened(http, customer_id=customer, external_reference=reference)
        await shown(http, path, 1)
    cells = [row["external_reference"] for row in await rows_of(http, customer_id=customer)]
    assert sorted(cells) == sorted(["'=HYPERLINK(1)", "'+1", "'-1", "'@SUM(1)", "1=1"])


async def test_csv_rejects_what_the_list_rejects(http: httpx.AsyncClient) -> None:
    for query, status in (
        ({"limit": "10001"}, 422),
        ({"cursor": "x"}, 422),
        ({"sku": "x", "sort": "total"}, 422),
        ({"consistency_token": "x"}, 400),
    ):
        response = await http.get("/v1/orders.csv", params=query)
        problem(response, status, "malformed-request" if status == 422 else response.json()["code"])
