"""The worker is killed for real at every step that an order owes; nothing is lost or done twice."""

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

from dev.stack import StackOptions, run_stack
from dev.stack.stack import Stack
from tests.support.shop import BREAD, MILK, PlacedOrder, Shop, piece, scarce
from workflows.activity_options import PUBLISH_EVENTS

PARTY = {
    **dict.fromkeys(("authorise", "capture", "void", "refund"), "payments"),
    **dict.fromkeys(("reserve", "release", "withdraw", "restock"), "stock"),
    **dict.fromkeys(("book", "stop"), "shipping"),
}
# Below the five seconds after which servers hang up, maybe just as a request is written.
LIMITS = httpx.Limits(keepalive_expiry=2)
# A worker that was killed is back within seconds.
ADDRESS = {"name": "Ada Lovelace", "line1": "St James's Sq 12", "postal_code": "SW1Y 4JH"}
ADDRESS |= {"city": "London", "country": "GB"}


class Moment(NamedTuple):
    """What makes an order owe these steps at once, and how the order ends when they are done."""

    steps: list[str]
    given: Callable[[Shop], Awaitable[PlacedOrder]]
    when: tuple[str, dict[str, Any]]
    then: dict[str, Any]


Life = tuple[Moment, PlacedOrder]


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


async def held_when_paid(shop: Shop) -> PlacedOrder:
    """The money is promised, but no shipment is planned yet."""
    order = await shop.place_order(MILK, payment_method="pm_down")
    await order.wait_for(status="placed", needs_attention=1, lines={0: {"reserved": 3}})
    await order.execute("hold-order")
    await order.recover("payments")
    await order.execute("retry-step")
    await order.wait_until_settled(payment={"status": "authorised"})
    return order


async def short(shop: Shop) -> PlacedOrder:
    order = await shop.place_order(scarce(2, quantity=3))
    await order.wait_until_settled(awaits="shortfall")
    return order


async def about_to_leave(shop: Shop) -> PlacedOrder:
    order = await shop.place_order(MILK)
    await order.wait_until_settled(status="confirmed")
    await order.execute("create-shipment", shipment_id="mine", lines=[piece("milk", 1)])
    await order.wait_until_settled()
    return order


async def coming_back(shop: Shop) -> PlacedOrder:
    order = await shop.place_order(MILK)
    await order.ship()
    await order.deliver()
    await order.execute("request-return", return_id="back", lines=[piece("milk", 2)])
    await order.execute("approve-return", return_id="back")
    return order


CANCEL: tuple[str, dict[str, Any]] = ("cancel-order", {})
CANCELLED = {"status": "cancelled"}
MOMENTS = [
    Moment(["reserve"], draft, ("place-order", {}), {"status": "confirmed"}),
    Moment(["authorise"], declined, ("retry-payment", {"method": "pm_card"}), {"awaits": None}),
    Moment(
        ["book", "book"],
        confirmed,
        ("set-shipping-address", {"address": ADDRESS}),
        {"status": "confirmed"},
    ),
    Moment(["stop", "stop"], confirmed, CANCEL, CANCELLED),
    Moment(["void"], held_when_paid, CANCEL, CANCELLED),
    Moment(["release"], short, CANCEL, CANCELLED),
    Moment(
        ["capture", "withdraw"],
        about_to_leave,
        ("dispatch-shipment", {"shipment_id": "mine"}),
        {"fulfilment_status": "partly_shipped"},
    ),
    Moment(
        ["refund", "restock"],
        coming_back,
        (
            "receive-return",
            {"return_id": "back", "lines": [piece("milk", 2)], "condition": "sellable"},
        ),
        {"return_status": "partly_returned", "payment": {"status": "partly_refunded"}},
    ),
]


async def test_the_worker_is_killed_at_every_step_and_everybodys_books_agree(
    tmp_path: Path,
) -> None:
    assert {step for moment in MOMENTS for step in moment.steps} == set(PARTY)
    options = StackOptions(tmp_path / "data", api_port=0, temporal_port=0, ui_port=0)
    async with (
        run_stack(options) as stack,
        httpx.AsyncClient(base_url=stack.api_url, timeout=60, limits=LIMITS) as http,
        httpx.AsyncClient(base_url=stack.simulators_url, timeout=60, limits=LIMITS) as simulators,
    ):
        shop = Shop(http, simulators)
        client = await Client.connect(stack.temporal_address)
        moments = MOMENTS * 2
        orders = await asyncio.gather(*(moment.given(shop) for moment in moments))
        lives = list(zip(moments, orders, strict=True))

        await killed_when_steps_are_owed(lives[: len(MOMENTS)], stack)
        keys = await killed_when_all_was_asked_and_nothing_reported(
            lives[len(MOMENTS) :], stack, client
        )

        for moment, order in lives:
            await order.wait_until_settled(**moment.then)
            await order.assert_ledgers_agree()
        assert min(attempts(options.data_dir / "simulators.db", keys)) >= 2


async def killed_when_steps_are_owed(lives: list[Life], stack: Stack) -> None:
    """Two orders at a time: the commit that accepts a command has also scheduled its steps."""
    for one, other in zip(lives[::2], lives[1::2], strict=True):
        await asyncio.gather(begin(*one), begin(*other))
        kill_worker(stack)


async def killed_when_all_was_asked_and_nothing_reported(
    lives: list[Life], stack: Stack, client: Client
) -> list[tuple[str, str]]:
    """Every service is asked while it is frozen: its answers come too late.

    Returns all that was asked, by party and key.
    """
    with frozen(stack.pids["simulators"]):
        await asyncio.gather(*(begin(moment, order) for moment, order in lives))
        await asyncio.gather(*(begun(moment, order, client) for moment, order in lives))
        keys = [
            (PARTY[step["type"]], f"{order.order_id}:{step['step_id']}")
            for _, order in lives
            for step in (await order.document())["pending"]
        ]
        kill_worker(stack)
    assert len(keys) == sum(len(moment.steps) for moment, _ in lives)
    return keys


async def begin(moment: Moment, order: PlacedOrder) -> None:
    command, fields = moment.when
    await order.execute(command, **fields)


async def begun(moment: Moment, order: PlacedOrder, client: Client) -> None:
    """Waits until the worker asks for all steps of the moment again: so it has asked once."""
    handle = client.get_workflow_handle(order.order_id)
    under_way: list[str] = []
    async with asyncio.timeout(30):
        while len(under_way) < len(moment.steps):
            described = (await handle.describe()).raw_description
            under_way = [
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
    """A process that takes connections, because the kernel does, and does nothing else."""
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
