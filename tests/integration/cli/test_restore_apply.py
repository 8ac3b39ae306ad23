"""`orderly restore apply` leaves an order that it cannot start from the log as it is."""

from __future__ import annotations

from temporalio.testing import WorkflowEnvironment

from cli.restore_apply import apply
from tests.support.command_builders import bagels, new_order_id, opening
from tests.support.servers import run_orderly
from tests.support.workflow_runs import is_running


async def test_workflow_of_an_order_that_cannot_be_read_is_not_terminated(
    temporal: WorkflowEnvironment, dsn: str
) -> None:
    """Temporal was restored, and the log has an event of a newer release."""
    unreadable, other = new_order_id(), new_order_id()
    async with run_orderly(temporal.client, dsn) as own:
        for order_id in (unreadable, other):
            await own.gateway.execute(opening(order_id, bagels()), 30)
            seen = await own.http.get(f"/v1/orders/{order_id}", params={"min_version": 2})
            assert seen.status_code == 200
            await own.pool.execute(
                """
                INSERT INTO order_events
                    (order_id, version, type, schema_version, occurred_at, data, metadata)
                SELECT order_id, 3, $2, 1, now(), $3, metadata FROM order_events
                WHERE order_id = $1 AND version = 2
                """,
                order_id,
                "order-teleported" if order_id == unreadable else "note-added",
                {"note_id": "n", "text": "hi"},
            )
        repairs = apply(own.pool, own.client, own.task_queue, dry_run=False)
        done = {sentence.split()[1].strip(":"): sentence async for sentence in repairs}
        assert done[other] == f"Order {other}: its workflow is started from the log."
        assert "order-teleported" in done[unreadable]
        assert "is not repaired" in done[unreadable]
        assert await is_running(own, unreadable)
