"""A command batch with its address and its idempotency key."""

from __future__ import annotations

from dataclasses import dataclass, replace

import telemetry
from workflows.messages import CommandBatch, QueuedCommands


@dataclass(frozen=True)
class CommandMessage:
    """A batch for one order, executed once per `command_id`, however often it is sent."""

    order_id: str
    command_id: str
    batch: CommandBatch
    creates_order: bool = False
    """Whether the first command opens the order."""
    pointer: str = "#"
    """JSON pointer to command number {} in the caller's request."""

    @property
    def queued(self) -> QueuedCommands:
        return QueuedCommands(command_id=self.command_id, batch=self.batch, pointer=self.pointer)

    def looked_up(self, in_log: bool) -> CommandMessage:
        """The message of a sender that knows whether the log has events of it."""
        return replace(self, batch=self.batch.model_copy(update={"in_log": in_log}))

    def traced(self) -> CommandMessage:
        """The message with the current span, if any, as the parent of the order's spans."""
        traceparent = telemetry.traceparent(self.batch.traceparent)
        return replace(self, batch=self.batch.model_copy(update={"traceparent": traceparent}))
