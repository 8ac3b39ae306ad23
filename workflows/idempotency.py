"""The memory that makes commands exactly-once: recent answers by the id of their instruction.

Refusals are remembered only of instructions that nobody waited for, and apart: however many there
are, they push out no answer.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from pydantic import TypeAdapter

from eventlog.envelope import Envelope
from orders.evolve import fold
from orders.models import StoredModel
from orders.order import Order
from workflows.messages import CommandResult, Rejection

REMEMBER_AT_LEAST = 1_000
REMEMBER_FOR = timedelta(hours=24)
REMEMBER_AT_MOST = 3_000
REJECTIONS_MAX = 100

# The snapshot has to stay under Temporal's 2 MB.
PACKED_BYTES_MAX = 300_000
PACKED_REJECTIONS_BYTES_MAX = 30_000


class StoredResult(StoredModel):
    """One answer and when it was given."""

    command_id: str
    at: datetime
    answer: CommandResult


class StoredRejection(StoredModel):
    """One refusal, for whoever asks later what became of the instruction."""

    command_id: str
    place: str
    """Of the commands in the caller's request, as it was posted."""
    refusal: Rejection


class CommandStatus(StoredModel):
    """What became of an instruction; with neither answer nor refusal, it still waits."""

    answer: CommandResult | None = None
    refused: StoredRejection | None = None

    @property
    def payload_hash(self) -> str | None:
        """Of what was carried out or refused; None while it waits."""
        if self.answer is not None:
            return self.answer.payload_hash
        return self.refused.refusal.payload_hash if self.refused is not None else None


StoredResults = dict[str, StoredResult]
StoredRejections = dict[str, StoredRejection]

_UNOPENED = Order()
_LIST = TypeAdapter(list[StoredResult])
_REFUSALS = TypeAdapter(list[StoredRejection])


def result_of(
    order: Order, events: Iterable[Envelope], payload_hash: str, attempt_id: str | None
) -> CommandResult:
    """What `order`, as it is after `events`, says to the instruction that caused them."""
    return CommandResult(
        version=order.version,
        status=order.status,
        total=order.total,
        currency=order.currency,
        event_types=[e.type for e in events],
        payload_hash=payload_hash,
        attempt_id=attempt_id,
    )


def outcome(
    command_id: str, answers: StoredResults, refusals: StoredRejections
) -> CommandStatus | None:
    """What is remembered of an instruction; None if nothing is."""
    if command_id in answers:
        return CommandStatus(answer=answers[command_id].answer)
    if command_id in refusals:
        return CommandStatus(refused=refusals[command_id])
    return None


def packed(answers: StoredResults, now: datetime) -> str:
    """The answers worth keeping, compressed: they are the bulk of an old order's snapshot.

    Where even so they are too many bytes, as only huge instructions make them, the older half goes.
    """
    kept = recent(list(answers.values()), now)
    while len(text := _pack(_LIST, kept)) > PACKED_BYTES_MAX:
        kept = kept[:1] + kept[1 + len(kept) // 2 :]
    return text


def unpacked(text: str) -> StoredResults:
    """What `packed` packed, by the id of the instruction, oldest first."""
    kept: list[StoredResult] = _unpack(_LIST, text)
    return {remembered.command_id: remembered for remembered in kept}


def packed_rejections(refusals: StoredRejections) -> str:
    """The last of the refusals, compressed; those that all together are too many bytes go."""
    kept = list(refusals.values())
    while len(text := _pack(_REFUSALS, kept)) > PACKED_REJECTIONS_BYTES_MAX:
        kept = kept[len(kept) // 2 + 1 :]
    return text


def unpacked_rejections(text: str) -> StoredRejections:
    kept: list[StoredRejection] = _unpack(_REFUSALS, text)
    return {remembered.command_id: remembered for remembered in kept}


def _pack(shape: TypeAdapter[Any], kept: list[Any]) -> str:
    return base64.b64encode(zlib.compress(shape.dump_json(kept))).decode()


def _unpack(shape: TypeAdapter[Any], text: str) -> Any:
    return shape.validate_json(zlib.decompress(base64.b64decode(text))) if text else []


def recent(answers: list[StoredResult], now: datetime) -> list[StoredResult]:
    """The opening's answer, for ever, and those that are young or among the last thousand."""
    opening, later = answers[:1], answers[1:][-REMEMBER_AT_MOST:]
    old = [a for a in later[:-REMEMBER_AT_LEAST] if now - a.at > REMEMBER_FOR]
    return opening + later[len(old) :]


def from_stream(
    stream: Iterable[Envelope], order: Order = _UNOPENED
) -> tuple[Order, StoredResults]:
    """An order that has ended and the answers it gave, folded from all its published events.

    Or from those that came after `order`. An instruction that changed nothing left no event: asked
    again, it is decided again.
    """
    answers: StoredResults = {}
    for command_id, caused in groupby(stream, key=lambda e: e.metadata.command_id):
        events = list(caused)
        order = fold((e.event() for e in events), order)
        answer = result_of(order, events, events[0].metadata.payload_hash, attempt_id=None)
        answers[command_id] = StoredResult(
            command_id=command_id, at=events[0].occurred_at, answer=answer
        )
    return order, answers
