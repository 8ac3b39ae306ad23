"""Authorization: every route requires a token with its scope; customers access their own orders."""

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
from api.context import short_hash
from api.events import routes as api_routes
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


SIGN_IN = (("POST", "/console/sign-in"), ("POST", "/console/sign-in/renewal"))
# Routes without a token: they reveal nothing about orders, or require a signature instead.
WITHOUT_TOKEN = {
    *(("GET", path) for path in ("/docs", "/docs/events", "/openapi.json", "/asyncapi.json")),
    *(("GET", path) for path in ("/", "/console", "/console/{page:path}", "/console/sign-in")),
    *SIGN_IN,
    *(("GET", path) for path in ("/healthz", "/readyz")),
    *(("GET", path) for path in ("/v1/schemas", "/v1/schemas/{type}")),
    *(("GET", path) for path in ("/v1/problems", "/v1/problems/{code}")),
    *(("POST", f"/v1/callbacks/{service}") for service in ("payments", "stock", "shipping")),
}
# Routes that are not about one order; each has tests of its own below.
NOT_OF_ONE_ORDER = {
    ("POST", "/v1/orders"),
    ("POST", "/v1/orders/preview"),
    ("GET", "/v1/orders"),
    ("GET", "/v1/orders.csv"),
    ("GET", "/v1/events"),
    ("GET", "/v1/events/digest"),
    ("GET", "/v1/inbox"),
    ("GET", "/v1/projections"),
    ("GET", "/v1/services"),
    ("GET", "/v1/callbacks"),
    *(("GET", f"/v1/stats/{what}") for what in ("orders", "lead-times", "statuses")),
    ("GET", "/v1/links"),
    *(("GET", f"/v1/stats/{what}") for what in ("abandoned-drafts", "removed-items")),
    ("DELETE", "/v1/customers/{customer_id}/personal-data"),
    *(route for route in every_route() if route[1].startswith("/v1/webhook-endpoints")),
}
GUARDED = [route for route in every_route() if route not in WITHOUT_TOKEN]
OF_ONE_ORDER = [route for route in GUARDED if route not in NOT_OF_ONE_ORDER]


@dataclass
class Guarded:
    """The API with authentication, and the issuer of its tokens."""

    http: httpx.AsyncClient
    issuer: Issuer
    settings: Settings

    def customer(self) -> Caller:
        return Caller(self, f"c-{secrets.token_hex(6)}", f"{READ} {WRITE}")

    def operator(self, name: str = "olga", scope: str = ALL) -> Caller:
        return Caller(self, name, scope)


@dataclass
class Caller:
    """A caller with a token."""

    api: Guarded
    sub: str
    scope: str

    async def send(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {**self.api.issuer.headers(self.sub, self.scope), **more.pop("headers", {})}
        return await self.api.http.request(method, path, headers=headers, **more)

    async def open_order(self, customer: Caller | None = None, **changes: Any) -> str:
        """The path of a new draft, of the caller or of another customer."""
        body = {"customer_id": (customer or self).sub, "currency": "USD", **changes}
        opened = await self.send("POST", "/v1/orders", json=body)
        assert opened.status_code == 201, opened.text
        path: str = opened.headers["Location"]
        shown = await self.send(
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
    ids = {"customer_id": "ada", "command_id": "x" * 40, "endpoint_id": "we_x", "delivery_id": "7"}
    return path.format(order_id=order_id, **ids)


def name(route: tuple[str, str]) -> str:
    return " ".join(route)


# Every route


async def test_metrics_are_not_on_the_public_port(api: Guarded) -> None:
    assert (await api.http.get("/metrics")).status_code == 404


@pytest.mark.parametrize("route", GUARDED, ids=name)
async def test_route_rejects_requests_without_a_valid_token(
    api: Guarded, route: tuple[str, str]
) -> None:
    method, path = route[0], in_full(route[1])
    for headers in ({}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer"}):
        # Before the body is validated.
        response = await api.http.request(method, path, content="{", headers=headers)
        problem(response, 401, "unauthenticated")
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
    stranger = {"Authorization": "Bearer " + api.issuer.token(ec_key())}
    response = await api.http.request(method, path, headers=stranger)
    assert "kid" in problem(response, 401, "unauthenticated")["detail"]
    assert response.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token"')


@pytest.mark.parametrize("route", GUARDED, ids=name)
async def test_route_requires_the_scope_in_its_documentation(
    api: Guarded, route: tuple[str, str]
) -> None:
    method, path = route
    document = (await api.http.get("/openapi.json")).json()
    ((needed,),) = [s["bearer"] for s in document["paths"][path][method.lower()]["security"]]
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    others = " ".join({READ, WRITE, OPERATE, "orders:admin"} - {needed})
    for scope in ("", others, needed.upper()):
        lacking = await Caller(api, "ada", scope).send(method, in_full(path))
        assert needed in problem(lacking, 403, "insufficient-scope")["detail"]
        challenge = f'Bearer error="insufficient_scope", scope="{needed}"'
        assert lacking.headers["WWW-Authenticate"] == challenge
    admitted = await Caller(api, "ada", needed).send(method, in_full(path))
    assert admitted.status_code not in (401, 403), admitted.text


@pytest.mark.parametrize("route", sorted(WITHOUT_TOKEN), ids=name)
async def test_public_routes_need_no_token(api: Guarded, route: tuple[str, str]) -> None:
    method, path = route
    path = path.replace("{type}", "orderly.order.item-added.v1").replace("{code}", "no-lines")
    response = await api.http.request(method, path)
    # There is no callback secret and no projector; the root leads to the console.
    others = {("GET", "/"): 307, **dict.fromkeys(SIGN_IN, 422)}  # These were sent no body.
    assert response.status_code in (200, 503, others.get(route))
    assert "WWW-Authenticate" not in response.headers


@pytest.mark.parametrize("route", OF_ONE_ORDER, ids=name)
async def test_another_customers_order_looks_like_one_that_does_not_exist(
    api: Guarded, theirs: str, route: tuple[str, str]
) -> None:
    method, path = route
    assert "{order_id}" in path, "list a route that is not about one order above, and test it"
    mallory = api.customer()
    responses = []
    for order_id in (theirs, f"ord_{secrets.token_hex(10)}"):
        for more in ({}, {"content": "{"}, {"headers": {"If-Match": '"1"', "If-None-Match": "*"}}):
            rejected = await mallory.send(method, in_full(path, order_id), **cast(Any, more))
            document = problem(rejected, 404, "unknown-order")
            unlike = {"request_id", "trace_id"}
            content = {k: v for k, v in document.items() if k not in unlike}
            headers = {
                k: v for k, v in rejected.headers.items() if k not in ("date", "x-request-id")
            }
            responses.append(str((content, headers)).replace(order_id, "ORDER"))
    assert len(set(responses)) == 1
    operator = await api.operator().send(method, in_full(path, theirs))
    document = operator.json() if operator.status_code == 404 else {}
    assert document.get("code") != "unknown-order", "otherwise this test could not fail"


@pytest.fixture(scope="module")
async def theirs(api: Guarded) -> str:
    """An order of another customer."""
    return (await api.customer().open_order()).rpartition("/")[2]


@pytest.mark.parametrize("order_id", ["%00", "a%20b", "x" * 65, "%f0%9f%92%a9", "ord_x"])
async def test_malformed_order_id_is_not_found(api: Guarded, order_id: str) -> None:
    for path in (f"/v1/orders/{order_id}", f"/v1/orders/{order_id}/history"):
        response = await api.customer().send("GET", path)
        assert response.status_code == 404


# Own orders


async def test_customer_can_read_and_change_its_own_orders(api: Guarded) -> None:
    ada = api.customer()
    path = await ada.open_order()
    note = await ada.send("POST", f"{path}/commands/add-note", json={"text": "Ring twice."})
    several = await ada.send(
        "POST", f"{path}/commands", json={"commands": [{"type": "add-note", "text": "Or thrice."}]}
    )
    address = await ada.send(
        "POST", f"{path}/commands/set-shipping-address", json={"address": ADDRESS}
    )
    assert [a.status_code for a in (note, several, address)] == [200, 200, 200], address.text
    token = {"consistency_token": address.json()["consistency_token"]}
    assert (await ada.send("GET", path, params=token)).json()["version"] == 4
    history = (await ada.send("GET", f"{path}/history", params=token)).json()["items"]
    assert {event["actor"] for event in history} == {f"customer:{ada.sub}"}
    by_name = api.operator(ada.sub)
    await by_name.send("POST", f"{path}/commands/add-note", json={"text": "It rang."})
    shown = await by_name.send("GET", f"{path}/history", params={"min_version": 5})
    assert shown.json()["items"][-1]["actor"] == f"operator:{ada.sub}"


async def test_lists_show_a_customer_only_its_own_orders(api: Guarded) -> None:
    ada, bob, operator = api.customer(), api.customer(), api.operator()
    hers, his = await ada.open_order(), await bob.open_order()

    async def listed(caller: Caller, **params: Any) -> list[str]:
        page = await caller.send("GET", "/v1/orders", params=params)
        assert page.status_code == 200, page.text
        return ["/v1/orders/" + order["order_id"] for order in page.json()["items"]]

    assert await listed(ada) == await listed(ada, customer_id=ada.sub) == [hers]
    assert await listed(ada, customer_id=bob.sub) == []
    assert await listed(operator, customer_id=bob.sub) == [his]
    assert {hers, his} <= set(await listed(operator))
    for params in ({"status": "draft"}, {"sort": "total"}, {"total_from": 0}):
        assert await listed(ada, **params) == [hers]


async def test_feed_shows_a_customer_only_events_of_its_own_orders(
    api: Guarded, theirs: str
) -> None:
    ada, operator = api.customer(), api.operator()
    hers = (await ada.open_order()).rpartition("/")[2]

    async def subjects(caller: Caller) -> set[str]:
        seen, after = set[str](), ""
        while True:
            params = {"cursor": after} if after else None
            page = (await caller.send("GET", "/v1/events", params=params)).json()
            seen |= {event["subject"] for event in page["items"]}
            if page["next"] == after:
                return seen
            after = page["next"]

    assert await subjects(ada) == {hers}
    assert {hers, theirs} <= await subjects(operator)
    for caller, order_id, status in ((ada, theirs, 404), (ada, hers, 200), (operator, theirs, 200)):
        for path in ("/v1/events", "/v1/events/digest"):
            response = await caller.send("GET", path, params={"order_id": order_id})
            assert response.status_code == status
            response = await caller.send("GET", path, params={"from": f"{order_id}@1"})
            assert response.status_code == status
    digest = (await ada.send("GET", "/v1/events/digest")).json()
    assert [one["order_id"] for one in digest["orders"]] == [hers]
    others = await ada.send("GET", "/v1/events/digest", params={"customer_id": "someone"})
    assert others.json()["count"] == 0
    streaming = api.issuer.headers(ada.sub, READ) | {"Accept": "text/event-stream"}
    async with api.http.stream("GET", "/v1/events", headers=streaming) as stream:
        lines = stream.aiter_lines()
        async for line in lines:
            if line.startswith("data:"):
                assert hers in line
                break


async def test_stream_ends_when_its_token_expires(
    api: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_streams, "HEARTBEAT_SECONDS", 0.2)
    expires_at = int(time.time()) + 600

    def headers(expires_at: int) -> dict[str, str]:
        token = api.issuer.token(exp=expires_at)
        return {"Authorization": f"Bearer {token}", "Accept": "text/event-stream"}

    async with asyncio.timeout(60):
        async with api.http.stream("GET", "/v1/events", headers=headers(expires_at)) as stream:
            assert stream.status_code == 200
            lines = stream.aiter_lines()
            while not (await anext(lines)).startswith("id:"):
                pass  # It lives while the token does.
            monkeypatch.setattr(api_routes, "time", lambda: expires_at + LEEWAY_SECONDS)
            async for _ in lines:
                pass
        expired = headers(int(time.time()) - LEEWAY_SECONDS - 1)
        problem(await api.http.get("/v1/events", headers=expired), 401, "unauthenticated")


async def test_consistency_token_of_another_customers_order_reveals_nothing(
    api: Guarded, theirs: str
) -> None:
    ada = api.customer()
    own = await ada.open_order()
    for path in ("/v1/orders", own, f"{own}/history", f"{own}/commands"):
        for order_id in (theirs, "ord_x"):
            params = {"consistency_token": f"{order_id}@9"}
            patience = {"Prefer": "wait=0"}
            response = await ada.send("GET", path, params=params, headers=patience)
            assert "current_version" not in problem(response, 404, "unknown-order")


async def test_idempotency_keys_of_different_callers_are_separate(api: Guarded) -> None:
    ada, bob = api.customer(), api.customer()
    key = {"Idempotency-Key": secrets.token_hex(8)}
    paths = []
    for caller in (ada, bob, api.operator(ada.sub)):
        body = {"customer_id": bob.sub if caller is bob else ada.sub, "currency": "USD"}
        opened = await caller.send("POST", "/v1/orders", json=body, headers=key)
        again = await caller.send("POST", "/v1/orders", json=body, headers=key)
        assert (opened.status_code, again.status_code) == (201, 201)
        assert "Idempotent-Replayed" not in opened.headers
        assert again.headers["Idempotent-Replayed"] == "true"
        paths.append(opened.headers["Location"])
    assert len(set(paths)) == 3


# Commands for customers


def body_of(tag: str) -> dict[str, Any]:
    if tag.endswith("address"):
        return {"address": ADDRESS}
    return next(c for c in NEWS if c.type == tag).model_dump(mode="json", exclude_none=True)


@pytest.mark.parametrize("tag", [type_of(command_type) for command_type in PUBLIC_COMMAND_TYPES])
async def test_customer_can_send_only_commands_for_customers(api: Guarded, tag: str) -> None:
    ada = api.customer()
    path = await ada.open_order()
    routes = [(f"{path}/commands/{tag}", body_of(tag))]
    routes += [(f"{path}/commands", {"commands": [{"type": tag, **body_of(tag)}]})]
    for route, body in routes:
        response = await ada.send("POST", route, json=body)
        operator = await api.operator().send("POST", route, json=body)
        assert operator.status_code in (200, 409), operator.text
        if COMMAND_ROLES[tag] is Role.CUSTOMER:
            assert response.status_code in (200, 409), response.text
        else:
            assert tag in problem(response, 403, "not-for-customers")["detail"]


async def test_one_command_for_operators_rejects_a_customers_whole_batch(api: Guarded) -> None:
    ada = api.customer()
    path = await ada.open_order()
    mixed = [{"type": "add-note", "text": "Hi."}, {"type": "add-item-to-order", **BAGELS}]
    response = await ada.send("POST", f"{path}/commands", json={"commands": mixed})
    problem(response, 403, "not-for-customers")
    amendment = body_of("amend-order")
    preview = await ada.send("POST", f"{path}/commands/amend-order/preview", json=amendment)
    problem(preview, 403, "not-for-customers")
    assert (await ada.send("GET", path)).json()["version"] == 1


async def test_customer_can_open_orders_only_for_itself_and_without_amounts(api: Guarded) -> None:
    ada = api.customer()
    own = {"customer_id": ada.sub, "currency": "USD"}
    for changes, named in (
        ({"customer_id": "900"}, "customer_id"),
        ({"lines": [BAGELS]}, "add-item-to-order"),
        ({"shipping_charge": 1}, "set-shipping-charge"),
    ):
        for path in ("/v1/orders", "/v1/orders/preview"):
            response = await ada.send("POST", path, json={**own, **changes})
            assert named in problem(response, 403, "not-for-customers")["detail"]
    assert (await ada.send("GET", "/v1/orders")).json()["items"] == []
    await ada.open_order(shipping_address=ADDRESS)
    await api.operator().open_order(ada, lines=BASKET["lines"], place=True)


async def test_what_spans_all_orders_is_for_operators(api: Guarded) -> None:
    stats = ("orders", "lead-times", "abandoned-drafts", "removed-items", "statuses")
    others = ("/v1/inbox", "/v1/projections", "/v1/links", "/v1/services", "/v1/callbacks")
    for path in (*(f"/v1/stats/{what}" for what in stats), *others):
        problem(await api.customer().send("GET", path), 403, "insufficient-scope")
        assert (await api.operator().send("GET", path)).status_code == 200


async def test_csv_has_only_the_customers_own_orders(api: Guarded) -> None:
    ada, eve = api.customer(), api.customer()
    path = await ada.open_order()
    await eve.open_order()
    own = (await ada.send("GET", "/v1/orders.csv")).text.splitlines()
    assert [line.partition(",")[0] for line in own] == ["order_id", path.rpartition("/")[2]]
    others = await ada.send("GET", "/v1/orders.csv", params={"customer_id": eve.sub})
    assert len(others.text.splitlines()) == 1


async def test_customer_cannot_erase_personal_data(api: Guarded) -> None:
    ada = api.customer()
    path = f"/v1/customers/{ada.sub}/personal-data"
    problem(await ada.send("DELETE", path), 403, "insufficient-scope")
    assert (await api.operator().send("DELETE", path)).status_code == 200


async def test_customer_sees_only_the_commands_that_it_may_send(api: Guarded) -> None:
    ada, operator = api.customer(), api.operator()
    path = await ada.open_order()

    async def allowed_commands(caller: Caller) -> list[list[str]]:
        order = (await caller.send("GET", path)).json()
        page = (await caller.send("GET", "/v1/orders", params={"customer_id": ada.sub})).json()
        now = (await caller.send("GET", f"{path}/commands")).json()["commands"]
        rejected = await caller.send("POST", f"{path}/commands/place-order")
        return [
            order["allowed_commands"],
            page["items"][0]["allowed_commands"],
            [command["type"] for command in now],
            problem(rejected, 409, "no-lines")["allowed_commands"],
        ]

    everything, hers = await allowed_commands(operator), await allowed_commands(ada)
    assert "add-item-to-order" in everything[0]
    for all_, own in zip(everything, hers, strict=True):
        assert own == [command for command in all_ if COMMAND_ROLES[command] is Role.CUSTOMER]
        assert own and own != all_
    whole = (await operator.send("GET", path)).json()
    assert (await ada.send("GET", path)).json() == {**whole, "allowed_commands": hers[0]}


async def test_token_whose_subject_is_no_customer_id_is_rejected(api: Guarded) -> None:
    for sub in ("", "a b", "a/b", "x" * 256):
        response = await Caller(api, sub, READ).send("GET", "/v1/orders")
        assert "sub" in problem(response, 401, "unauthenticated")["detail"]
    robot = await api.operator("robot@clients").send("GET", "/v1/orders")
    assert robot.status_code == 200


# With a server unavailable


async def test_without_postgres_a_customer_continues_and_learns_nothing_of_others(
    orderly: Running, api: Guarded, theirs: str
) -> None:
    ada = api.customer()
    path = await ada.open_order()
    settings = Settings(postgres_dsn=NOWHERE, task_queue=orderly.task_queue, **api.issuer.settings)
    async with run_api(orderly.client, settings) as http:
        api = Guarded(http, api.issuer, settings)
        mallory, ada = api.customer(), Caller(api, ada.sub, ada.scope)
        accepted = await ada.send("POST", f"{path}/commands/add-note", json={"text": "Still here."})
        assert accepted.status_code == 200, accepted.text
        for order_id in (theirs, "ord_x"):
            response = await mallory.send("GET", f"/v1/orders/{order_id}")
            problem(response, 503, "storage-unavailable")


async def test_without_temporal_a_customer_reads_and_learns_nothing_of_others(
    api: Guarded, theirs: str
) -> None:
    ada = api.customer()
    path = await ada.open_order()
    unreachable = await Client.connect("127.0.0.1:1", lazy=True)
    async with run_api(unreachable, api.settings) as http:
        api = Guarded(http, api.issuer, api.settings)
        assert (await Caller(api, ada.sub, ada.scope).send("GET", path)).status_code == 200
        for order_id in (theirs, "ord_x"):
            response = await api.customer().send("GET", f"/v1/orders/{order_id}")
            problem(response, 503, "temporal-unavailable")


async def test_without_signing_keys_the_response_is_503_and_not_401(orderly: Running) -> None:
    async with issuing(ec_key()) as issuer:
        issuer.status = 500
        settings = Settings(
            postgres_dsn=orderly.dsn, task_queue=orderly.task_queue, **issuer.settings
        )
        async with run_api(orderly.client, settings) as http:
            response = await http.get("/v1/orders", headers=issuer.headers("ada"))
            problem(response, 503, "signing-keys-unavailable")
            assert int(response.headers["Retry-After"]) > 0


async def test_customer_sees_of_the_journal_only_what_it_sent(api: Guarded) -> None:
    ada, olga = api.customer(), api.operator()
    path = await ada.open_order()
    body = {"note_id": "n", "text": "hello"}
    assert (await olga.send("POST", f"{path}/commands/add-note", json=body)).status_code == 200
    rejected = await olga.send("POST", f"{path}/commands/approve-return", json={"return_id": "x"})
    assert rejected.status_code == 409

    async def actors(caller: Caller) -> list[str]:
        params = {"include": "intents", "min_version": 2}
        history = await caller.send("GET", f"{path}/history", params=params)
        return [entry["actor"] for entry in history.json()["intents"]]

    async with asyncio.timeout(30):
        while len(await actors(olga)) < 3:
            await asyncio.sleep(0.05)
    operator, customer = f"operator:{olga.sub}", f"customer:{ada.sub}"
    assert await actors(olga) == [customer, operator, operator]
    assert await actors(ada) == [customer]


async def test_operator_reads_the_rejection_of_an_opening(api: Guarded) -> None:
    ada, olga = api.customer(), api.operator()
    key = secrets.token_hex(8)
    body = {"customer_id": ada.sub, "currency": "USD", "lines": [{**BAGELS, "discount": 1000}]}
    rejected = await olga.send("POST", "/v1/orders", json=body, headers={"Idempotency-Key": key})
    assert problem(rejected, 409, "discount-exceeds-price")
    path = f"/v1/orders/ord_{short_hash(f'operator:{olga.sub}', key)}/history"

    async with asyncio.timeout(30):
        while (await olga.send("GET", f"{path}?include=intents")).status_code == 404:
            await asyncio.sleep(0.05)
    history = (await olga.send("GET", f"{path}?include=intents")).json()
    assert (history["items"], history["next"]) == ([], None)
    (entry,) = history["intents"]
    assert (entry["version"], entry["actor"]) == (0, f"operator:{olga.sub}")
    assert entry["rejection"]["code"] == "discount-exceeds-price"
    assert entry["messages"][0]["type"] == "open-order"
    for caller, query in ((ada, "?include=intents"), (olga, ""), (olga, "?cursor=1")):
        problem(await caller.send("GET", f"{path}{query}"), 404, "unknown-order")
