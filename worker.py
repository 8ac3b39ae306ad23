"""The worker process: registers the order workflow and its activities with Temporal, and runs them.

Start it with `orderly worker` or `python worker.py`, on as many machines as needed.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from functools import partial
from typing import Any

import asyncpg
import httpx
from opentelemetry.trace import SpanKind
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import RawValue, VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError
from temporalio.worker import (
    CustomSlotSupplier,
    FixedSizeSlotSupplier,
    HandleSignalInput,
    HandleUpdateInput,
    Interceptor,
    PollerBehaviorSimpleMaximum,
    UnsandboxedWorkflowRunner,
    Worker,
    WorkerConfig,
    WorkerDeploymentConfig,
    WorkerTuner,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

import orphan_check
import runtime
import telemetry
from activities.credentials import credentials_for, tls
from activities.payments import Payments
from activities.publishing import Publishing
from activities.service_client import Service, http_client, step_rejected
from activities.shipping import Shipping, Unseal
from activities.stock import Stock
from admin import server as admin
from admin.server import AddressInUse, Process
from eventlog.postgres import connect_pool
from orders.steps import SERVICES
from privacy.keys import CustomerKeys, PostgresKeys
from privacy.sealing import BrokenSeal, unseal_all
from release_gate import GateChecks
from settings import Settings, SettingsError, from_environment
from worker_memory import collecting, memory_limit, orders_to_keep
from worker_pacing import PacedSlots, TaskWaits
from workflows.activity_options import STEP_TIMEOUT, service_queue, stuck_queue
from workflows.client import (
    MissingSearchAttributes,
    UnknownNamespace,
    check_namespace,
    check_search_attributes,
    connect,
)
from workflows.details_on_demand import DetailsOnDemand
from workflows.order import SEARCH_ATTRIBUTES, OrderWorkflow
from workflows.release_gate import ReleaseGate
from workflows.restore_guard import RestoreNoticed, guarded
from workflows.sdk_metrics import SdkMetrics
from workflows.snapshot import fingerprint
from workflows.worker_readiness import SERVES, read_readiness

log = logging.getLogger("orderly.worker")

# A task that finds no poller goes to Temporal's backlog, where newer tasks overtake it for up to
# five seconds. With the SDK's five pollers, of which one polls for orders that no worker has in
# its cache, that happens to every burst of new orders. A new order has about one task of this kind
# and three that go to the worker that has it in its cache; in a burst, neither kind is to wait for
# the other: `make bench ARGS=bursts`.
POLLERS = 16
NEW_ORDERS_POLL_RATIO = 0.25
STEP_SLOTS = 100  # Calls of a service at a time.
# Publishing takes milliseconds. After this time its connection must have gone silent.
STATEMENT_SECONDS_MAX = 10
# Events that a failover loses are published again from Temporal's histories, so that their commits
# need not wait for a synchronous standby. Those of customers' keys do: keys are nowhere else.
PUBLISHING_SETTINGS = {"synchronous_commit": "local"}

SHUTDOWN_SECONDS_MAX = STEP_TIMEOUT.total_seconds() + 5

Activities = Sequence[Callable[..., Any]]


def activities_for(
    settings: Settings, pool: asyncpg.Pool, http: httpx.AsyncClient, unseal: Unseal
) -> Activities:
    """The activities, bound to their connections; no service needs to be reachable yet."""
    publishing = Publishing(pool)
    payments = Payments(_service(http, settings, "payments", "the payment service"))
    stock = Stock(_service(http, settings, "stock", "the stock service"))
    shipping = Shipping(_service(http, settings, "shipping", "the shipping service"), unseal)
    return [
        *(publishing.publish_events, publishing.head_of_log, publishing.log_after),
        *(payments.authorise_payment, payments.capture_payment),
        *(payments.void_payment, payments.refund_payment),
        *(stock.reserve_stock, stock.release_stock, stock.withdraw_stock, stock.restock),
        *(shipping.book_shipment, shipping.stop_shipment),
    ]


def _service(http: httpx.AsyncClient, settings: Settings, label: str, name: str) -> Service:
    return Service(
        http,
        name,
        f"ORDERLY_{label.upper()}_URL",
        getattr(settings, f"{label}_url"),
        credentials_for(settings, label),
    )


def unsealing(keys: CustomerKeys) -> Unseal:
    """A function that decrypts addresses, for as long as the customer's key exists."""

    async def unseal(_customer_id: str, token: str) -> dict[str, Any] | None:
        address = (await unseal_all({token}, keys))[token]
        if isinstance(address, BrokenSeal):
            raise step_rejected(str(address))
        return address.model_dump(exclude_none=True) if address else None

    return unseal


def workers_for(client: Client, settings: Settings, activities: Activities) -> list[Worker]:
    """The workers of a process, not started; pinned to their version if the settings name one."""
    waits = TaskWaits()
    orders = Worker(**worker_config(client, settings, activities, waits))
    return [orders, *step_workers(client, settings, activities, waits)]


def step_workers(
    client: Client, settings: Settings, activities: Activities, waits: TaskWaits
) -> list[Worker]:
    """The workers that call services, each one of them: what hangs takes no slot of the others.

    Those for stuck steps go by how long other tasks wait.
    """
    common: Any = {
        "client": client,
        "activities": activities,
        "graceful_shutdown_timeout": STEP_TIMEOUT,
        "deployment_config": _deployment(settings),
    }
    workers = []
    for service in SERVICES:
        usual = Worker(
            task_queue=service_queue(settings.task_queue, service),
            max_concurrent_activities=STEP_SLOTS,
            activity_task_poller_behavior=PollerBehaviorSimpleMaximum(POLLERS),
            **common,
        )
        slots = PacedSlots(service, STEP_SLOTS, waits)
        stuck = Worker(
            task_queue=stuck_queue(settings.task_queue, service),
            tuner=_activities_only(slots),
            activity_task_poller_behavior=PollerBehaviorSimpleMaximum(1),
            interceptors=[slots],
            **common,
        )
        workers += [usual, stuck]
    return workers


def _activities_only(slots: CustomSlotSupplier) -> WorkerTuner:
    unused = FixedSizeSlotSupplier(1)
    return WorkerTuner.create_composite(
        workflow_supplier=unused,
        activity_supplier=slots,
        local_activity_supplier=unused,
        nexus_supplier=unused,
    )


def worker_config(
    client: Client, settings: Settings, activities: Activities, waits: TaskWaits
) -> WorkerConfig:
    """The options of the worker that decides on orders and publishes; tests may change some.

    `waits` learns how long what it publishes has waited.
    """
    return WorkerConfig(
        client=client,
        task_queue=settings.task_queue,
        workflows=[OrderWorkflow, ReleaseGate],
        # Also those of steps that earlier versions scheduled.
        activities=activities,
        # The tests replay histories in the strict sandbox: docs/decisions/0009-sandbox.md.
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_cached_workflows=_cached_orders(settings),
        workflow_task_poller_behavior=PollerBehaviorSimpleMaximum(POLLERS),
        nonsticky_to_sticky_poll_ratio=NEW_ORDERS_POLL_RATIO,
        activity_task_poller_behavior=PollerBehaviorSimpleMaximum(POLLERS),
        # A call that was cut would count as a failed attempt of its step.
        graceful_shutdown_timeout=STEP_TIMEOUT,
        interceptors=[
            DetailsOnDemand(),
            waits,
            *([TraceUpdates()] if telemetry.is_tracing() else []),
        ],
        deployment_config=_deployment(settings),
    )


@asynccontextmanager
async def running(workers: Sequence[Worker], stop: Callable[[], None]) -> AsyncIterator[None]:
    """Runs workers inside the `async with`; at its end they finish their calls.

    Calls `stop` if one ends before. Sometimes the SDK does not return after its last call: then it
    is left, so that the process can exit.
    """
    runs = [asyncio.create_task(worker.run()) for worker in workers]
    for run in runs:
        run.add_done_callback(lambda _: stop())
    try:
        yield
    finally:
        stopping = [asyncio.create_task(worker.shutdown()) for worker in workers]
        await asyncio.wait({*runs, *stopping}, timeout=SHUTDOWN_SECONDS_MAX)
        if not all(run.done() for run in runs):
            log.warning("Temporal's SDK does not end after the last call, and is left")
        # A shutdown waits for its run, which never says so if it is cancelled.
        for task in (*runs, *stopping):
            task.cancel()
        await asyncio.wait({*runs, *stopping})
        for run in runs:
            if not run.cancelled():
                run.result()


async def run(settings: Settings) -> None:
    """Runs until a stop signal, then finishes the calls that it has begun."""
    stopped = runtime.stop_event()
    to_services = tls(settings)
    # Its fields are in the log apart from the message.
    workflow.logger.workflow_info_on_message = activity.logger.activity_info_on_message = False
    fingerprint()  # It takes a tenth of a second, which no order is to wait.
    sdk = SdkMetrics.start()
    client = await connect(runtime=sdk.runtime)
    # As for search attributes: what the server does not tell keeps no worker from starting.
    with suppress(RPCError):
        await check_namespace(client)
    await check_search_attributes(client, (key.name for key in SEARCH_ATTRIBUTES))
    pool = await connect_pool(
        settings.postgres_dsn,
        statement_seconds_max=STATEMENT_SECONDS_MAX,
        settings=PUBLISHING_SETTINGS,
    )
    async with pool, http_client(settings.service_timeout_seconds, to_services) as http:
        gate = GateChecks(client, pool, settings.task_queue)
        orders = activities_for(settings, pool, http, unsealing(PostgresKeys(pool)))
        activities = [*orders, gate.check_release]
        process = Process(
            "worker",
            SERVES,
            partial(read_readiness, client, settings.task_queue, settings.build_id),
            read_sdk_metrics=sdk.read,
            is_stopping=stopped.is_set,
        )
        async with (
            admin.serving(settings, process),
            guarded(client, pool, settings.task_queue, stopped.set, renews=True),
            running(workers_for(client, settings, activities), stopped.set),
            orphan_check.running(client, pool, settings.task_queue),
            collecting(memory_limit()),
        ):
            version = settings.build_id or "unversioned"
            log.info("worker on task queue %s, %s", settings.task_queue, version)
            log.info("it keeps up to %d orders in memory", _cached_orders(settings))
            await stopped.wait()
            log.info("worker is shutting down")


def _cached_orders(settings: Settings) -> int:
    return settings.cached_orders or orders_to_keep(memory_limit())


def _deployment(settings: Settings) -> WorkerDeploymentConfig | None:
    if settings.deployment_name is None or settings.build_id is None:
        return None
    version = WorkerDeploymentVersion(settings.deployment_name, settings.build_id)
    # Set here and not on the workflow, as an unversioned worker must not declare a behaviour.
    return WorkerDeploymentConfig(
        version=version,
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED,
    )


class TraceUpdates(Interceptor):
    """Makes each update and signal a span in the trace of the request that sent it.

    The SDK's own interceptor would put it in the trace of the request that opened the order.
    """

    def workflow_interceptor_class(
        self, input: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor]:
        return _TraceUpdates


class _TraceUpdates(WorkflowInboundInterceptor):
    async def handle_update_handler(self, input: HandleUpdateInput) -> Any:
        with _handling("execute", input.update, input.args):
            return await super().handle_update_handler(input)

    async def handle_signal(self, input: HandleSignalInput) -> None:
        with _handling("enqueue", input.signal, input.args):
            await super().handle_signal(input)


def _handling(handler: str, commands: str, args: Sequence[Any]) -> AbstractContextManager[Any]:
    """The span of a dynamic handler, whose arguments are a name and raw payloads."""
    if workflow.unsafe.is_replaying():
        return nullcontext()
    return telemetry.TRACER.start_as_current_span(
        f"OrderWorkflow.{handler}",
        telemetry.continued(_traceparent_of(args[1])),
        kind=SpanKind.SERVER,
        attributes={
            "orderly.order_id": workflow.info().workflow_id,
            "orderly.commands": commands,
        },
    )


def _traceparent_of(payloads: Sequence[RawValue]) -> str | None:
    """The traceparent that a command batch carries; None if the payload is something else."""
    try:
        message = json.loads(payloads[0].payload.data)
        found = message.get("batch", message).get("traceparent")
    except (ValueError, LookupError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def main() -> None:
    """Runs a worker with the settings of the environment, and exits."""
    failures: runtime.Failures = {
        AddressInUse: runtime.EXIT_USAGE,
        SettingsError: runtime.EXIT_USAGE,
        ConnectionError: runtime.EXIT_FAILED,
        RestoreNoticed: runtime.EXIT_FAILED,
        MissingSearchAttributes: runtime.EXIT_USAGE,
        UnknownNamespace: runtime.EXIT_USAGE,
    }
    runtime.serve(lambda: from_environment(Settings), run, "orderly-worker", failures)


if __name__ == "__main__":
    runtime.main(main)
