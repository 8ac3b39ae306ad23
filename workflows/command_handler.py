"""Decides on a command batch: events or a rejection, alike for an open order and an ended one."""

from __future__ import annotations

from datetime import datetime

from eventlog.envelope import Envelope, Metadata
from orders import ledger
from orders.decider import allowed_commands, decide_all
from orders.order import Order
from orders.rules.checks import CommandRejected, RejectionCode
from workflows.messages import VERSION_CONFLICT, CommandBatch, Preview, Rejection, ShellCode


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


def decide_batch(
    batch: CommandBatch, order: Order, command_id: str, now: datetime
) -> tuple[list[Envelope], Order]:
    """The events that `batch` causes, ready for the log, and the order after them.

    Raises Rejected.
    """
    expected = batch.expected_versions
    if expected is not None and order.version not in expected:
        versions = " or ".join(map(str, expected))
        raise rejected_by(
            order, VERSION_CONFLICT, f"the order is at version {order.version}, not {versions}"
        )
    try:
        decided, after = decide_all(batch.commands, order, now)
    except CommandRejected as error:
        raise rejected_by(order, error.code, error.message, error.index, error.field) from error
    events = [
        Envelope.of(event, version, now, _metadata(batch, command.type, command_id))
        for version, (command, event) in enumerate(decided, start=order.version + 1)
    ]
    return events, after


def preview(batch: CommandBatch, order: Order, now: datetime) -> Preview:
    """What `batch` would do to `order` now."""
    try:
        events, after = decide_batch(batch, order, "preview", now)
    except Rejected as error:
        return Preview(version=order.version, rejection=error.rejection)
    return Preview(
        version=order.version,
        event_types=[event.type for event in events],
        total_before=order.total,
        total_after=after.total,
        to_authorise=ledger.to_authorise(after),
        to_refund=max(0, ledger.net_captured(order) - ledger.due(after)),
        currency=order.currency,
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
