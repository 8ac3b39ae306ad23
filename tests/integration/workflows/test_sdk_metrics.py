"""A worker's own view: the SDK's metrics, what workflows count by them, and its readiness."""

from __future__ import annotations

import asyncio
import re
import secrets

import asyncpg
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from admin.readiness import Readiness
from api.gateway.gateway import Gateway
from orders.commands import OpenOrder
from orders.policy import Policy
from tests.support.alerts import OF_THE_SDK
from tests.support.command_builders import message, new_order_id
from tests.support.servers import run_worker
from workflows.data_converter import DATA_CONVERTER
from workflows.sdk_metrics import SdkMetrics
from workflows.worker_readiness import UNHEARD_OF, read_readiness

WAIT_SECONDS = 30.0
HURRIED = OpenOrder(customer_id="900", currency="USD", policy=Policy(draft=1))


async def test_worker_knows_what_it_does_and_whether_temporal_has_heard_of_it(
    temporal: WorkflowEnvironment, pool: asyncpg.Pool
) -> None:
    queue, sdk = f"sdk-{secrets.token_hex(4)}", SdkMetrics.start()
    client = await Client.connect(
        str(temporal.client.service_client.config.target_host),
        data_converter=DATA_CONVERTER,
        runtime=sdk.runtime,
        identity=queue,
    )

    async def readiness() -> Readiness:
        return await read_readiness(client, queue, "v7")

    before = await readiness()
    assert before.serves == {"commands": [f"worker: {UNHEARD_OF}"]}
    assert (before.states["version"], before.states["task_queue"]) == ("v7", queue)
    order_id = new_order_id()
    async with run_worker(client, queue, pool), asyncio.timeout(60):
        opening = message(order_id, HURRIED, creates_order=True)
        await Gateway(client, pool, queue).execute(opening, WAIT_SECONDS)
        await client.get_workflow_handle(order_id).result()
        while not (await readiness()).is_ready("commands"):
            await asyncio.sleep(0.1)
        text = (await sdk.read()).decode()
    values = dict(re.findall(r"^(\w+)(?:\{.*\})? (\S+)$", text, re.MULTILINE))
    assert values.keys() >= OF_THE_SDK
    assert (values["orderly_deadlines_total"], values["orderly_late_deadlines_total"]) == ("1", "0")
    assert {"temporal_workflow_completed_total", "temporal_sticky_cache_size"} <= values.keys()
    assert not re.search(order_id, text)
