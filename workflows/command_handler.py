"""From an instruction to events or a refusal; the same for an open order and for an ended one."""

from __future__ import annotations

from datetime import datetime

from eventlog.envelope import Envelope, Metadata
from orders import ledger
from orders.decider import allowed_commands, decide_all
from orders.order import Order
from orders.rules.checks import CommandRejected, RejectionCode
from workflows.messages import VERSION_CONFLICT, CommandBatch, Preview, Rejection, ShellCode


class Rejected(Exception):
    """An instruction changed nothing, and `refusal` says why."""

    def __init__(self, refusal: Rejection) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def refused(
    order: Order,
    code: RejectionCode | ShellCode,
    message: str,
    index: int = 0,
    field: str | None = None,
) -> Rejected:
    """A refusal by `order`, with what it would allow instead."""
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


def decide_batch(
    instruction: CommandBatch, order: Order, command_id: str, now: datetime
) -> tuple[list[Envelope], Order]:
    """The events that follow, ready for the log, and the order after them; raises Refused."""
    expected = instruction.expected_versions
    if expected is not None and order.version not in expected:
        versions = " or ".join(map(str, expected))
        raise refused(
            order, VERSION_CONFLICT, f"the order is at version {order.version}, not {versions}"
        )
    try:
        decided, after = decide_all(instruction.commands, order, now)
    except CommandRejected as no:
        raise refused(order, no.code, no.message, no.index, no.field) from no
    events = [
        Envelope.of(event, version, now, _metadata(instruction, command.type, command_id))
        for version, (command, event) in enumerate(decided, start=order.version + 1)
    ]
    return events, after


def preview(instruction: CommandBatch, order: Order, now: datetime) -> Preview:
    """What an instruction would do to an order, were it sent now."""
    try:
        events, after = decide_batch(instruction, order, "preview", now)
    except Rejected as no:
        return Preview(version=order.version, refusal=no.refusal)
    return Preview(
        version=order.version,
        event_types=[event.type for event in events],
        total_before=order.total,
        total_after=after.total,
        to_authorise=ledger.to_authorise(after),
        to_refund=max(0, ledger.net_captured(order) - ledger.due(after)),
        currency=order.currency,
    )


def _metadata(instruction: CommandBatch, command: str, command_id: str) -> Metadata:
    return Metadata(
        actor=instruction.actor,
        command=command,
        command_id=command_id,
        payload_hash=instruction.payload_hash,
        request_id=instruction.request_id,
        traceparent=instruction.traceparent,
    )
