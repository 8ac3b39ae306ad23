"""Input as other software sends it: weak ETags, dates at the edge, long titles, decimal amounts."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.support.api_requests import BAGELS, BASKET, opened, problem


@pytest.mark.parametrize(
    ("template", "status"),
    [
        ("W/{etag}", 200),
        ('{etag}, "99"', 200),
        ('"99",W/{etag}', 200),
        ('W/"99"', 412),
        ('"98", "99"', 412),
    ],
)
async def test_if_match_accepts_weak_etags_and_lists(
    http: httpx.AsyncClient, template: str, status: int
) -> None:
    path = await opened(http)
    etag = (await http.get(path, params={"min_version": 1})).headers["etag"]
    response = await http.post(
        f"{path}/commands/add-note",
        json={"text": "x"},
        headers={"If-Match": template.format(etag=etag)},
    )
    assert response.status_code == status, response.text
    if status == 412:
        assert "99" in problem(response, 412, "version-conflict")["detail"]


EDGES = ("0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59.999999-05:00")


@pytest.mark.parametrize("instant", EDGES)
@pytest.mark.parametrize("parameter", ["placed_from", "placed_until"])
async def test_dates_at_the_edge_of_the_calendar_bound_nothing(
    http: httpx.AsyncClient, parameter: str, instant: str
) -> None:
    response = await http.get("/v1/orders", params={parameter: instant})
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("instant", EDGES)
async def test_order_as_of_the_edge_of_the_calendar(http: httpx.AsyncClient, instant: str) -> None:
    path = await opened(http)
    response = await http.get(path, params={"at": instant})
    assert response.status_code in (200, 404), response.text


@pytest.mark.parametrize("what", ["orders", "lead-times", "abandoned-drafts", "removed-items"])
@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
async def test_statistics_of_the_edge_of_the_calendar(
    http: httpx.AsyncClient, what: str, day: str
) -> None:
    for name in ("from", "until"):
        response = await http.get(f"/v1/stats/{what}", params={name: day})
        assert response.status_code in (200, 422), response.text


def with_line(**fields: Any) -> dict[str, Any]:
    return {**BASKET, "lines": [{**BAGELS, **fields}]}


async def test_titles_and_skus_of_marketplaces_fit(http: httpx.AsyncClient) -> None:
    body = with_line(title="t" * 255, sku="s" * 255)
    response = await http.post("/v1/orders", json=body)
    assert response.status_code == 201, response.text
    found = await http.get(
        "/v1/orders",
        params={"sku": "s" * 255, "consistency_token": response.json()["consistency_token"]},
    )
    assert response.json()["order_id"] in [order["order_id"] for order in found.json()["items"]]


async def test_decimal_amount_is_explained(http: httpx.AsyncClient) -> None:
    for amount in (10.50, "10.50"):
        response = await http.post("/v1/orders", json=with_line(unit_price=amount))
        (error,) = problem(response, 422, "malformed-request")["errors"]
        assert error["pointer"] == "#/lines/0/unit_price"
        assert (error["code"], "1050 for 10.50" in error["detail"]) == ("not-minor-units", True)


async def test_email_address_is_a_customer_id(http: httpx.AsyncClient) -> None:
    customer = "ada.lovelace+shop@example.org"
    response = await http.post("/v1/orders", json={**BASKET, "customer_id": customer})
    assert response.status_code == 201, response.text
    token = response.json()["consistency_token"]
    params = {"customer_id": customer, "consistency_token": token}
    listed = (await http.get("/v1/orders", params=params)).json()
    assert [order["order_id"] for order in listed["items"]] == [response.json()["order_id"]]
    erased = await http.delete(f"/v1/customers/{customer}/personal-data")
    assert erased.status_code == 200, erased.text
