"""The external services as operators see them, and the record of their callbacks."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from unittest.mock import AsyncMock

import asyncpg
import pytest

from api.callbacks import recorder
from api.callbacks.recorder import CallbackRecorder
from api.gateway.gateway import Gateway
from api.problems.errors import TemporalUnavailable
from background import WAITING_MAX
from eventlog import callback_log
from eventlog.callback_log import Callback, CallbackFilter
from orders.upcasting import UnreadableEvent
from readside.engine.projection import ProjectionError
from settings import Settings
from tests.support.api_requests import problem
from tests.support.callback_events import event, recorded, send_callback
from tests.support.servers import Running, run_api
from tests.support.shop import MILK, Shop

# The simulated carrier fails for this postal code.
STUCK = {"name": "Ada", "line1": "1 Way", "postal_code": "00000", "city": "London", "country": "GB"}
MANY_LINES = 'a\n<b>"\u202e'


async def test_callbacks_are_recorded_with_what_became_of_each(orderly: Running) -> None:
    order_id = f"ord_{secrets.token_hex(6)}"
    named = {"order_id": order_id, "step_id": "c1"}
    bodies = {
        "capture.done": event("capture.done", named),
        "refund.done": event("refund.done", {"order_id": order_id}),
        "payout.sent": event("payout.sent", {"order_id": order_id, "secret": "Ada"}),
    }
    for type_, body in bodies.items():
        await send_callback(orderly, "payments", body, f"msg_{type_}")
    shown = {
        one["type"]: (one["outcome"], one["code"], one["message_id"])
        for one in await recorded(orderly.http, 3, order_id=order_id)
    }
    assert shown == {
        "capture.done": ("refused", "unknown-order", "msg_capture.done"),
        "refund.done": ("refused", "malformed-request", "msg_refund.done"),
        "payout.sent": ("ignored", None, "msg_payout.sent"),
    }
    refused = await recorded(orderly.http, 2, order_id=order_id, outcome="refused")
    assert {one["service"] for one in refused} == {"payments"}
    none = await orderly.http.get(
        "/v1/callbacks", params={"order_id": order_id, "service": "stock"}
    )
    assert none.json() == {"items": [], "next": None}


def unprojectable() -> ProjectionError:
    error = ProjectionError("ord_x", 3, "order-teleported is not a known event")
    error.__cause__ = UnreadableEvent("order-teleported is not a known event")
    return error


@pytest.mark.parametrize(
    "error",
    [
        UnreadableEvent("order-teleported is not a known event"),
        unprojectable(),
        ConnectionRefusedError("refused"),
        asyncpg.UndefinedTableError("no such table"),
        TemporalUnavailable(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_recorded_code_is_that_of_the_response(
    orderly: Running, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(Gateway, "execute", AsyncMock(side_effect=error))
    order_id = f"ord_{secrets.token_hex(6)}"
    body = event("capture.done", {"order_id": order_id, "step_id": "c1"})
    response = await send_callback(orderly, "payments", body)
    assert response.status_code == 503
    (one,) = await recorded(orderly.http, 1, order_id=order_id)
    assert (one["outcome"], one["code"]) == ("refused", response.json()["code"])


async def test_accepted_callbacks_are_found_by_their_order(orderly: Running, shop: Shop) -> None:
    order = await shop.place_order(MILK)
    await order.ship()
    found = await recorded(orderly.http, 1, order_id=order.order_id)
    assert {(one["type"], one["outcome"]) for one in found} == {("shipment.dispatched", "accepted")}


async def test_pages_of_callbacks_follow_each_other(orderly: Running) -> None:
    order_id = f"ord_{secrets.token_hex(6)}"
    for number in range(3):
        body = event("payout.sent", {"order_id": order_id})
        await send_callback(orderly, "payments", body, f"msg_{number}")
    await recorded(orderly.http, 3, order_id=order_id)
    seen, query = [], {"order_id": order_id, "limit": "2"}
    for _ in range(2):
        page = (await orderly.http.get("/v1/callbacks", params=query)).json()
        seen += [one["message_id"] for one in page["items"]]
        query["cursor"] = page["next"] or ""
    assert sorted(seen) == ["msg_0", "msg_1", "msg_2"] and query["cursor"] == ""
    bad = await orderly.http.get("/v1/callbacks", params={"cursor": "x"})
    problem(bad, 400, "invalid-cursor")


async def test_callback_without_a_signature_is_recorded_without_its_words(
    orderly: Running, dsn: str
) -> None:
    body = event("capture.done", {"order_id": "ord_forged", "step_id": "c"})
    settings = Settings(postgres_dsn=dsn, webhook_secret=orderly.webhook_secret)
    async with run_api(orderly.client, settings) as http:
        await send_callback(replace(orderly, http=http), "stock", body, signature="v1,AAAA")
        [unsigned] = await recorded(http, 1)
    assert (unsigned["code"], unsigned["outcome"]) == ("invalid-signature", "refused")
    assert (unsigned["type"], unsigned["order_id"], unsigned["message_id"]) == (None, None, None)


async def test_texts_of_senders_are_short_and_on_one_line(orderly: Running) -> None:
    order_id = f"ord_{secrets.token_hex(6)}"
    body = event(MANY_LINES + "x" * 500, {"order_id": order_id})
    await send_callback(orderly, "payments", body)
    (one,) = await recorded(orderly.http, 1, order_id=order_id)
    assert one["type"].startswith('a\ufffd<b>"\ufffdxxx') and len(one["type"]) == 100


RECEIVED = Callback(datetime.now(UTC), "payments", "m", "capture.done", "ord_x", "accepted", None)


async def test_flood_of_unsigned_callbacks_is_one_entry(pool: asyncpg.Pool) -> None:
    now = 0.0
    record = CallbackRecorder(pool, lambda: now)
    async with record.running():
        for _ in range(1_000):
            record.add(replace(RECEIVED, message_id=None, outcome="refused"))
        now = recorder.UNVERIFIED_SECONDS + 1
        record.add(replace(RECEIVED, message_id=None, outcome="refused"))
        record.add(RECEIVED)
    found = await callback_log.find_page(pool, CallbackFilter(), None, 100)
    assert [one.message_id for one in found] == ["m", None, None]


async def test_callbacks_that_cannot_be_kept_are_left_out(
    pool: asyncpg.Pool, caplog: pytest.LogCaptureFixture
) -> None:
    record = CallbackRecorder(pool)
    for _ in range(WAITING_MAX + 1):
        record.add(RECEIVED)
    assert "is not recorded: too many wait" in caplog.text
    await pool.execute("ALTER TABLE callbacks RENAME TO gone")
    async with record.running():
        pass
    assert "callbacks are not recorded: UndefinedTableError" in caplog.text


async def test_old_callbacks_and_those_above_the_bound_are_deleted(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = RECEIVED.received_at - callback_log.KEPT_FOR - timedelta(minutes=1)
    kept = [replace(RECEIVED, message_id=f"m{number}") for number in range(5)]
    await callback_log.append(pool, [replace(RECEIVED, received_at=old), *kept])
    await callback_log.purge(pool)
    assert len(await callback_log.find_page(pool, CallbackFilter(), None, 100)) == 5
    monkeypatch.setattr(callback_log, "KEPT_MAX", 2)
    await callback_log.purge(pool)
    left = await callback_log.find_page(pool, CallbackFilter(), None, 100)
    assert [one.message_id for one in left] == ["m4", "m3"]


async def test_services_show_what_waits_and_what_failed(orderly: Running, shop: Shop) -> None:
    order = await shop.place_order(MILK, shipping_address=STUCK)
    await order.wait_for(needs_attention=1)
    stuck = await order.first_event("step-stuck")
    async with asyncio.timeout(60):
        while True:
            items = (await orderly.http.get("/v1/services")).json()["items"]
            shipping = {one["name"]: one for one in items}["shipping"]
            failed = [f for f in shipping["last_failures"] if f["order_id"] == order.order_id]
            if failed and shipping["stuck_orders"]:
                break
            await asyncio.sleep(0.1)
    assert [one["name"] for one in items] == ["payments", "stock", "shipping"]
    assert failed[0]["step_id"] == stuck["step_id"]
    assert failed[0]["reason"] == stuck["reason"]
    assert sum(day["stuck"] for day in shipping["days"]) >= 1
    assert sum(day["done"] for day in items[0]["days"]) >= 1
    await order.recover("shipping")
    await order.execute("retry-step")
    await order.wait_until_settled(needs_attention=[])
