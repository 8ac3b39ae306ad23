"""Exactly-once execution: the results of recent command batches, stored by command id.

Rejections are stored for asynchronous commands only, and apart from results: no number of them
displaces a result.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from eventlog.envelope import Envelope
from orders.evolve import fold
from orders.models import StoredModel
from orders.order import Order
from workflows.messages import CommandResult, Rejection

RESULTS_MIN = 1_000  # These are kept however old they are.
RETENTION = timedelta(hours=24)
RESULTS_MAX = 3_000
REJECTIONS_MAX = 100

# The snapshot has to stay under Temporal's 2 MB.
PACKED_RESULTS_BYTES_MAX = 300_000
PACKED_REJECTIONS_BYTES_MAX = 30_000


class StoredResult(StoredModel):
    """The result of one command batch, and when it was executed."""

    command_id: str
    at: datetime
    result: CommandResult


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


StoredResults = dict[str, StoredResult]
StoredRejections = dict[str, StoredRejection]

_UNOPENED = Order()
_RESULTS = TypeAdapter(list[StoredResult])
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
    if command_id in results:
        return CommandStatus(result=results[command_id].result)
    if command_id in rejections:
        return CommandStatus(rejected=rejections[command_id])
    return None


class PackedResults(NamedTuple):
    """Results as a snapshot holds them."""

    text: str
    dropped_until: datetime | None
    """Until when keys count whose results had no room; None if there are none, or it has passed."""


def pack_results(results: StoredResults, now: datetime) -> PackedResults:
    """The results to retain, compressed: they are the bulk of an old order's snapshot.

    While they exceed the limit, as only results of huge batches do, the older half is dropped.
    """
    kept = retained(list(results.values()), now)
    while len(text := _pack(_RESULTS, kept)) > PACKED_RESULTS_BYTES_MAX:
        kept = kept[:1] + kept[1 + len(kept) // 2 :]
    known = {stored.command_id for stored in kept}
    dropped = [stored.at + RETENTION for key, stored in results.items() if key not in known]
    return PackedResults(text, max((until for until in dropped if until > now), default=None))


def unpack_results(text: str) -> StoredResults:
    """The results in a packed text, by command id, oldest first."""
    kept: list[StoredResult] = _unpack(_RESULTS, text)
    return {stored.command_id: stored for stored in kept}


def pack_rejections(rejections: StoredRejections) -> str:
    """The rejections, compressed; while they exceed the limit, the older half is dropped."""
    kept = list(rejections.values())
    while len(text := _pack(_REJECTIONS, kept)) > PACKED_REJECTIONS_BYTES_MAX:
        kept = kept[len(kept) // 2 + 1 :]
    return text


def unpack_rejections(text: str) -> StoredRejections:
    """The rejections in a packed text, by command id, oldest first."""
    kept: list[StoredRejection] = _unpack(_REJECTIONS, text)
    return {stored.command_id: stored for stored in kept}


def _pack(shape: TypeAdapter[Any], kept: list[Any]) -> str:
    return base64.b64encode(zlib.compress(shape.dump_json(kept))).decode()


def _unpack(shape: TypeAdapter[Any], text: str) -> Any:
    return shape.validate_json(zlib.decompress(base64.b64decode(text))) if text else []


def retained(results: list[StoredResult], now: datetime) -> list[StoredResult]:
    """The result of the opening, always, and the later ones that are recent or among the last."""
    opening, later = results[:1], results[1:][-RESULTS_MAX:]
    old = [stored for stored in later[:-RESULTS_MIN] if now - stored.at > RETENTION]
    return opening + later[len(old) :]


def merged(stored: StoredResults, logged: StoredResults) -> StoredResults:
    """Stored results and those of the log, oldest first; where both have one, the log's."""
    results = [*(stored | logged).values()]
    return {result.command_id: result for result in sorted(results, key=lambda one: one.at)}


def from_stream(
    stream: Iterable[Envelope], order: Order = _UNOPENED
) -> tuple[Order, StoredResults]:
    """Folds published events into an order and the results of the batches that caused them.

    `stream` holds all events of the order, or all after `order`. A no-op left no event, so its
    result is not restored: repeated, it is decided again.
    """
    results: StoredResults = {}
    for command_id, caused in groupby(stream, key=lambda e: e.metadata.command_id):
        events = list(caused)
        order = fold((e.event() for e in events), order)
        result = result_of(order, events, events[0].metadata.payload_hash, attempt_id=None)
        results[command_id] = StoredResult(
            command_id=command_id, at=events[0].occurred_at, result=result
        )
    return order, results
