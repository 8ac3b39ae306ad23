"""Events in words, wherever the API has them, and why an order is where it is."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from eventlog import log
from readside.order_view.sentences import sentences
from tests.support.api_requests import opened, problem, shown
from tests.support.event_feed import read_on, streaming
from tests.support.servers import Running
from tests.support.shop import MILK, TIMEOUT_S, Shop

BERLIN = {"Prefer": "timezone=Europe/Berlin"}


async def a_changed_draft(http: httpx.AsyncClient) -> str:
    """The path of a draft of which a line was removed, long after it was added."""
    path = await opened(http, customer_id="words")
    (bagels, *_) = (await shown(http, path, 3))["lines"]
    for number in range(3):
        await http.post(f"{path}/commands/add-note", json={"text": f"note {number}"})
    removed = {"line_id": bagels["line_id"]}
    response = await http.post(f"{path}/commands/remove-item-from-order", json=removed)
    assert response.json()["version"] == 7
    await shown(http, path, 7)
    return path


async def test_history_says_each_event_the_same_on_each_page(
    http: httpx.AsyncClient, orderly: Running
) -> None:
    path = await a_changed_draft(http)
    whole = (await http.get(f"{path}/history")).json()["items"]
    said = [item["sentence"] for item in whole]
    assert said == sentences(await log.read_stream(orderly.pool, path.rpartition("/")[2]))
    assert said[1] == "2 × ROLLS: BAGELS were added, 0.50 USD each."
    assert said[-1] == "ROLLS: BAGELS was removed."
    for cursor in range(7):
        query = {"cursor": cursor, "limit": 2}
        page = (await http.get(f"{path}/history", params=query)).json()["items"]
        assert [item["sentence"] for item in page] == said[cursor : cursor + 2]


async def test_feed_and_stream_say_events_where_that_is_asked_for(
    http: httpx.AsyncClient,
) -> None:
    path = await a_changed_draft(http)
    order_id = path.rpartition("/")[2]
    history = (await http.get(f"{path}/history")).json()["items"]
    said = [item["sentence"] for item in history]
    plain, _ = await read_on(http, order_id=order_id)
    assert not any("sentence" in item for item in plain)
    told, _ = await read_on(http, order_id=order_id, include="sentences")
    assert [item["sentence"] for item in told] == said
    only = {"order_id": order_id, "type": "item-removed", "include": "sentences"}
    (removed,), _ = await read_on(http, **only)
    assert removed["sentence"] == said[-1], "although its title is not on this page"
    async with streaming(http, order_id=order_id, include="sentences") as events:
        streamed = [(await events.next())["sentence"] for _ in said]
    assert streamed == said


async def test_times_are_in_the_zone_that_the_reader_prefers(http: httpx.AsyncClient) -> None:
    path = await opened(http, customer_id="words")
    await shown(http, path, 1)

    async def said(read: str, **headers: str) -> str:
        body: dict[str, Any] = (await http.get(f"{path}{read}", headers=headers)).json()
        return str(body["items"][0]["sentence"] if "items" in body else body["answer"][-1])

    for read in ("/history", "/waiting"):
        utc = await said(read)
        assert " UTC" in utc
        assert " CE" in await said(read, **BERLIN)
        for unknown in (
            "timezone=Atlantis/Nowhere",
            "timezone=../../etc/passwd",
            "timezone=Europe",
        ):
            assert await said(read, Prefer=unknown) == utc


async def test_preview_says_what_would_happen(http: httpx.AsyncClient) -> None:
    path = await a_changed_draft(http)
    (tuna,) = (await shown(http, path, 7))["lines"]
    change = {"line_id": tuna["line_id"], "quantity": 5}
    command = f"{path}/commands/change-item-quantity"
    preview = (await http.post(f"{command}/preview", json=change)).json()
    assert [event["sentence"] for event in preview["events"]] == [
        "The quantity of TUNA was changed to 5."
    ]
    await http.post(command, json=change)
    await shown(http, path, 8)
    history = (await http.get(f"{path}/history", params={"cursor": 7})).json()
    assert history["items"][0]["sentence"] == preview["events"][0]["sentence"]


@pytest.mark.parametrize("held", [False, True])
async def test_order_says_what_it_waits_for(shop: Shop, held: bool) -> None:
    order = await shop.place_order(MILK)
    await order.wait_until_settled(status="confirmed")
    if held:
        await order.execute("hold-order", reason="odd address")
    version = (await order.document())["version"]
    response = await shop.http.get(f"{order.path}/waiting", params={"min_version": version})
    waiting = response.json()
    assert (waiting["version"], response.headers["ETag"]) == (version, f'"{version}"')
    assert waiting["question"] == "Why has it not shipped?"
    assert waiting["urgency"] == ("decision" if held else "progress")
    assert ("odd address" in waiting["answer"][0]) == held
    assert any("release-order" in one for one in waiting["waits_for"]) == held
    problem(await shop.http.get("/v1/orders/ord_none/waiting"), 404, "unknown-order")
    if held:
        await order.execute("release-order")


async def test_stuck_step_says_how_often_it_was_tried_and_when_it_is_next(shop: Shop) -> None:
    address = {"name": "Ada", "line1": "1 Road", "city": "London", "country": "GB"}
    order = await shop.place_order(MILK, shipping_address={**address, "postal_code": "00000"})
    await order.wait_for(needs_attention=1)

    async def waiting() -> dict[str, Any]:
        body: dict[str, Any] = (await shop.http.get(f"{order.path}/waiting")).json()
        return body

    found = await waiting()
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            (step,) = found["steps"]
            # Five, before it was stuck; while the sixth runs, none of its series has failed.
            if (step["attempts"] or 0) >= 6 and step["last_error"]:
                break
            await asyncio.sleep(0.2)
            found = await waiting()
    assert (step["type"], step["service"]) == ("book", "shipping")
    assert step["reason"] and step["since"] and step["stuck_since"]
    assert "503" in step["last_error"]
    assert "It was tried " in " ".join(found["answer"])
    await order.recover("shipping")
    await order.wait_until_settled(status="confirmed", needs_attention=0)
    assert (await waiting())["steps"] == []


async def test_transactions_are_those_of_the_payment_service(shop: Shop) -> None:
    order = await shop.place_order(MILK)
    await order.ship()
    await order.deliver()
    await order.execute("refund-payment", amount=120, reason="a scratch")
    await order.first_event("payment-refunded")
    await order.wait_until_settled()
    found = (await shop.http.get(f"{order.path}/transactions")).json()
    (authorised, captured, refunded) = items = found["items"]
    assert [item["type"] for item in items] == [
        *("payment-authorised", "payment-captured", "payment-refunded")
    ]
    ledger, payment = await order.payment_ledger(), (await order.document())["payment"]
    assert captured["amount"] == ledger["captured"] == payment["captured"]
    assert refunded["amount"] == ledger["refunded"] == payment["refunded"] == 120
    (authorisation,) = payment["authorisations"]
    assert {item["reference"] for item in items} == {authorisation["reference"]}
    assert refunded["idempotency_key"] == f"{order.order_id}:{refunded['step_id']}"
    assert refunded["sentence"] == "1.20 USD were refunded."
    said = {event["version"]: event["sentence"] for event in await order.history()}
    assert all(item["sentence"] == said[item["version"]] for item in items)
    assert authorised["amount"] == payment["authorised"]
    problem(await shop.http.get("/v1/orders/ord_none/transactions"), 404, "unknown-order")
