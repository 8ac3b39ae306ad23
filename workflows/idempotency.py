"""Exactly-once execution: the result or the rejection of a command batch, by its command id.

Rejections are stored for asynchronous commands only, and apart from results: no number of them
displaces a result.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from itertools import groupby

from pydantic import TypeAdapter

from eventlog.envelope import Envelope, NoOp
from orders.evolve import fold
from orders.models import StoredModel
from orders.order import Order
from workflows.messages import CommandResult, Rejection
from workflows.packing import pack, unpack
from workflows.stored_results import StoredResult, StoredResults

REJECTIONS_MAX = 100
PACKED_REJECTIONS_BYTES_MAX = 30_000


class StoredRejection(StoredModel):
    """The rejection of one asynchronous command batch."""

    command_id: str
    pointer: str
    """JSON pointer to command number {} in the caller's request."""
    rejection: Rejection


class CommandStatus(StoredModel):
    """The status of a command batch: executed, rejected, or, with neither, pending."""

    result: CommandResult | None = None
    rejected: StoredRejection | None = None
    is_unread: bool = False
    """It is pending because the version that the order runs in cannot read it yet."""

    @property
    def payload_hash(self) -> str | None:
        """The hash of the batch that was executed or rejected; None while it is pending."""
        if self.result is not None:
            return self.result.payload_hash
        return self.rejected.rejection.payload_hash if self.rejected is not None else None


StoredRejections = dict[str, StoredRejection]

_UNOPENED = Order()
_REJECTIONS = TypeAdapter(list[StoredRejection])


def result_of(
    order: Order, events: Iterable[Envelope], payload_hash: str, attempt_id: str | None
) -> CommandResult:
    """The result of the batch that caused `events`; `order` is the order after them."""
    return CommandResult(
        version=order.version,
        status=order.status,
        total=order.total,
        currency=order.currency,
        event_types=[e.type for e in events],
        payload_hash=payload_hash,
        attempt_id=attempt_id,
    )


def status_of(
    command_id: str, results: StoredResults, rejections: StoredRejections
) -> CommandStatus | None:
    """The status of a command batch as far as it is stored; None if it is not."""
    if (stored := results.get(command_id)) is not None:
        return CommandStatus(result=stored.result)
    if command_id in rejections:
        return CommandStatus(rejected=rejections[command_id])
    return None


def pack_rejections(rejections: StoredRejections) -> str:
    """The rejections, compressed; while they exceed the limit, the older half is dropped."""
    kept = list(rejections.values())
    while len(text := pack(_REJECTIONS, kept)) > PACKED_REJECTIONS_BYTES_MAX:
        kept = kept[len(kept) // 2 + 1 :]
    return text


def unpack_rejections(text: str) -> StoredRejections:
    """The rejections in a packed text, by command id, oldest first."""
    kept: list[StoredRejection] = unpack(_REJECTIONS, text)
    return {stored.command_id: stored for stored in kept}


def from_stream(
    stream: Iterable[Envelope], order: Order = _UNOPENED, no_ops: Iterable[NoOp] = ()
) -> tuple[Order, dict[str, StoredResult]]:
    """Folds published events into an order and the results of the batches that caused them.

    `stream` holds all events of the order, or all after `order`. The result of a no-op is restored
    if it is among `no_ops`; repeated, another one is decided again. Results of steps and deadlines
    have no payload hash, and none is stored: nobody repeats them under a key.
    """
    results: dict[str, StoredResult] = {}
    at_version: dict[int, list[NoOp]] = defaultdict(list)
    for one in no_ops:
        at_version[one.version].append(one)

    def store(command_id: str, at: datetime, payload_hash: str, events: list[Envelope]) -> None:
        result = result_of(order, events, payload_hash, attempt_id=None)
        results[command_id] = StoredResult(command_id=command_id, at=at, result=result)

    for command_id, caused in groupby(stream, key=lambda e: e.metadata.command_id):
        events = list(caused)
        order = fold((e.event() for e in events), order)
        if payload_hash := events[0].metadata.payload_hash:
            store(command_id, events[0].occurred_at, payload_hash, events)
        for one in at_version[order.version]:
            store(one.command_id, one.decided_at, one.payload_hash, [])
    return order, results
