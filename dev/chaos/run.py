"""One run: a stack, the load and the nemesis; then everything settles, and the checker judges."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from temporalio.client import Client

from dev.chaos.checker import Complaint, check, commands_of, unsettled
from dev.chaos.clocks import Clocks
from dev.chaos.history import Attempt, History, Json
from dev.chaos.nats_stream import NatsStream
from dev.chaos.nemesis import Nemesis, Proxies, Strike
from dev.chaos.relay import relaying
from dev.chaos.schedule import Step, schedule
from dev.chaos.small_disk import SmallDisk
from dev.chaos.webhooks import receiving_webhooks
from dev.chaos.workload import EVENTS, Load
from dev.child_process import communicate
from dev.history_replay import Replayed, replay_orders
from dev.stack import Stack, StackOptions, run_stack
from dev.stack.programs import orderly_process
from workflows.data_converter import DATA_CONVERTER

SHOPPERS = 20
SETTLE_S_MAX = 60.0
SENT_AGAIN = 60
POLL_S = 0.5
PAGE = "500"


@dataclass(frozen=True)
class Result:
    """What a run observed, and what the checker says to it."""

    history: History
    strikes: list[Strike]
    settled_s: float
    """From the last fault until everything had settled."""
    sent_again: int
    complaints: list[Complaint]


async def run_chaos(
    data_dir: Path,
    seed: int,
    seconds: float,
    *,
    is_long: bool = False,
    shoppers: int = SHOPPERS,
    clocks: Clocks | None = None,
    disk: SmallDisk | None = None,
) -> Result:
    """Starts a stack in `data_dir` and causes random faults in it for `seconds`.

    The disk, if there is one, is what `data_dir` is on.
    """
    steps = schedule(seed, is_long)
    return await run_faults(
        data_dir, seed, steps, seconds, shoppers=shoppers, clocks=clocks, disk=disk
    )


async def run_faults(
    data_dir: Path,
    seed: int,
    steps: Iterator[Step],
    seconds: float = math.inf,
    *,
    shoppers: int = SHOPPERS,
    replicas: int = 1,
    clocks: Clocks | None = None,
    disk: SmallDisk | None = None,
) -> Result:
    """Starts a stack in `data_dir`, and does these steps to it while the time is not over."""
    proxies, history = Proxies(), History()
    options = StackOptions(
        data_dir,
        api_port=0,
        temporal_port=0,
        ui_port=0,
        reroute=proxies.reroute,
        replicas=replicas,
        environments=clocks.environments() if clocks else {},
    )
    async with run_stack(options) as stack:
        load = Load(history, stack.api_urls, stack.simulators_url, run=f"chaos-{seed}")
        async with (
            relaying(stack, proxies.addresses or stack) as nats_url,
            load.connected(),
            receiving_webhooks(load.http, history, seed),
            asyncio.TaskGroup() as background,
        ):
            following = [
                background.create_task(load.follow_pages("pages")),
                background.create_task(load.follow_stream("stream")),
            ]
            shopping = [background.create_task(load.shop(seed, n)) for n in range(shoppers)]
            nemesis = Nemesis(stack, proxies, load, clocks, disk)
            await nemesis.strike(steps, seconds)
            load.stop_shopping()
            began = time.monotonic()
            await _end(shopping, history)
            again = _sample(history, seed)
            await asyncio.gather(*(load.send_again(attempt) for attempt in again))
            await _settle(load, NatsStream(nats_url, history), began)
            settled_s = time.monotonic() - began
            await _observe(load, stack)
            for task in following:
                task.cancel()
    return Result(history, nemesis.strikes, settled_s, len(again), check(history))


async def _end(shopping: Sequence[asyncio.Task[None]], history: History) -> None:
    """Waits until the shoppers have come to the end of their last orders."""
    _, late = await asyncio.wait(shopping, timeout=SETTLE_S_MAX)
    for task in late:
        task.cancel()
        history.stuck.append(f"a shopper still waits {SETTLE_S_MAX:g} s after the last fault")


def _sample(history: History, seed: int) -> list[Attempt]:
    """Some acknowledged commands, any of their attempts."""
    acknowledged = [command.key for command in commands_of(history).values() if command.results]
    by_key = {attempt.key: attempt for attempt in history.attempts}
    keys = Random(seed).sample(acknowledged, min(SENT_AGAIN, len(acknowledged)))
    return [by_key[key] for key in keys]


async def _settle(load: Load, stream: NatsStream, began: float) -> None:
    """Waits until orders and readers of the feed are settled, or for as long as that may take."""
    history = load.history
    while time.monotonic() < began + SETTLE_S_MAX:
        await asyncio.sleep(POLL_S)
        orders, feed = await _orders(load), await _feed(load)
        await stream.read_on()
        arrived = {event["id"] for event in history.webhooks}
        published = {message.event.get("id") for message in history.messages}
        readers = [*history.followers.values(), arrived, published]
        if not any(map(unsettled, orders)) and all(len(seen) == len(feed) for seen in readers):
            return


async def _observe(load: Load, stack: Stack) -> None:
    """Reads all that the checker compares."""
    history = load.history
    history.feed, history.orders = await _feed(load), await _orders(load)
    for service in ("payments", "stock", "shipping"):
        history.ledgers[service] = await load.simulators.ledger(service)
    history.differences = await _verify(stack)
    replayed = await _replay(stack, [order["order_id"] for order in history.orders])
    history.runs, history.unreplayable = replayed.runs, replayed.failures


async def _orders(load: Load) -> list[Json]:
    return [dict(order) async for order in load.api.orders()]


async def _feed(load: Load) -> list[Json]:
    events: list[Json] = []
    query: dict[str, str] = {"limit": PAGE}
    while True:
        page = await load.api.get(EVENTS, **query)
        events += page["items"]
        if not page["items"]:
            return events
        query["cursor"] = page["next"]


async def _replay(stack: Stack, order_ids: Sequence[str]) -> Replayed:
    """Replays the workflows of all orders."""
    client = await Client.connect(
        stack.temporal_address,
        namespace=stack.temporal_namespace,
        data_converter=DATA_CONVERTER,
    )
    return await replay_orders(client, order_ids)


async def _verify(stack: Stack) -> list[str]:
    """What `orderly verify` finds to be different, or parked."""
    program = orderly_process(stack, stack.logs, "verify", "verify")
    process = await asyncio.create_subprocess_exec(
        *program.command, env=program.environment, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await communicate(process)
    *differences, summary = output.decode().splitlines() or ["no output"]
    is_clean = process.returncode == 0 and " 0 parked" in summary
    return differences if is_clean else [*differences, summary]
