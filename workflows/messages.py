"""The messages of an order's workflow: command batches in, results and rejections out."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer

from eventlog.envelope import Envelope
from orders.commands import AnyCommand, OrderCommand
from orders.models import StoredModel, StrictModel
from orders.steps import StepResult

WORKFLOW_TYPE = "OrderWorkflow"  # Part of the history of every open order.
COMMANDS_MAX = 600
CUSTOMER_ACTOR = "customer:"  # Begins the actor of a customer's batch.
TYPES_NAMED_MAX = 3
MOVE = "move-to-current-version"
"""The name of a signal without arguments: the order looks whether to go on in another version."""
UNREAD_SIGNAL = "unread-signal"
"""The type of an unread command that holds a whole signal."""


class UnreadCommand(BaseModel):
    """A command that this version cannot read: its type, or a field of it, is of another version.

    It keeps all that the sender wrote, so that a version that knows it can read it later.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str


_ReadCommand = Annotated[AnyCommand | StepResult, Field(discriminator="type")]


class CommandBatch(BaseModel):
    """Commands, or results of services, for one order, with their actor: all or nothing."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    commands: list[Annotated[_ReadCommand | UnreadCommand, Field(union_mode="left_to_right")]] = (
        Field(min_length=1)
    )
    """The API accepts COMMANDS_MAX. Here is no limit: a newer version may accept more."""
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

    @field_serializer("commands")
    def _as_set(self, commands: list[BaseModel]) -> list[Any]:
        """Without the defaults that the caller did not set: an older version may not know them."""
        return [as_set(command) for command in commands]

    @property
    def is_readable(self) -> bool:
        """Whether this version can read all of its commands."""
        return not any(isinstance(command, UnreadCommand) for command in self.commands)

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
    received_at: datetime | None = None
    """When the order received it, if it could not execute it at once."""

    @classmethod
    def read(cls, sent: Any) -> QueuedCommands:
        """The commands in a signal; raises ValueError if it is none that any version sends.

        What this version cannot read travels as one unread command, which older ones keep as well.
        """
        try:
            return cls.model_validate(sent)
        except ValidationError:
            match sent:
                case {
                    "command_id": str(command_id),
                    "batch": {"actor": str(actor), "payload_hash": str(payload_hash)},
                }:
                    whole = UnreadCommand.model_validate({"type": UNREAD_SIGNAL, "signal": sent})
                    batch = CommandBatch(
                        commands=[whole], actor=actor, payload_hash=payload_hash, attempt_id=""
                    )
                    return cls(command_id=command_id, batch=batch, pointer="#")
            raise

    @property
    def unread_signal(self) -> Any:
        """The whole signal, if this version could read no more than its key; otherwise None."""
        first = self.batch.commands[0]
        is_whole = isinstance(first, UnreadCommand) and first.type == UNREAD_SIGNAL
        return (first.model_extra or {}).get("signal") if is_whole else None

    def read_again(self) -> QueuedCommands:
        """The commands as this version reads them."""
        if (signal := self.unread_signal) is None:
            return QueuedCommands.model_validate(self.model_dump(mode="json"))
        again = QueuedCommands.read(signal)
        return again.model_copy(update={"received_at": self.received_at})


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


class PlannedStep(StoredModel):
    """A step that a command batch would ask an external service for."""

    step_id: str
    type: str
    service: str
    summary: str
    """In words, as in the Temporal Web UI."""


class Preview(StoredModel):
    """What a command batch would do to an order as it is now; nothing of it has happened."""

    version: int
    """Of the order before the batch."""
    rejection: Rejection | None = None
    status: str = ""
    """After the batch."""
    events: list[Envelope] = Field(default_factory=list)
    steps: list[PlannedStep] = Field(default_factory=list)
    total_before: int = 0
    total_after: int = 0
    to_authorise: int = 0
    """Beyond what is authorised already."""
    to_refund: int = 0
    """Of what is captured already."""
    currency: str = ""
    titles: dict[str, str] = Field(default_factory=dict)
    """Of the lines before the batch, by their ids."""


# The codes of rejections by the workflow itself; all others are RejectionCode.
ShellCode = Literal[
    "version-conflict",
    "order-too-large",
    "batch-too-large",
    "log-behind",
    "log-conflict",
    "result-dropped",
    "order-reopening",
    "not-known-yet",
    "event-unreadable",
]
VERSION_CONFLICT: ShellCode = "version-conflict"
ORDER_TOO_LARGE: ShellCode = "order-too-large"
BATCH_TOO_LARGE: ShellCode = "batch-too-large"
LOG_BEHIND: ShellCode = "log-behind"
LOG_CONFLICT: ShellCode = "log-conflict"
REOPENING: ShellCode = "order-reopening"
RESULT_DROPPED: ShellCode = "result-dropped"
NOT_KNOWN_YET: ShellCode = "not-known-yet"
EVENT_UNREADABLE: ShellCode = "event-unreadable"
RETRYABLE = (LOG_BEHIND, LOG_CONFLICT, RESULT_DROPPED, NOT_KNOWN_YET, EVENT_UNREADABLE)
"""The same command may succeed later, so these rejections are not final."""


def as_set(value: Any) -> Any:
    """A part of a command as JSON: its type, and the fields that were set."""
    match value:
        case StrictModel():
            return {
                name: as_set(getattr(value, name))
                for name in type(value).model_fields
                if name in value.model_fields_set or name == "type"
            }
        case UnreadCommand():
            return value.model_dump(mode="json")
        case BaseModel():
            return value.model_dump(mode="json", exclude_none=True)
        case list():
            return [as_set(part) for part in value]
        case _:
            return value
