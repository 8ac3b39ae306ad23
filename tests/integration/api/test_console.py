"""The console as it is served: headers, types, and no request to any other site."""

from __future__ import annotations

import json
import re
import tomllib

import httpx
import pytest

from api.console.routes import ASSETS, PATH, STATIC
from orders.money import _MINOR_DIGITS
from tests.support.paths import ROOT

FILES = sorted(
    str(file.relative_to(STATIC))
    for file in STATIC.rglob("*")
    if file.suffix in {".js", ".css", ".svg"}
)
TYPES = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}
BYTES_MAX = 200_000
SVG_NAMESPACE = "http://www.w3.org/2000/svg"  # A name: nothing is loaded.


def policy(response: httpx.Response) -> dict[str, str]:
    directives = response.headers["Content-Security-Policy"].split(";")
    return dict(one.strip().partition(" ")[::2] for one in directives)


async def test_root_leads_to_the_console(http: httpx.AsyncClient) -> None:
    response = await http.get("/", headers={"Host": "evil.example"})
    assert response.status_code == 307
    assert response.headers["Location"] == f"{PATH}/"  # Not to the host that the client named.


@pytest.mark.parametrize("page", ["", "/", "/orders", "/orders/ord_x?version=3", "/no/such/page"])
async def test_every_address_of_the_console_is_its_page(http: httpx.AsyncClient, page: str) -> None:
    response = await http.get(PATH + page)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.content == (STATIC / "index.html").read_bytes()
    assert response.headers["Cache-Control"] == "no-cache"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    allowed = policy(response)
    assert allowed["default-src"] == "'none'" and allowed["frame-ancestors"] == "'none'"
    assert allowed["script-src"] == allowed["style-src"] == allowed["connect-src"] == "'self'"
    assert "unsafe" not in response.headers["Content-Security-Policy"]


@pytest.mark.parametrize("file", FILES)
async def test_file_has_its_type_and_is_asked_for_again(http: httpx.AsyncClient, file: str) -> None:
    response = await http.get(f"{ASSETS}/{file}")
    assert response.status_code == 200
    assert response.headers["Content-Type"].partition(";")[0] == TYPES[file.rpartition(".")[2]]
    assert policy(response)["default-src"] == "'none'"
    known = {"If-None-Match": response.headers["ETag"]}
    assert (await http.get(f"{ASSETS}/{file}", headers=known)).status_code == 304


async def test_unknown_file_and_path_outside_are_not_found(http: httpx.AsyncClient) -> None:
    for path in ("nothing.js", "..%2froutes.py", "%2e%2e/routes.py", "views/"):
        assert (await http.get(f"{ASSETS}/{path}")).status_code == 404


def test_first_view_is_small_and_loads_nothing_from_other_sites() -> None:
    assert sum((STATIC / file).stat().st_size for file in FILES) < BYTES_MAX
    for file in (file for file in [*FILES, "index.html"] if file != "icon.svg"):
        text = (STATIC / file).read_text().replace(SVG_NAMESPACE, "")
        assert not re.search(r"""["'(=](https?:)?//""", text), file
        assert "innerHTML" not in text, file


def test_wheels_have_every_file() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "api.console" in setuptools["packages"]
    packaged = {
        file
        for glob in setuptools["package-data"]["api.console"]
        for file in STATIC.parent.glob(glob)
    }
    assert {file for file in STATIC.rglob("*") if file.is_file()} <= packaged


def test_amounts_have_the_digits_of_the_service() -> None:
    found = re.findall(r'digits\("([A-Z ]+)", (\d)\)', (STATIC / "format.js").read_text())
    digits = {code: int(number) for codes, number in found for code in codes.split()}
    assert digits == _MINOR_DIGITS, json.dumps(digits)
