"""What crosses the border of an order's workflow: instructions in, answers and refusals out."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from eventlog.envelope import Envelope
from orders.commands import AnyCommand
from orders.models import StoredModel
from orders.order import Order
from orders.steps import StepResult

TASK = "OrderWorkflow"  # The workflow type, part of every open order's history.
COMMANDS_MAX = 600
TYPES_NAMED_MAX = 3


class CommandBatch(BaseModel):
    """Commands or results on their way to one order, all or nothing, and who sends them."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    commands: list[Annotated[AnyCommand | StepResult, Field(discriminator="type")]] = Field(
        min_length=1, max_length=COMMANDS_MAX
    )
    expected_versions: list[int] | None = None
    """What the caller believes the order's version to be; checked by the order itself."""
    actor: str
    payload_hash: str
    """Of the commands as they were received: tells a repeated request from a changed one."""
    attempt_id: str
    """Of the one HTTP request that carries it: tells the first answer from a repeated one."""
    request_id: str | None = None
    traceparent: str | None = None

    @property
    def name(self) -> str:
        """Its commands in a few words, as in "add-item-to-order ×12, place-order".

        The name of the update or signal that carries it, which the Temporal Web UI shows.
        """
        counts = Counter(command.type for command in self.commands)
        named = list(counts.items())[:TYPES_NAMED_MAX]
        words = [type_ if count == 1 else f"{type_} ×{count}" for type_, count in named]
        rest = len(self.commands) - sum(count for _, count in named)
        return ", ".join(words) + (f" +{rest}" if rest else "")


class QueuedCommands(BaseModel):
    """An instruction that nobody waits for, with the id under which it counts once."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    command_id: str
    instruction: CommandBatch
    place: str
    """Where the caller's request has the command number {}, for a refusal to point to."""


class CommandResult(StoredModel):
    """What an order says to an instruction; remembered, so that asking again gets the same."""

    version: int
    status: str
    total: int
    """In minor units of `currency`."""
    currency: str
    event_types: list[str]
    """Of the events that it caused; the last of them made `version`."""
    payload_hash: str
    attempt_id: str | None
    """None where the answer was restored from the log, which does not keep it."""


class Rejection(StoredModel):
    """Why an instruction changed nothing; the details of the ApplicationError that says so."""

    code: str
    message: str
    version: int
    allowed_commands: list[str]
    index: int = 0
    """The place of the refused command in its instruction."""
    field: str | None = None
    """The field of that command to change, where it is one."""
    payload_hash: str | None = None
    """Of the instruction, where the refusal is remembered."""


class Preview(StoredModel):
    """What an instruction would do to an order as it is now; nothing of it has happened."""

    version: int
    """Of the order that was asked."""
    refusal: Rejection | None = None
    event_types: list[str] = Field(default_factory=list)
    total_before: int = 0
    total_after: int = 0
    to_authorise: int = 0
    """Beyond what is authorised already."""
    to_refund: int = 0
    """Of what is captured already."""
    currency: str = ""


# The codes of rejections by the workflow itself; all others are RejectionCode.
ShellCode = Literal["version-conflict", "order-too-large", "log-behind", "order-reopening"]
VERSION_CONFLICT: ShellCode = "version-conflict"
ORDER_TOO_LARGE: ShellCode = "order-too-large"
LOG_BEHIND: ShellCode = "log-behind"
REOPENING: ShellCode = "order-reopening"


class Snapshot(StoredModel):
    """All that an order needs to go on in a new run of its workflow."""

    schema_version: int = 1
    order: Order = Order()
    unpublished: list[Envelope] = Field(default_factory=list)
    answers: str = ""
    """The remembered answers, packed: see workflows/answers.py."""
    refusals: str = ""
    """The remembered refusals, packed alike."""
    traces: dict[str, str] = Field(default_factory=dict)
    """By step id, the trace of the request that led to the step."""
    reopened: bool = False
    """The order had ended; it may go on only if the log has nothing newer than this snapshot."""


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
