"""The memory that makes commands exactly-once: recent answers by the id of their instruction."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import groupby

from pydantic import TypeAdapter

from eventlog.envelope import Envelope, Stored
from orders.evolve import fold
from orders.order import Order
from workflows.messages import Answer

REMEMBER_AT_LEAST = 1_000
REMEMBER_FOR = timedelta(hours=24)
REMEMBER_AT_MOST = 3_000
PACKED_BYTES_MAX = 300_000  # The snapshot has to stay under Temporal's 2 MB.


class Remembered(Stored):
    """One answer and when it was given."""

    command_id: str
    at: datetime
    answer: Answer


_LIST = TypeAdapter(list[Remembered])


def answer_of(
    order: Order, events: Iterable[Envelope], payload_hash: str, attempt_id: str | None
) -> Answer:
    """What `order`, as it is after `events`, says to the instruction that caused them."""
    return Answer(
        version=order.version,
        status=order.status,
        total=order.total,
        currency=order.currency,
        event_types=[e.type for e in events],
        payload_hash=payload_hash,
        attempt_id=attempt_id,
    )


def packed(answers: dict[str, Remembered], now: datetime) -> str:
    """The answers worth keeping, compressed: they are the bulk of an old order's snapshot.

    Where even so they are too many bytes, as only huge instructions make them, the older half goes.
    """
    kept = recent(list(answers.values()), now)
    while True:
        text = base64.b64encode(zlib.compress(_LIST.dump_json(kept))).decode()
        if len(text) <= PACKED_BYTES_MAX:
            return text
        kept = kept[:1] + kept[1 + len(kept) // 2 :]


def unpacked(text: str) -> dict[str, Remembered]:
    """What `packed` packed, by the id of the instruction, oldest first."""
    if not text:
        return {}
    kept = _LIST.validate_json(zlib.decompress(base64.b64decode(text)))
    return {remembered.command_id: remembered for remembered in kept}


def recent(answers: list[Remembered], now: datetime) -> list[Remembered]:
    """The opening's answer, for ever, and those that are young or among the last thousand."""
    opening, later = answers[:1], answers[1:][-REMEMBER_AT_MOST:]
    old = [a for a in later[:-REMEMBER_AT_LEAST] if now - a.at > REMEMBER_FOR]
    return opening + later[len(old) :]


def from_stream(stream: Iterable[Envelope]) -> tuple[Order, dict[str, Remembered]]:
    """An order that has ended and the answers it gave, folded from all its published events.

    An instruction that changed nothing left no event: asked again, it is decided again.
    """
    order, answers = Order(), dict[str, Remembered]()
    for command_id, caused in groupby(stream, key=lambda e: e.metadata.command_id):
        events = list(caused)
        order = fold((e.event() for e in events), order)
        answer = answer_of(order, events, events[0].metadata.payload_hash, attempt_id=None)
        answers[command_id] = Remembered(
            command_id=command_id, at=events[0].occurred_at, answer=answer
        )
    return order, answers
