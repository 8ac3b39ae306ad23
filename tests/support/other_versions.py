"""What another version of the software sends to an order, and what it leaves of one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from temporalio.client import Client
from temporalio.common import RawValue, WorkflowIDReusePolicy

from api.gateway.command_message import CommandMessage
from orders.commands import AddNote
from tests.support.command_builders import message
from tests.support.orphans import terminate
from workflows.messages import UnreadCommand

NEWER = UnreadCommand.model_validate({"type": "set-gift-message", "text": "happy birthday"})


def newer(order_id: str, key: str = "gift", **options: Any) -> CommandMessage:
    """A message as the API of the next version sends it."""
    known = message(order_id, AddNote(text="x"), key=key, **options)
    batch = known.batch.model_copy(update={"commands": [*known.batch.commands[:-1], NEWER]})
    return CommandMessage(order_id, known.command_id, batch, known.creates_order)


async def restart(
    client: Client,
    task_queue: str,
    order_id: str,
    change: Callable[[dict[str, Any]], dict[str, Any]] = lambda snapshot: snapshot,
    sent: CommandMessage | None = None,
) -> None:
    """Continues an order with its state as another version would have written it.

    The new run receives an asynchronous message with its start.
    """
    raw = await client.get_workflow_handle(order_id).query("snapshot", result_type=RawValue)
    snapshot = json.loads(raw.payload.data)
    await terminate(client, order_id)
    await client.start_workflow(
        "OrderWorkflow",
        {"snapshot": change(snapshot | {"made_by": "another"})},
        id=order_id,
        task_queue=task_queue,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        start_signal=sent.batch.name if sent else None,
        start_signal_args=[sent.queued] if sent else [],
    )
