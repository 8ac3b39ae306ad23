"""A finished order's workflow ends; a later command reopens it from the log."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest

from settings import Settings
from tests.support.callback_events import event, send_callback
from tests.support.orphans import forget
from tests.support.servers import Running, run_api
from tests.support.shop import BREAD, MILK, MILK_CENTS, SHIPPING, PlacedOrder, Shop
from tests.support.workflow_runs import ends

TOTAL = MILK_CENTS + SHIPPING


@pytest.fixture
async def brief(orderly: Running, shop: Shop) -> AsyncIterator[Shop]:
    """A shop whose drafts and return windows last one second."""
    settings = Settings(
        postgres_dsn=orderly.dsn,
        task_queue=orderly.task_queue,
        webhook_secret=orderly.webhook_secret,
        policy_draft_seconds=1,
        policy_return_window_seconds=1,
    )
    async with run_api(orderly.client, settings) as shop.http:
        yield shop


async def completed(orderly: Running, shop: Shop) -> PlacedOrder:
    """A delivered order whose return window has closed."""
    order = await shop.place_order(MILK)
    await order.ship()
    await order.deliver()
    assert await ends(orderly, order) == "completed"
    return order


async def test_workflow_ends_when_the_return_window_closes(brief: Shop, orderly: Running) -> None:
    order = await completed(orderly, brief)

    shown = await order.document()
    assert (shown["payment"]["status"], shown["deadline"]) == ("captured", None)
    assert shown["allowed_commands"] == ["add-note", "refund-payment"]
    too_late = await order.send("request-return", lines=[{"line_id": "milk", "quantity": 1}])
    assert too_late.status_code == 409
    await order.assert_ledgers_agree()


async def test_goodwill_reopens_an_order_whose_workflow_is_no_longer_retained(
    brief: Shop, orderly: Running
) -> None:
    order = await completed(orderly, brief)
    await forget(orderly.client, order.order_id)
    head, key = order.version, {"Idempotency-Key": secrets.token_hex(8)}

    refund = await order.send("refund-payment", headers=key, amount=500, reason="still sorry")

    assert refund.status_code == 200, refund.text
    assert [e["version"] for e in refund.json()["events"]] == [head + 1, head + 2]
    assert await ends(orderly, order) == "completed"
    assert await order.payment_ledger() == {"authorised": 0, "captured": TOTAL, "refunded": 500}
    assert [e["version"] for e in await order.history()] == list(range(1, head + 4))
    again = await order.send("refund-payment", headers=key, amount=500, reason="still sorry")
    assert (again.status_code, again.json()["version"]) == (200, head + 2)
    assert again.headers["Idempotent-Replayed"] == "true"
    await order.assert_ledgers_agree()


async def test_concurrent_refunds_reopen_an_order_once_and_do_not_exceed_the_limit(
    brief: Shop, orderly: Running
) -> None:
    order = await completed(orderly, brief)
    await forget(orderly.client, order.order_id)

    responses = await asyncio.gather(
        *(order.send("refund-payment", amount=TOTAL - 100) for _ in range(2))
    )

    assert sorted(response.status_code for response in responses) == [200, 409], responses
    assert await ends(orderly, order) == "completed"
    assert (await order.payment_ledger())["refunded"] == TOTAL - 100
    await order.assert_ledgers_agree()


async def test_failing_refund_keeps_a_reopened_order_open_until_it_succeeds(
    brief: Shop, orderly: Running
) -> None:
    order = await brief.place_order(MILK, payment_method="pm_refund_down")
    await order.ship()
    await order.deliver()
    assert await ends(orderly, order) == "completed"

    await order.execute("refund-payment", amount=1)
    await order.wait_for(status="completed", needs_attention=1)
    await order.recover("payments")
    await order.execute("retry-step")

    assert await ends(orderly, order) == "completed"
    assert (await order.payment_ledger())["refunded"] == 1
    await order.assert_ledgers_agree()


async def test_cancelled_order_ends(shop: Shop, orderly: Running) -> None:
    order = await shop.place_order(MILK, BREAD)
    await order.wait_until_settled(status="confirmed")

    await order.execute("cancel-order")

    assert await ends(orderly, order) == "cancelled"
    await order.assert_ledgers_agree()


async def test_expired_draft_ends(brief: Shop, orderly: Running) -> None:
    order = await brief.place_order(MILK, place=False)

    assert await ends(orderly, order) == "expired"

    late = await order.send("place-order")
    assert (late.status_code, late.json()["code"]) == (409, "not-allowed-now")
    await order.assert_ledgers_agree()


async def test_callback_to_an_ended_order_is_accepted_and_changes_nothing(
    brief: Shop, orderly: Running
) -> None:
    order = await completed(orderly, brief)
    (captured,) = await order.event_data("payment-captured")
    (authorised,) = await order.event_data("payment-authorised")
    approved = {"authorisation_id": authorised["step_id"], "reference": authorised["reference"]}
    head = order.version

    for type_, data in (
        ("capture.done", {"step_id": captured["step_id"]}),
        ("authorisation.approved", approved),
    ):
        sent = event(type_, {"order_id": order.order_id, **data})
        response = await send_callback(orderly, "payments", sent)
        assert (response.status_code, response.json()) == (200, {"outcome": "accepted"})

    assert await ends(orderly, order) == "completed"
    assert order.version == head


async def test_callback_that_contradicts_an_ended_order_is_recorded_and_shown(
    brief: Shop, orderly: Running
) -> None:
    order = await completed(orderly, brief)
    head = order.version
    unknown = {"order_id": order.order_id, "step_id": "refund-1"}

    for _ in range(2):
        response = await send_callback(orderly, "payments", event("refund.done", unknown))
        assert response.status_code == 200, response.text

    assert await ends(orderly, order) == "completed"
    assert order.version == head + 1
    assert len((await order.document())["needs_attention"]) == 1
