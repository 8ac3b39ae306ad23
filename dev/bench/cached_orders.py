"""What an order that a worker keeps in memory costs: memory, and garbage collections' time."""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from rich.console import Console
from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.client import Client, WorkflowHistory
from temporalio.worker import (
    UnsandboxedWorkflowRunner,
    WorkflowInstance,
    WorkflowInstanceDetails,
)

from dev.bench import machine
from dev.bench.load_generator import COMMANDS_PER_ORDER
from dev.bench.orderly_api import OrderlyClient, orderly_system
from dev.bench.report import Json, describe_machine, numeric_table, positive_integer
from dev.stack import StackOptions, run_stack
from workflows.replay import replayer

METHOD = (
    "An order of ten commands, and one that is placed, paid and booked as well, are replayed many"
    " times, and their workflows are kept, as a worker keeps them. The memory is the growth of this"
    " process, without what the SDK's core keeps. Pause: processor time of a full garbage"
    " collection. The idle worker is that of the stack, right after its start."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--orders", type=positive_integer, default=1_000, help="to keep in memory")


async def measure(options: argparse.Namespace, console: Console) -> Json:
    """Makes an order of each kind on the whole stack, and keeps many copies in this process."""
    with tempfile.TemporaryDirectory(prefix="orderly-bench-") as data_dir:
        console.print("starting the embedded stack …")
        async with (
            run_stack(StackOptions(Path(data_dir), 0, 0, 0)) as stack,
            orderly_system(stack, 1) as orderly,
        ):
            idle_worker = psutil.Process(stack.pids["worker"]).memory_info().rss
            client = await Client.connect(stack.temporal_address)
            shopper = orderly.clients[0]
            order_ids = [await _fill_order(shopper) for _ in range(2)]
            await shopper.place_order(order_ids[1])
            await orderly.wait_until_confirmed(1)
            histories = [
                await client.get_workflow_handle(order_id).fetch_history() for order_id in order_ids
            ]
    kinds = dict(zip(("draft", "confirmed"), histories, strict=True))
    runners = {name: _KeepingRunner() for name in kinds}
    return {
        "orders": options.orders,
        "worker_mb": round(idle_worker / 1e6, 1),
        "kinds": {
            # Both kinds stay: memory that one gives back would not grow for the other.
            name: await _keep(history, options.orders, runners[name])
            for name, history in kinds.items()
        },
        "machine": machine.description(),
    }


async def _fill_order(client: OrderlyClient) -> str:
    """Sends COMMANDS_PER_ORDER commands to a new order; returns its id."""
    order_id = await client.open()
    for _ in range(COMMANDS_PER_ORDER - 1):
        await client.add(order_id)
    return order_id


class _KeepingRunner(UnsandboxedWorkflowRunner):
    """Makes workflows that stay as they are when the SDK removes them from its cache."""

    def __init__(self) -> None:
        self.kept: list[WorkflowInstance] = []

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        workflow = super().create_instance(det)
        self.kept.append(workflow)
        setattr(workflow, "activate", _unless_evicted(workflow.activate))  # noqa: B010
        return workflow


Activate = Callable[[WorkflowActivation], WorkflowActivationCompletion]


def _unless_evicted(activate: Activate) -> Activate:
    def activate_or_stay(activation: WorkflowActivation) -> WorkflowActivationCompletion:
        if not any(job.HasField("remove_from_cache") for job in activation.jobs):
            return activate(activation)
        completion = WorkflowActivationCompletion()
        completion.successful.SetInParent()
        return completion

    return activate_or_stay


async def _keep(history: WorkflowHistory, orders: int, runner: _KeepingRunner) -> Json:
    """The costs of each of this many workflows with the same history, which `runner` keeps."""
    await _replay(history, 1, runner)  # To warm up.
    gc.collect()
    gc.freeze()
    resident, objects = psutil.Process().memory_info().rss, len(gc.get_objects())
    await _replay(history, orders, runner)
    began = time.process_time()
    gc.collect()
    pause_s = time.process_time() - began
    return {
        "events": len(history.events),
        "kb_each": round((psutil.Process().memory_info().rss - resident) / 1e3 / orders, 1),
        "objects_each": round((len(gc.get_objects()) - objects) / orders),
        "pause_ms": round(1000 * pause_s, 1),
    }


async def _replay(history: WorkflowHistory, times: int, runner: UnsandboxedWorkflowRunner) -> None:
    async def copies() -> AsyncIterator[WorkflowHistory]:
        for _ in range(times):
            yield history

    await replayer(runner).replay_workflows(copies())


def show(console: Console, result: Json) -> None:
    """Prints the result."""
    table = numeric_table(f"{result['orders']:,} orders in memory", *result["kinds"])
    for label, key in {
        "events in the history": "events",
        "kB each": "kb_each",
        "garbage collector's objects each": "objects_each",
        "pause, ms": "pause_ms",
    }.items():
        table.add_row(label, *(f"{kind[key]:,}" for kind in result["kinds"].values()))
    console.print(table)
    machine_line = describe_machine(result["machine"])
    console.print(f"{machine_line}; idle worker {result['worker_mb']} MB.\n{METHOD}")
