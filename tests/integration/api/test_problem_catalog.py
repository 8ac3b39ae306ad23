"""Every problem type has a page that explains it, at the URL in `type`."""

from __future__ import annotations

import httpx

from api.problems.catalog import PROBLEM_TYPES
from tests.support.api_requests import BASKET, problem


async def test_problem_type_is_the_url_of_its_page(http: httpx.AsyncClient) -> None:
    rejected = [
        await http.get("/v1/orders/ord_x"),
        await http.get("/nowhere"),
        await http.post("/v1/orders", json={}),
        await http.post("/v1/orders", json={**BASKET, "lines": [], "place": True}),
    ]
    assert [r.json()["code"] for r in rejected] == [
        *("unknown-order", "not-found", "malformed-request", "no-lines"),
    ]
    for response in rejected:
        document = response.json()
        page = await http.get(document["type"])
        assert page.status_code == 200
        assert page.json() == {
            **{key: document[key] for key in ("type", "code", "status", "title")},
            "meaning": PROBLEM_TYPES[document["code"]].meaning,
            "remedy": PROBLEM_TYPES[document["code"]].remedy,
        }


async def test_all_types_are_listed_and_served_as_html_and_json(
    http: httpx.AsyncClient,
) -> None:
    items = (await http.get("/v1/problems")).json()["items"]
    assert [item["code"] for item in items] == sorted(PROBLEM_TYPES)
    browser = {"Accept": "text/html,application/xhtml+xml;q=0.9"}
    listed = await http.get("/v1/problems", headers=browser)
    for item in items:
        assert f'href="{item["type"]}"' in listed.text
        page = await http.get(item["type"], headers=browser)
        assert page.headers["content-type"].startswith("text/html")
        assert page.headers["vary"] == "Accept"
        assert f"<h1>{item['title']}</h1>" in page.text


async def test_unknown_problem_type_has_no_page(http: httpx.AsyncClient) -> None:
    for code in ("teleported", "<script>", "..%2f..", "no-lines/"):
        problem(await http.get(f"/v1/problems/{code}"), 404, "not-found")
