"""Histories of whole orders, recorded once and replayed for ever.

`python -m tests.golden NAME` records one from today's code; never record an existing one again:
that would hide the very change which a replay is there to find.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from temporalio.client import Client, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from api.gateway import Gateway
from eventlog.postgres import connect_pool
from orders.commands import (
    AddNote,
    ApplyDiscount,
    CancelOrder,
    ChangeItemQuantity,
    PlaceOrder,
    RemoveDiscount,
    RemoveItemFromOrder,
)
from tests.conftest import TEMPORAL, new_database, postgres_server, run_worker
from tests.histories import runs_of
from tests.mail import bagels, mail, opening
from workflows.order import CUSTOMER, STATUS

FOLDER = Path(__file__).parent / "golden_histories"
ORDER_ID = "ord_golden"
IDENTITY = "recorder"
LIFE = (
    (ApplyDiscount(discount_id="welcome", amount=50), AddNote(note_id="bell", text="ring twice")),
    (bagels().model_copy(update={"line_id": "more"}),),
    (ChangeItemQuantity(line_id="more", quantity=3),),
    (RemoveItemFromOrder(line_id="more"),),
    (RemoveDiscount(discount_id="welcome"),),
    (PlaceOrder(),),
    (PlaceOrder(),),
    (CancelOrder(reason="changed my mind"),),
)


def golden_histories() -> list[WorkflowHistory]:
    return [WorkflowHistory.from_json(ORDER_ID, f.read_text()) for f in FOLDER.glob("*.json")]


async def record(name: str) -> None:
    """Plays a life that takes the order through every command, over several runs."""
    limit = "limit.historyCount.suggestContinueAsNew=40"
    with postgres_server() as server:
        async with (
            await WorkflowEnvironment.start_local(
                dev_server_existing_path=str(TEMPORAL),
                dev_server_extra_args=["--dynamic-config-value", limit],
                data_converter=pydantic_data_converter,
                search_attributes=[CUSTOMER, STATUS],
                identity=IDENTITY,
            ) as environment,
            await connect_pool(await new_database(server)) as pool,
            run_worker(environment.client, "golden", pool, identity=IDENTITY),
        ):
            await live(Gateway(environment.client, pool, "golden"), environment.client)
            for number, run in enumerate(reversed(await runs_of(environment.client, ORDER_ID))):
                (FOLDER / f"{name}-{number}.json").write_text(run.to_json())


async def live(gateway: Gateway, client: Client) -> None:
    await gateway.send(opening(ORDER_ID, bagels()), 30)
    for number, commands in enumerate(LIFE):
        await gateway.send(mail(ORDER_ID, *commands, key=str(number)), 30)
        await asyncio.sleep(0.2)  # So that each is published on its own.
    await client.get_workflow_handle(ORDER_ID).result()


if __name__ == "__main__":
    asyncio.run(record(sys.argv[1]))
