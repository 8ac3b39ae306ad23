"""How an order's workflow is started: by the commands that open it, or again after it has ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from temporalio.client import Client, WithStartWorkflowOperation
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)

from api.gateway.command_message import CommandMessage
from orders.order import Order
from workflows.command_handler import decide_batch
from workflows.messages import QueuedCommands
from workflows.order import CUSTOMER, STATUS, OrderWorkflow
from workflows.snapshot import Snapshot, WorkflowInput
from workflows.web_ui import summary


@dataclass(frozen=True)
class WorkflowStart:
    """The start of an order's workflow, which does nothing if the workflow is running already."""

    order_id: str
    input: WorkflowInput
    order: Order
    """What the Temporal Web UI lists the workflow as."""
    reuse_policy: WorkflowIDReusePolicy

    @classmethod
    def of_opening(cls, message: CommandMessage) -> WorkflowStart:
        """The start of a new order; raises Rejected if its commands would be rejected.

        Fails with WorkflowAlreadyStartedError if the order has ended.
        """
        now = datetime.now(UTC)
        order = decide_batch(message.batch, Order(), message.command_id, now).order
        input_ = WorkflowInput.of_opening(message.batch)
        return cls(message.order_id, input_, order, WorkflowIDReusePolicy.REJECT_DUPLICATE)

    @classmethod
    def of_reopening(cls, order_id: str, snapshot: Snapshot) -> WorkflowStart:
        """The start of an order whose last run has ended, and left this state."""
        input_ = WorkflowInput.of_snapshot(snapshot)
        return cls(order_id, input_, snapshot.order, WorkflowIDReusePolicy.ALLOW_DUPLICATE)

    async def execute(
        self, client: Client, task_queue: str, queued: QueuedCommands | None = None
    ) -> None:
        """Starts the workflow and, in the same step, signals it the queued commands."""
        await client.start_workflow(
            OrderWorkflow.run,
            self.input,
            id=self.order_id,
            task_queue=task_queue,
            id_reuse_policy=self.reuse_policy,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=summary(self.order),
            search_attributes=self._search_attributes(),
            start_signal=queued.batch.name if queued else None,
            start_signal_args=[queued] if queued else [],
        )

    def operation(self, task_queue: str) -> WithStartWorkflowOperation[OrderWorkflow, str]:
        """The start as a part of update-with-start."""
        return WithStartWorkflowOperation(
            OrderWorkflow.run,
            self.input,
            id=self.order_id,
            task_queue=task_queue,
            id_reuse_policy=self.reuse_policy,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=summary(self.order),
            search_attributes=self._search_attributes(),
        )

    def _search_attributes(self) -> TypedSearchAttributes:
        return TypedSearchAttributes(
            [
                SearchAttributePair(CUSTOMER, self.order.customer_id),
                SearchAttributePair(STATUS, str(self.order.status)),
            ]
        )
