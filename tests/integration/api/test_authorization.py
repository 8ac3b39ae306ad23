"""Who may: no token, no entry; no scope, no route; and to a customer no orders but its own."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

import httpx
import pytest
from temporalio.client import Client

from api.auth.permissions import COMMAND_ROLES, OPERATE, READ, WRITE
from api.auth.tokens import LEEWAY_SECONDS
from api.events import stream as api_streams
from api.personal_data import PUBLIC_COMMAND_TYPES
from orders.commands import Role, type_of
from settings import Settings
from tests.support.api_requests import BAGELS, BASKET, problem
from tests.support.order_fixtures import NEWS
from tests.support.routes import NOWHERE, every_route
from tests.support.servers import Running, run_api
from tests.support.token_issuer import ALL, Issuer, ec_key, issuing

ADDRESS = {"name": "Zoe", "line1": "1 Road", "postal_code": "1", "city": "X", "country": "US"}


# They need no token: nothing of an order is in them, or a signature says who sends them.
WITHOUT_TOKEN = {
    *(("GET", path) for path in ("/docs", "/openapi.json")),
    *(("GET", path) for path in ("/healthz", "/readyz", "/metrics")),
    *(("GET", path) for path in ("/v1/schemas", "/v1/schemas/{type}")),
    *(("GET", path) for path in ("/v1/problems", "/v1/problems/{code}")),
    *(("POST", f"/v1/callbacks/{party}") for party in ("payments", "stock", "shipping")),
}
# Of no one order; each has its own tests below.
NOT_OF_ONE_ORDER = {
    ("POST", "/v1/orders"),
    ("GET", "/v1/orders"),
    ("GET", "/v1/events"),
    *(("GET", f"/v1/stats/{what}") for what in ("orders", "lead-times")),
    *(("GET", f"/v1/stats/{what}") for what in ("abandoned-drafts", "removed-items")),
    ("DELETE", "/v1/customers/{customer_id}/personal-data"),
}
GUARDED = [route for route in every_route() if route not in WITHOUT_TOKEN]
OF_ONE_ORDER = [route for route in GUARDED if route not in NOT_OF_ONE_ORDER]


@dataclass
class Guarded:
    """The API as strangers meet it, with whoever issues their tokens."""

    http: httpx.AsyncClient
    issuer: Issuer
    settings: Settings

    def customer(self) -> Caller:
        return Caller(self, f"c-{secrets.token_hex(6)}", f"{READ} {WRITE}")

    def operator(self, name: str = "olga", scope: str = ALL) -> Caller:
        return Caller(self, name, scope)


@dataclass
class Caller:
    """Somebody with a token."""

    api: Guarded
    sub: str
    scope: str

    async def sends(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {**self.api.issuer.headers(self.sub, self.scope), **more.pop("headers", {})}
        return await self.api.http.request(method, path, headers=headers, **more)

    async def opens(self, customer: Caller | None = None, **changes: Any) -> str:
        """The path of a new draft, of its own or of a customer's."""
        body = {"customer_id": (customer or self).sub, "currency": "USD", **changes}
        opened = await self.sends("POST", "/v1/orders", json=body)
        assert opened.status_code == 201, opened.text
        path: str = opened.headers["Location"]
        shown = await self.sends(
            "GET", path, params={"consistency_token": opened.json()["consistency_token"]}
        )
        assert shown.status_code == 200, shown.text
        return path


@pytest.fixture(scope="module")
async def api(orderly: Running) -> AsyncIterator[Guarded]:
    async with issuing(ec_key()) as issuer:
        settings = Settings(
            postgres_dsn=orderly.dsn, task_queue=orderly.task_queue, **issuer.settings
        )
        async with run_api(orderly.client, settings) as http:
            yield Guarded(http, issuer, settings)


def in_full(path: str, order_id: str = "ord_x") -> str:
    return path.format(order_id=order_id, customer_id="ada", command_id="x" * 40)


def name(route: tuple[str, str]) -> str:
    return " ".join(route)


# Every route


@pytest.mark.parametrize("route", GUARDED, ids=name)
async def test_a_route_lets_nobody_in_without_a_token(api: Guarded, route: tuple[str, str]) -> None:
    method, path = route[0], in_full(route[1])
    for headers in ({}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer"}):
        # Not even to be told what is wrong with the body.
        answer = await api.http.request(method, path, content="{", headers=headers)
        problem(answer, 401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    stranger = {"Authorization": "Bearer " + api.issuer.token(ec_key())}
    answer = await api.http.request(method, path, headers=stranger)
    assert "kid" in problem(answer, 401, "unauthenticated")["detail"]
    assert answer.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token"')


@pytest.mark.parametrize("route", GUARDED, ids=name)
async def test_a_route_lets_in_with_the_scope_that_its_document_names(
    api: Guarded, route: tuple[str, str]
) -> None:
    method, path = route
    document = (await api.http.get("/openapi.json")).json()
    ((needed,),) = [s["bearer"] for s in document["paths"][path][method.lower()]["security"]]
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    others = " ".join({READ, WRITE, OPERATE, "orders:admin"} - {needed})
    for scope in ("", others, needed.upper()):
        lacking = await Caller(api, "ada", scope).sends(method, in_full(path))
        assert needed in problem(lacking, 403, "insufficient-scope")["detail"]
        challenge = f'Bearer error="insufficient_scope", scope="{needed}"'
        assert lacking.headers["WWW-Authenticate"] == challenge
    let_in = await Caller(api, "ada", needed).sends(method, in_full(path))
    assert let_in.status_code not in (401, 403), let_in.text


@pytest.mark.parametrize("route", sorted(WITHOUT_TOKEN), ids=name)
async def test_what_needs_no_token_needs_none(api: Guarded, route: tuple[str, str]) -> None:
    method, path = route
    path = path.replace("{type}", "orderly.order.item-added.v1").replace("{code}", "no-lines")
    answer = await api.http.request(method, path)
    assert answer.status_code in (200, 503)  # No secret for callbacks, no projector to hear.
    assert "WWW-Authenticate" not in answer.headers


@pytest.mark.parametrize("route", OF_ONE_ORDER, ids=name)
async def test_anothers_order_is_not_to_be_told_from_none_at_all(
    api: Guarded, theirs: str, route: tuple[str, str]
) -> None:
    method, path = route
    assert "{order_id}" in path, "say above what a route is that is not of one order, and test it"
    mallory = api.customer()
    answers = []
    for order_id in (theirs, f"ord_{secrets.token_hex(10)}"):
        for more in ({}, {"content": "{"}, {"headers": {"If-Match": '"1"', "If-None-Match": "*"}}):
            refused = await mallory.sends(method, in_full(path, order_id), **cast(Any, more))
            document = problem(refused, 404, "unknown-order")
            unlike = {"request_id", "trace_id"}
            told = {k: v for k, v in document.items() if k not in unlike}
            headers = {
                k: v for k, v in refused.headers.items() if k not in ("date", "x-request-id")
            }
            answers.append(str((told, headers)).replace(order_id, "ORDER"))
    assert len(set(answers)) == 1
    operator = await api.operator().sends(method, in_full(path, theirs))
    told = operator.json() if operator.status_code == 404 else {}
    assert told.get("code") != "unknown-order", "or this test could not fail"


@pytest.fixture(scope="module")
async def theirs(api: Guarded) -> str:
    """An order of somebody else's."""
    return (await api.customer().opens()).rpartition("/")[2]


@pytest.mark.parametrize("order_id", ["%00", "a%20b", "x" * 65, "%f0%9f%92%a9", "ord_x"])
async def test_an_id_that_cannot_be_one_is_of_no_order(api: Guarded, order_id: str) -> None:
    for path in (f"/v1/orders/{order_id}", f"/v1/orders/{order_id}/history"):
        answer = await api.customer().sends("GET", path)
        assert answer.status_code == 404


# One's own orders


async def test_a_customer_sees_and_touches_its_own_orders(api: Guarded) -> None:
    ada = api.customer()
    path = await ada.opens()
    note = await ada.sends("POST", f"{path}/commands/add-note", json={"text": "Ring twice."})
    several = await ada.sends(
        "POST", f"{path}/commands", json={"commands": [{"type": "add-note", "text": "Or thrice."}]}
    )
    address = await ada.sends(
        "POST", f"{path}/commands/set-shipping-address", json={"address": ADDRESS}
    )
    assert [a.status_code for a in (note, several, address)] == [200, 200, 200], address.text
    token = {"consistency_token": address.json()["consistency_token"]}
    assert (await ada.sends("GET", path, params=token)).json()["version"] == 4
    history = (await ada.sends("GET", f"{path}/history", params=token)).json()["items"]
    assert {event["actor"] for event in history} == {f"customer:{ada.sub}"}
    by_name = api.operator(ada.sub)
    await by_name.sends("POST", f"{path}/commands/add-note", json={"text": "It rang."})
    shown = await by_name.sends("GET", f"{path}/history", params={"min_version": 5})
    assert shown.json()["items"][-1]["actor"] == f"operator:{ada.sub}"


async def test_lists_show_a_customer_its_own_orders_alone(api: Guarded) -> None:
    ada, bob, operator = api.customer(), api.customer(), api.operator()
    hers, his = await ada.opens(), await bob.opens()

    async def listed(caller: Caller, **params: Any) -> list[str]:
        page = await caller.sends("GET", "/v1/orders", params=params)
        assert page.status_code == 200, page.text
        return ["/v1/orders/" + order["order_id"] for order in page.json()["items"]]

    assert await listed(ada) == await listed(ada, customer_id=ada.sub) == [hers]
    assert await listed(ada, customer_id=bob.sub) == []
    assert await listed(operator, customer_id=bob.sub) == [his]
    assert {hers, his} <= set(await listed(operator))
    for params in ({"status": "draft"}, {"sort": "total"}, {"total_from": 0}):
        assert await listed(ada, **params) == [hers]


async def test_the_feed_shows_a_customer_what_happened_to_its_own_orders_alone(
    api: Guarded, theirs: str
) -> None:
    ada, operator = api.customer(), api.operator()
    hers = (await ada.opens()).rpartition("/")[2]

    async def subjects(caller: Caller) -> set[str]:
        seen, after = set[str](), ""
        while True:
            params = {"cursor": after} if after else None
            page = (await caller.sends("GET", "/v1/events", params=params)).json()
            seen |= {event["subject"] for event in page["items"]}
            if page["next"] == after:
                return seen
            after = page["next"]

    assert await subjects(ada) == {hers}
    assert {hers, theirs} <= await subjects(operator)
    for caller, order_id, status in ((ada, theirs, 404), (ada, hers, 200), (operator, theirs, 200)):
        answer = await caller.sends("GET", "/v1/events", params={"order_id": order_id})
        assert answer.status_code == status
    streaming = api.issuer.headers(ada.sub, READ) | {"Accept": "text/event-stream"}
    async with api.http.stream("GET", "/v1/events", headers=streaming) as stream:
        lines = stream.aiter_lines()
        async for line in lines:
            if line.startswith("data:"):
                assert hers in line
                break


async def test_a_stream_ends_with_the_token_that_it_began_with(
    api: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_streams, "HEARTBEAT_SECONDS", 0.2)
    soon = api.issuer.token(exp=int(time.time()) - LEEWAY_SECONDS + 3)
    headers = {"Authorization": f"Bearer {soon}", "Accept": "text/event-stream"}
    async with asyncio.timeout(20):
        async with api.http.stream("GET", "/v1/events", headers=headers) as stream:
            assert stream.status_code == 200
            assert [line async for line in stream.aiter_lines()]
        problem(await api.http.get("/v1/events", headers=headers), 401, "unauthenticated")


async def test_a_consistency_token_of_anothers_order_tells_nothing_of_it(
    api: Guarded, theirs: str
) -> None:
    ada = api.customer()
    own = await ada.opens()
    for path in ("/v1/orders", own, f"{own}/history", f"{own}/commands"):
        for order_id in (theirs, "ord_x"):
            params = {"consistency_token": f"{order_id}@9"}
            patience = {"Prefer": "wait=0"}
            answer = await ada.sends("GET", path, params=params, headers=patience)
            assert "current_version" not in problem(answer, 404, "unknown-order")


async def test_a_key_of_one_callers_is_no_key_of_anothers(api: Guarded) -> None:
    ada, bob = api.customer(), api.customer()
    key = {"Idempotency-Key": secrets.token_hex(8)}
    paths = []
    for caller in (ada, bob, api.operator(ada.sub)):
        body = {"customer_id": bob.sub if caller is bob else ada.sub, "currency": "USD"}
        opened = await caller.sends("POST", "/v1/orders", json=body, headers=key)
        again = await caller.sends("POST", "/v1/orders", json=body, headers=key)
        assert (opened.status_code, again.status_code) == (201, 201)
        assert "Idempotent-Replayed" not in opened.headers
        assert again.headers["Idempotent-Replayed"] == "true"
        paths.append(opened.headers["Location"])
    assert len(set(paths)) == 3


# What a customer may ask


def body_of(tag: str) -> dict[str, Any]:
    if tag.endswith("address"):
        return {"address": ADDRESS}
    return next(c for c in NEWS if c.type == tag).model_dump(mode="json", exclude_none=True)


@pytest.mark.parametrize("tag", [type_of(command_type) for command_type in PUBLIC_COMMAND_TYPES])
async def test_a_customer_sends_what_is_for_customers_and_nothing_else(
    api: Guarded, tag: str
) -> None:
    ada = api.customer()
    path = await ada.opens()
    routes = [(f"{path}/commands/{tag}", body_of(tag))]
    routes += [(f"{path}/commands", {"commands": [{"type": tag, **body_of(tag)}]})]
    for route, body in routes:
        answer = await ada.sends("POST", route, json=body)
        operator = await api.operator().sends("POST", route, json=body)
        assert operator.status_code in (200, 409), operator.text
        if COMMAND_ROLES[tag] is Role.CUSTOMER:
            assert answer.status_code in (200, 409), answer.text
        else:
            assert tag in problem(answer, 403, "not-for-customers")["detail"]


async def test_one_command_that_is_not_for_customers_is_enough(api: Guarded) -> None:
    ada = api.customer()
    path = await ada.opens()
    mixed = [{"type": "add-note", "text": "Hi."}, {"type": "add-item-to-order", **BAGELS}]
    answer = await ada.sends("POST", f"{path}/commands", json={"commands": mixed})
    problem(answer, 403, "not-for-customers")
    amendment = body_of("amend-order")
    preview = await ada.sends("POST", f"{path}/commands/amend-order/preview", json=amendment)
    problem(preview, 403, "not-for-customers")
    assert (await ada.sends("GET", path)).json()["version"] == 1


async def test_a_customer_opens_orders_for_itself_and_without_amounts(api: Guarded) -> None:
    ada = api.customer()
    own = {"customer_id": ada.sub, "currency": "USD"}
    for changes, named in (
        ({"customer_id": "900"}, "customer_id"),
        ({"lines": [BAGELS]}, "add-item-to-order"),
        ({"shipping_charge": 1}, "set-shipping-charge"),
    ):
        answer = await ada.sends("POST", "/v1/orders", json={**own, **changes})
        assert named in problem(answer, 403, "not-for-customers")["detail"]
    assert (await ada.sends("GET", "/v1/orders")).json()["items"] == []
    await ada.opens(shipping_address=ADDRESS)
    await api.operator().opens(ada, lines=BASKET["lines"], place=True)


async def test_statistics_are_for_operators(api: Guarded) -> None:
    for what in ("orders", "lead-times", "abandoned-drafts", "removed-items"):
        path = f"/v1/stats/{what}"
        problem(await api.customer().sends("GET", path), 403, "insufficient-scope")
        assert (await api.operator().sends("GET", path)).status_code == 200


async def test_a_customer_forgets_nobody(api: Guarded) -> None:
    ada = api.customer()
    path = f"/v1/customers/{ada.sub}/personal-data"
    problem(await ada.sends("DELETE", path), 403, "insufficient-scope")
    assert (await api.operator().sends("DELETE", path)).status_code == 200


async def test_a_customer_is_told_what_a_customer_may_do(api: Guarded) -> None:
    ada, operator = api.customer(), api.operator()
    path = await ada.opens()

    async def told(caller: Caller) -> list[list[str]]:
        order = (await caller.sends("GET", path)).json()
        page = (await caller.sends("GET", "/v1/orders", params={"customer_id": ada.sub})).json()
        now = (await caller.sends("GET", f"{path}/commands")).json()["commands"]
        refused = await caller.sends("POST", f"{path}/commands/place-order")
        return [
            order["allowed_commands"],
            page["items"][0]["allowed_commands"],
            [command["type"] for command in now],
            problem(refused, 409, "no-lines")["allowed_commands"],
        ]

    everything, hers = await told(operator), await told(ada)
    assert "add-item-to-order" in everything[0]
    for all_, own in zip(everything, hers, strict=True):
        assert own == [command for command in all_ if COMMAND_ROLES[command] is Role.CUSTOMER]
        assert own and own != all_
    whole = (await operator.sends("GET", path)).json()
    assert (await ada.sends("GET", path)).json() == {**whole, "allowed_commands": hers[0]}


async def test_a_subject_that_cannot_be_a_customers_is_refused(api: Guarded) -> None:
    for sub in ("", "a b", "a/b", "x" * 256):
        answer = await Caller(api, sub, READ).sends("GET", "/v1/orders")
        assert "sub" in problem(answer, 401, "unauthenticated")["detail"]
    robot = await api.operator("robot@clients").sends("GET", "/v1/orders")
    assert robot.status_code == 200


# With something away


async def test_with_the_log_away_a_customer_goes_on_and_learns_no_more(
    orderly: Running, api: Guarded, theirs: str
) -> None:
    ada = api.customer()
    path = await ada.opens()
    settings = Settings(postgres_dsn=NOWHERE, task_queue=orderly.task_queue, **api.issuer.settings)
    async with run_api(orderly.client, settings) as http:
        api = Guarded(http, api.issuer, settings)
        mallory, ada = api.customer(), Caller(api, ada.sub, ada.scope)
        taken = await ada.sends("POST", f"{path}/commands/add-note", json={"text": "Still here."})
        assert taken.status_code == 200, taken.text
        for order_id in (theirs, "ord_x"):
            answer = await mallory.sends("GET", f"/v1/orders/{order_id}")
            problem(answer, 503, "storage-unavailable")


async def test_with_the_engine_away_a_customer_reads_on_and_learns_no_more(
    api: Guarded, theirs: str
) -> None:
    ada = api.customer()
    path = await ada.opens()
    nobody = await Client.connect("127.0.0.1:1", lazy=True)
    async with run_api(nobody, api.settings) as http:
        api = Guarded(http, api.issuer, api.settings)
        assert (await Caller(api, ada.sub, ada.scope).sends("GET", path)).status_code == 200
        for order_id in (theirs, "ord_x"):
            answer = await api.customer().sends("GET", f"/v1/orders/{order_id}")
            problem(answer, 503, "temporal-unavailable")


async def test_without_any_keys_nobody_is_called_a_stranger(orderly: Running) -> None:
    async with issuing(ec_key()) as issuer:
        issuer.status = 500
        settings = Settings(
            postgres_dsn=orderly.dsn, task_queue=orderly.task_queue, **issuer.settings
        )
        async with run_api(orderly.client, settings) as http:
            answer = await http.get("/v1/orders", headers=issuer.headers("ada"))
            problem(answer, 503, "signing-keys-unavailable")
            assert int(answer.headers["Retry-After"]) > 0
