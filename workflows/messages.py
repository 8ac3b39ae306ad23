"""The messages of an order's workflow: command batches in, results and rejections out."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from eventlog.envelope import Envelope
from orders.commands import AnyCommand, OrderCommand
from orders.models import StoredModel
from orders.order import Order
from orders.steps import StepResult

WORKFLOW_TYPE = "OrderWorkflow"  # Part of the history of every open order.
COMMANDS_MAX = 600
CUSTOMER_ACTOR = "customer:"  # Begins the actor of a customer's batch.
TYPES_NAMED_MAX = 3


class CommandBatch(BaseModel):
    """Commands, or results of services, for one order, with their actor: all or nothing."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    commands: list[Annotated[AnyCommand | StepResult, Field(discriminator="type")]] = Field(
        min_length=1, max_length=COMMANDS_MAX
    )
    expected_versions: list[int] | None = None
    """The versions that the caller accepts the order to have; the order itself checks them."""
    actor: str
    payload_hash: str
    """Of the commands as received: distinguishes a repeated request from a changed one."""
    attempt_id: str
    """Of the HTTP request that carries it: distinguishes a first response from a replayed one."""
    request_id: str | None = None
    traceparent: str | None = None
    in_log: bool | None = None
    """Whether the log has events of this batch; None if the sender has not looked."""

    @property
    def is_from_customer(self) -> bool:
        return self.actor.startswith(CUSTOMER_ACTOR)

    @property
    def grows(self) -> bool:
        """Whether it adds something of any size to the order."""
        return any(isinstance(c, OrderCommand) and c.grows for c in self.commands)

    @property
    def name(self) -> str:
        """Its command types, as in "add-item-to-order ×12, place-order"; no caller's text.

        The name of the update or signal that carries it, which the Temporal Web UI shows.
        """
        counts = Counter(command.type for command in self.commands)
        named = list(counts.items())[:TYPES_NAMED_MAX]
        words = [type_ if count == 1 else f"{type_} ×{count}" for type_, count in named]
        rest = len(self.commands) - sum(count for _, count in named)
        return ", ".join(words) + (f" +{rest}" if rest else "")


class QueuedCommands(BaseModel):
    """An asynchronous command batch: the payload of a signal."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    command_id: str
    """The idempotency key; for an update, Temporal carries it as the update id."""
    batch: CommandBatch
    pointer: str
    """JSON pointer to command number {} in the caller's request."""


class CommandResult(StoredModel):
    """The result of a command batch; stored, so that a repeated batch gets the same."""

    version: int
    status: str
    total: int
    """In minor units of `currency`."""
    currency: str
    event_types: list[str]
    """Of the events that the batch caused; the last of them has `version`."""
    payload_hash: str
    attempt_id: str | None
    """None where the result was restored from the log, which does not store it."""


class Rejection(StoredModel):
    """Why a command batch was rejected; the details of the ApplicationError that reports it."""

    code: str
    message: str
    version: int
    allowed_commands: list[str]
    index: int = 0
    """Of the rejected command in its batch."""
    field: str | None = None
    """The field of that command to change, where it is one."""
    payload_hash: str | None = None
    """Of the batch, where the rejection is stored."""


class Preview(StoredModel):
    """What a command batch would do to an order as it is now; nothing of it has happened."""

    version: int
    """Of the order before the batch."""
    rejection: Rejection | None = None
    event_types: list[str] = Field(default_factory=list)
    total_before: int = 0
    total_after: int = 0
    to_authorise: int = 0
    """Beyond what is authorised already."""
    to_refund: int = 0
    """Of what is captured already."""
    currency: str = ""


# The codes of rejections by the workflow itself; all others are RejectionCode.
ShellCode = Literal[
    "version-conflict",
    "order-too-large",
    "batch-too-large",
    "log-behind",
    "log-conflict",
    "result-dropped",
    "order-reopening",
]
VERSION_CONFLICT: ShellCode = "version-conflict"
ORDER_TOO_LARGE: ShellCode = "order-too-large"
BATCH_TOO_LARGE: ShellCode = "batch-too-large"
LOG_BEHIND: ShellCode = "log-behind"
LOG_CONFLICT: ShellCode = "log-conflict"
REOPENING: ShellCode = "order-reopening"
RESULT_DROPPED: ShellCode = "result-dropped"
RETRYABLE = (LOG_BEHIND, LOG_CONFLICT, RESULT_DROPPED)
"""The same command may succeed later, so these rejections are not final."""


class Snapshot(StoredModel):
    """All that an order needs to continue in a new run of its workflow."""

    schema_version: int = 1
    order: Order = Order()
    unpublished: list[Envelope] = Field(default_factory=list)
    results: str = ""
    """The stored results, packed: see workflows/idempotency.py."""
    results_dropped_until: datetime | None = None
    """Until then, a key may count whose result had no room any more: only the log knows it."""
    rejections: str = ""
    """The stored rejections, packed likewise."""
    traces: dict[str, str] = Field(default_factory=dict)
    """By step id, the traceparent of the request that led to the step."""
    reopened: bool = False
    """No run preceded this one directly: it begins by reading what the log has since."""
    queued: list[QueuedCommands] = Field(default_factory=list)
    """Asynchronous commands that no run has executed yet."""
    cancellation_ignored: bool = False
    """Temporal was asked to cancel the workflow; the order continued."""


class WorkflowInput(StoredModel):
    """The input of a run: a new order, or one that continues from a snapshot."""

    opening: dict[str, JsonValue] | None = None
    """The command that a new order is opened with, for readers of the Temporal Web UI.

    The update or signal that comes with the start carries the command itself.
    """
    snapshot: Snapshot | None = None

    @classmethod
    def of_opening(cls, batch: CommandBatch) -> WorkflowInput:
        """The input of an order that `batch` opens with its first command."""
        return cls(opening=batch.commands[0].model_dump(mode="json", exclude_none=True))
