"""The worker deployment: connects, registers the order's workflow and activities, and runs.

Start it with `python worker.py`, as many as there are machines for. README.md names the variables.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import asyncpg
import httpx
import uvloop
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import UnsandboxedWorkflowRunner, Worker, WorkerDeploymentConfig

import telemetry
from activities.payments import Payments
from activities.publishing import Publishing
from activities.service_client import Service, connected, rejected_step
from activities.shipping import Shipping, Unseal
from activities.stock import Stock
from eventlog.postgres import connect_pool
from privacy.keys import CustomerKeys, PostgresKeys
from privacy.sealing import BrokenSeal, unseal_all
from settings import Settings, SettingsError, from_environment
from workflows.client import connect
from workflows.order import OrderWorkflow

log = logging.getLogger("orderly.worker")

# So many orders are kept ready for what comes next; others are read from their history again. Each
# is some 300 objects, and all stands still while Python looks for garbage among them.
ORDERS_KEPT_MAX = 100

Activities = Sequence[Callable[..., Any]]


def activities_for(
    settings: Settings, pool: asyncpg.Pool, http: httpx.AsyncClient, unseal: Unseal
) -> Activities:
    """All that an order does to the outside world; nobody out there need be there yet."""
    publishing = Publishing(pool)
    payments = Payments(
        Service(http, "the payment service", "ORDERLY_PAYMENTS_URL", settings.payments_url)
    )
    stock = Stock(Service(http, "the stock service", "ORDERLY_STOCK_URL", settings.stock_url))
    carrier = Service(http, "the shipping service", "ORDERLY_SHIPPING_URL", settings.shipping_url)
    shipping = Shipping(carrier, unseal)
    return [
        *(publishing.publish_events, publishing.head_of_log, publishing.log_after),
        *(payments.authorise_payment, payments.capture_payment),
        *(payments.void_payment, payments.refund_payment),
        *(stock.reserve_stock, stock.release_stock, stock.withdraw_stock, stock.restock),
        *(shipping.book_shipment, shipping.stop_shipment),
    ]


def unsealing(keys: CustomerKeys) -> Unseal:
    """Opens addresses for as long as the customer's key exists."""

    async def unseal(_customer_id: str, token: str) -> dict[str, Any] | None:
        try:
            address = (await unseal_all({token}, keys))[token]
        except BrokenSeal as error:
            raise rejected_step(str(error)) from None
        return address.model_dump(exclude_none=True) if address else None

    return unseal


def worker_for(client: Client, settings: Settings, activities: Activities) -> Worker:
    """The worker, ready to run: pinned to its version if the settings name one."""
    return Worker(
        client,
        task_queue=settings.task_queue,
        workflows=[OrderWorkflow],
        activities=activities,
        # The tests replay what it did in the strict sandbox: docs/decisions/0009-sandbox.md.
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_cached_workflows=ORDERS_KEPT_MAX,
        interceptors=[telemetry.TraceUpdates()] if telemetry.is_tracing() else [],
        deployment_config=_deployment(settings),
    )


async def run(settings: Settings) -> None:
    """Runs until SIGTERM or SIGINT, then finishes what is under way."""
    stopped = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stopped.set)
    client = await connect()
    pool = await connect_pool(settings.postgres_dsn)
    async with pool, connected(settings.service_timeout_seconds) as http:
        activities = activities_for(settings, pool, http, unsealing(PostgresKeys(pool)))
        async with worker_for(client, settings, activities):
            version = settings.build_id or "unversioned"
            log.info("worker on task queue %s, %s", settings.task_queue, version)
            await stopped.wait()
            log.info("worker stops")


def _deployment(settings: Settings) -> WorkerDeploymentConfig | None:
    if settings.deployment_name is None or settings.build_id is None:
        return None
    version = WorkerDeploymentVersion(settings.deployment_name, settings.build_id)
    # Said here and not by the workflow: an unversioned worker must not claim a behaviour.
    return WorkerDeploymentConfig(
        version=version,
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.PINNED,
    )


def main() -> int:
    telemetry.start_logging()
    try:
        settings = from_environment(Settings)
    except SettingsError as error:
        print(f"orderly worker: {error}", file=sys.stderr)
        return 2
    flush_traces = telemetry.start_tracing("orderly-worker")
    gc.freeze()  # What was imported stays: no pause to look at it again.
    try:
        uvloop.run(run(settings))
    except ConnectionError as error:
        print(f"orderly worker: {error}", file=sys.stderr)
        return 1
    finally:
        flush_traces()
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # The SDK's threads can crash an interpreter that tears itself down.
