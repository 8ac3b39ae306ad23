"""The worker is killed at every kind of step; nothing is lost and nothing happens twice."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import Client

from dev.stack import StackOptions
from dev.stack.stack import Stack
from tests.support.api_requests import PatientClient
from tests.support.servers import run_replayed_stack
from tests.support.shop import BREAD, MILK, PlacedOrder, Shop, piece, scarce
from workflows.activity_options import PUBLISH_EVENTS

SERVICE = {
    **dict.fromkeys(("authorise", "capture", "void", "refund"), "payments"),
    **dict.fromkeys(("reserve", "release", "withdraw", "restock"), "stock"),
    **dict.fromkeys(("book", "stop"), "shipping"),
}
# Below the five seconds after which servers close idle connections, maybe during a request.
LIMITS = httpx.Limits(keepalive_expiry=2)
ADDRESS = {"name": "Ada Lovelace", "line1": "St James's Sq 12", "postal_code": "SW1Y 4JH"}
ADDRESS |= {"city": "London", "country": "GB"}
ORDERS_PER_KILL = 4


class Case(NamedTuple):
    """A command that causes these steps at once, and the order after they are done."""

    steps: list[str]
    given: Callable[[Shop], Awaitable[PlacedOrder]]
    when: tuple[str, dict[str, Any]]
    then: dict[str, Any]


CaseOrder = tuple[Case, PlacedOrder]


async def draft(shop: Shop) -> PlacedOrder:
    return await shop.place_order(MILK, BREAD, place=False)


async def declined(shop: Shop) -> PlacedOrder:
    order = await shop.place_order(MILK, payment_method="pm_declined")
    await order.wait_until_settled(awaits="payment")
    return order


async def confirmed(shop: Shop) -> PlacedOrder:
    order = await shop.place_order(MILK, BREAD)
    await order.wait_until_settled(status="confirmed")
    return order


async def held_after_authorisation(shop: Shop) -> PlacedOrder:
    """The payment is authorised, but no shipment is planned yet."""
    order = await shop.place_order(MILK, payment_method="pm_down")
    await order.wait_for(status="placed", needs_attention=1, lines={0: {"reserved": 3}})
    await order.execute("hold-order")
    await order.recover("payments")
    await order.execute("retry-step")
    await order.wait_until_settled(payment={"status": "authorised"})
    return order


async def short_of_stock(shop: Shop) -> PlacedOrder:
    order = await shop.place_order(scarce(2, quantity=3))
    await order.wait_until_settled(awaits="shortfall")
    return order


async def ready_to_dispatch(shop: Shop) -> PlacedOrder:
    order = await shop.place_order(MILK)
    await order.wait_until_settled(status="confirmed")
    await order.execute("create-shipment", shipment_id="mine", lines=[piece("milk", 1)])
    await order.wait_until_settled()
    return order


async def return_approved(shop: Shop) -> PlacedOrder:
    order = await shop.place_order(MILK)
    await order.ship()
    await order.deliver()
    await order.execute("request-return", return_id="back", lines=[piece("milk", 2)])
    await order.execute("approve-return", return_id="back")
    return order


CANCEL: tuple[str, dict[str, Any]] = ("cancel-order", {})
CANCELLED = {"status": "cancelled"}
CASES = [
    Case(["reserve"], draft, ("place-order", {}), {"status": "confirmed"}),
    Case(["authorise"], declined, ("retry-payment", {"method": "pm_card"}), {"awaits": None}),
    Case(
        ["book", "book"],
        confirmed,
        ("set-shipping-address", {"address": ADDRESS}),
        {"status": "confirmed"},
    ),
    Case(["stop", "stop"], confirmed, CANCEL, CANCELLED),
    Case(["void"], held_after_authorisation, CANCEL, CANCELLED),
    Case(["release"], short_of_stock, CANCEL, CANCELLED),
    Case(
        ["capture", "withdraw"],
        ready_to_dispatch,
        ("dispatch-shipment", {"shipment_id": "mine"}),
        {"fulfilment_status": "partly_shipped"},
    ),
    Case(
        ["refund", "restock"],
        return_approved,
        (
            "receive-return",
            {"return_id": "back", "lines": [piece("milk", 2)], "condition": "sellable"},
        ),
        {"return_status": "partly_returned", "payment": {"status": "partly_refunded"}},
    ),
]


async def test_ledgers_agree_when_the_worker_is_killed_at_every_step(
    tmp_path: Path,
) -> None:
    assert {step for case in CASES for step in case.steps} == set(SERVICE)
    options = StackOptions(tmp_path / "data", api_port=0, temporal_port=0, ui_port=0)
    async with (
        run_replayed_stack(options) as stack,
        PatientClient(base_url=stack.api_url, timeout=60, limits=LIMITS) as http,
        httpx.AsyncClient(base_url=stack.simulators_url, timeout=60, limits=LIMITS) as simulators,
    ):
        shop = Shop(http, simulators)
        client = await Client.connect(stack.temporal_address)
        cases = CASES * 2
        orders = await asyncio.gather(*(case.given(shop) for case in cases))
        case_orders = list(zip(cases, orders, strict=True))

        await kill_while_steps_are_scheduled(case_orders[: len(CASES)], stack)
        keys = await kill_while_steps_are_requested(case_orders[len(CASES) :], stack, client)

        for case, order in case_orders:
            await order.wait_until_settled(**case.then)
            await order.assert_ledgers_agree()
        assert min(attempts(options.data_dir / "simulators.db", keys)) >= 2


async def kill_while_steps_are_scheduled(case_orders: list[CaseOrder], stack: Stack) -> None:
    """One kill for several orders: the commit that accepts a command also schedules its steps."""
    for first in range(0, len(case_orders), ORDERS_PER_KILL):
        some = case_orders[first : first + ORDERS_PER_KILL]
        await asyncio.gather(*(send_command(case, order) for case, order in some))
        kill_worker(stack)


async def kill_while_steps_are_requested(
    case_orders: list[CaseOrder], stack: Stack, client: Client
) -> list[tuple[str, str]]:
    """Requests steps of frozen services, so that their responses come after the kill.

    Returns the requests by service and key.
    """
    with frozen(stack.pids["simulators"]):
        await asyncio.gather(*(send_command(case, order) for case, order in case_orders))
        await asyncio.gather(
            *(wait_until_requested(case, order, client) for case, order in case_orders)
        )
        keys = [
            (SERVICE[step["type"]], f"{order.order_id}:{step['step_id']}")
            for _, order in case_orders
            for step in (await order.document())["pending"]
        ]
        kill_worker(stack)
    assert len(keys) == sum(len(case.steps) for case, _ in case_orders)
    return keys


async def send_command(case: Case, order: PlacedOrder) -> None:
    command, fields = case.when
    await order.execute(command, **fields)


async def wait_until_requested(case: Case, order: PlacedOrder, client: Client) -> None:
    """Waits until the worker retries all steps of the case, so each was requested before."""
    handle = client.get_workflow_handle(order.order_id)
    started: list[str] = []
    async with asyncio.timeout(90):
        while len(started) < len(case.steps):
            await asyncio.sleep(0.1)
            described = (await handle.describe()).raw_description
            started = [
                activity.activity_type.name
                for activity in described.pending_activities
                if activity.attempt > 1
                and activity.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
                and activity.activity_type.name != PUBLISH_EVENTS
            ]


def kill_worker(stack: Stack) -> None:
    os.kill(stack.pids["worker"], signal.SIGKILL)


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stops a process: the kernel accepts its connections, but it does not respond."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def attempts(database: Path, keys: list[tuple[str, str]]) -> list[int]:
    """How many attempts the simulators counted for each key."""
    query = "SELECT attempts FROM attempts WHERE party = ? AND key = ?"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        return [db.execute(query, key).fetchone()[0] for key in keys]
