"""Every code that a caller can be told has a page that explains it, at the address in `type`."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import httpx

import workflows.messages
from api.problems.catalog import PAGES
from tests.support.api_requests import BASKET, problem
from tests.support.paths import ROOT

# By folder: what says a code when it is called, and where in its arguments.
SAYING = {
    "api": {"Problem": 1, "not_ours": 0},
    "orders": {"CommandRejected": 1, "check_capacity": 2},
    "workflows": {"refused": 1},
}
PREFIXES = {"not_ours": "invalid-", "check_capacity": "too-many-"}
# What these say was said to them: by the rules, or by those who call them.
HANDED_ON = {"refusal.code", "no.code"}


def said() -> Iterator[tuple[str, str]]:
    """Each code in the source, and where it is said."""
    for folder, calls in SAYING.items():
        for file in sorted((ROOT / folder).glob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and (name := name_of(node.func)) in calls:
                    place = f"{file.relative_to(ROOT)}:{node.lineno}"
                    argument = node.args[calls[name]]
                    if (code := constant(argument)) is not None:
                        yield PREFIXES.get(name, "") + code.replace("_", "-"), place
                    elif not isinstance(argument, ast.JoinedStr):
                        assert ast.unparse(argument) in HANDED_ON, f"{place}: which code is it?"
                    else:
                        assert ast.unparse(argument)[2:-1].split("{")[0] in PREFIXES.values(), place


def name_of(function: ast.expr) -> str:
    return ast.unparse(function).rpartition(".")[2]


def constant(argument: ast.expr) -> str | None:
    if isinstance(argument, ast.Name):
        return getattr(workflows.messages, argument.id, None)
    return str(argument.value) if isinstance(argument, ast.Constant) else None


def test_every_code_in_the_source_has_a_page() -> None:
    missing = {code: place for code, place in said() if code not in PAGES}
    assert missing == {}, "explain them in api/problem_pages.py"


def test_every_page_explains_a_code_that_is_said() -> None:
    assert sorted(PAGES) == sorted({code for code, _ in said()})


async def test_the_type_of_a_problem_is_the_address_of_its_page(http: httpx.AsyncClient) -> None:
    refused = [
        await http.get("/v1/orders/ord_x"),
        await http.get("/nowhere"),
        await http.post("/v1/orders", json={}),
        await http.post("/v1/orders", json={**BASKET, "lines": [], "place": True}),
    ]
    assert [r.json()["code"] for r in refused] == [
        *("unknown-order", "not-found", "malformed-request", "no-lines"),
    ]
    for response in refused:
        document = response.json()
        page = await http.get(document["type"])
        assert page.status_code == 200
        assert page.json() == {
            "type": document["type"],
            "code": document["code"],
            "title": document["title"],
            **PAGES[document["code"]]._asdict(),
        }


async def test_all_pages_are_listed_and_can_be_read_by_people_and_programs(
    http: httpx.AsyncClient,
) -> None:
    items = (await http.get("/v1/problems")).json()["items"]
    assert [item["code"] for item in items] == sorted(PAGES)
    browser = {"Accept": "text/html,application/xhtml+xml;q=0.9"}
    listed = await http.get("/v1/problems", headers=browser)
    for item in items:
        assert f'href="{item["type"]}"' in listed.text
        page = await http.get(item["type"], headers=browser)
        assert page.headers["content-type"].startswith("text/html")
        assert page.headers["vary"] == "Accept"
        assert f"<h1>{item['title']}</h1>" in page.text


async def test_a_problem_that_there_is_not_has_no_page(http: httpx.AsyncClient) -> None:
    for code in ("teleported", "<script>", "..%2f..", "no-lines/"):
        problem(await http.get(f"/v1/problems/{code}"), 404, "not-found")


def test_a_page_says_what_to_do_in_whole_sentences() -> None:
    for code, page in PAGES.items():
        for text in (page.meaning, page.remedy):
            assert text[0].isupper() or text[0] == "`", code
            assert text.endswith((".", "?")), code
