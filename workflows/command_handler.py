"""Decides on a command batch: events or a rejection, alike for an open order and an ended one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

from eventlog.envelope import Envelope, Ineffective, Metadata, bytes_of
from eventlog.intents import Intent, RejectionReason, pack
from orders import ledger
from orders.decider import allowed_commands, decide_all
from orders.order import Order
from orders.rules.checks import CommandRejected, RejectionCode
from orders.steps import Refund
from workflows.activity_options import summary
from workflows.messages import (
    BATCH_TOO_LARGE,
    NOT_KNOWN_YET,
    VERSION_CONFLICT,
    CommandBatch,
    PlannedStep,
    Preview,
    Rejection,
    ShellCode,
    UnreadCommand,
    as_set,
)

# Deciding on so much takes half a second; the SDK stops a workflow task after two.
EVENTS_BYTES_MAX = 750_000
# Of what changes nothing, the journal keeps the types alone if it is larger, packed.
INEFFECTIVE_BYTES_MAX = 10_000

PREVIEW_ID = "preview"
"""The command id of what is only previewed."""


class Decided(NamedTuple):
    """The events of a command batch, the order after them, and the events' bytes in a snapshot."""

    events: list[Envelope]
    order: Order
    size: int


class Rejected(Exception):
    """A command batch was rejected and changed nothing; `rejection` says why."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection.message)
        self.rejection = rejection


def rejected_by(
    order: Order,
    code: RejectionCode | ShellCode,
    message: str,
    index: int = 0,
    field: str | None = None,
) -> Rejected:
    """A rejection by `order`, with the commands that it allows instead."""
    return Rejected(
        Rejection(
            code=code,
            message=message,
            version=order.version,
            allowed_commands=allowed_commands(order),
            index=index,
            field=field,
        )
    )


def decide_batch(batch: CommandBatch, order: Order, command_id: str, now: datetime) -> Decided:
    """The events that `batch` causes, ready for the log, and the order after them.

    Raises Rejected.
    """
    expected = batch.expected_versions
    if expected is not None and order.version not in expected:
        versions = " or ".join(map(str, expected))
        raise rejected_by(
            order, VERSION_CONFLICT, f"the order is at version {order.version}, not {versions}"
        )
    events: list[Envelope] = []
    after, size = order, 0
    for index, command in enumerate(batch.commands):
        if isinstance(command, UnreadCommand):
            message = f"the version that the order runs in cannot read this {command.type} yet"
            raise rejected_by(order, NOT_KNOWN_YET, message, index)
        try:
            decided, after = decide_all([command], after, now)
        except CommandRejected as error:
            raise rejected_by(order, error.code, error.message, index, error.field) from error
        metadata = _metadata(batch, command.type, command_id)
        first = order.version + len(events) + 1
        caused = [
            Envelope.of(event, version, now, metadata)
            for version, (_, event) in enumerate(decided, start=first)
        ]
        if len(batch.commands) > 1:
            size += bytes_of(caused)
        if index and size > EVENTS_BYTES_MAX:
            most = f"{EVENTS_BYTES_MAX // 1000} kB"
            message = f"the commands cause more than {most} of events: send them in smaller batches"
            raise rejected_by(order, BATCH_TOO_LARGE, message, index)
        events += caused
    if events:
        intent = pack(_intent(batch), events[0].data)
        events[0] = events[0].model_copy(update={"intent": intent})
    return Decided(events, after, bytes_of(events))


def ineffective(
    batch: CommandBatch,
    command_id: str,
    version: int,
    now: datetime,
    rejection: Rejection | None = None,
) -> Ineffective:
    """The journal entry of a batch that changed nothing: a no-op, or a rejection."""
    intent = _intent(batch).model_copy(
        update={
            "metadata": _metadata(batch, batch.commands[0].type, command_id),
            "rejection": rejection
            and RejectionReason(
                code=rejection.code,
                message=rejection.message,
                index=rejection.index,
                field=rejection.field,
            ),
        }
    )
    packed = pack(intent)
    if len(packed) > INEFFECTIVE_BYTES_MAX:
        types = [{"type": command.type} for command in batch.commands]
        packed = pack(intent.model_copy(update={"messages": types, "is_shortened": True}))
    return Ineffective(
        version=version,
        decided_at=now,
        command_id=command_id,
        code=rejection and rejection.code,
        intent=packed,
    )


def preview(batch: CommandBatch, order: Order, now: datetime) -> Preview:
    """What `batch` would do to `order` now."""
    return preview_of(order, lambda: decide_batch(batch, order, PREVIEW_ID, now))


def preview_of(order: Order, decide: Callable[[], Decided]) -> Preview:
    """What a decision on `order` would do."""
    try:
        events, after, _ = decide()
    except Rejected as error:
        return Preview(version=order.version, rejection=error.rejection)
    new_steps = [step for step_id, step in after.steps.items() if step_id not in order.steps]
    requested = sum(step.amount for step in new_steps if isinstance(step, Refund))
    return Preview(
        version=order.version,
        status=after.status,
        events=events,
        steps=[
            PlannedStep(
                step_id=step.step_id,
                type=step.type,
                service=step.service,
                summary=summary(step, after.currency),
            )
            for step in new_steps
        ],
        total_before=order.total,
        total_after=after.total,
        to_authorise=ledger.to_authorise(after) if after.is_priced else 0,
        to_refund=requested + ledger.to_refund(after) if after.is_priced else 0,
        currency=after.currency,
        titles={line.line_id: line.title for line in order.lines.values()},
    )


def _intent(batch: CommandBatch) -> Intent:
    return Intent(
        messages=[*map(as_set, batch.commands)], expected_versions=batch.expected_versions
    )


def _metadata(batch: CommandBatch, command: str, command_id: str) -> Metadata:
    return Metadata(
        actor=batch.actor,
        command=command,
        command_id=command_id,
        payload_hash=batch.payload_hash,
        request_id=batch.request_id,
        traceparent=batch.traceparent,
    )
