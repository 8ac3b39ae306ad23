"""The kinds of differences that a restore leaves, and the sentences about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from cli.history_comparison import ranges
from workflows.comparison import Comparison


class Kind(StrEnum):
    """A kind of difference. The first three are repaired by `orderly restore apply`."""

    MISSING = "missing in the log"
    AHEAD = "ahead of Temporal"
    UNKNOWN = "unknown to Temporal"
    LOST = "lost in both"
    FORKED = "forked"
    KEY = "sealed under a missing key"
    VIEW = "ahead in order_view"
    DUMP = "positions of another server"


REPAIRED = (Kind.MISSING, Kind.AHEAD, Kind.UNKNOWN)
HINTS = {
    **dict.fromkeys(REPAIRED, "`orderly restore apply`"),
    Kind.LOST: "restore a newer backup, or `orderly restore overrule`",
    Kind.FORKED: "decide: docs/operations.md, then `orderly restore overrule`",
    Kind.KEY: "restore a newer backup of customer_keys, or `orderly forget-key`",
    Kind.VIEW: "`orderly projections rebuild order_view`",
    Kind.DUMP: "run the statements for a restored dump: docs/operations.md",
}


class Difference(NamedTuple):
    """What differs about an order: a sentence without its subject and its full stop."""

    order_id: str
    """Empty where it concerns the log as a whole."""
    kind: Kind
    text: str
    events: int = 0
    """The number of events that it is about, where it is about events."""

    def __str__(self) -> str:
        return f"order {self.order_id}: {self.text}" if self.order_id else self.text


def history_differences(order_id: str, found: Comparison, has_ended: bool) -> Iterator[Difference]:
    def difference(kind: Kind, versions: Sequence[int], text: str) -> Difference:
        text = f"version {ranges(versions)} {text}"
        return Difference(order_id, kind, text, len(versions))

    if found.missing:
        missing = [event.version for event in found.missing]
        yield difference(Kind.MISSING, missing, "was published, and the log lacks it")
    if found.lost:
        yield difference(
            Kind.LOST, found.lost, "was published, and neither the log nor Temporal has it"
        )
    if found.forked:
        forked = [event.version for event in found.forked]
        yield difference(Kind.FORKED, forked, "is another event in the log than in Temporal")
    if found.newest is None and not has_ended:
        yield Difference(order_id, Kind.UNKNOWN, "Temporal has no workflow of it")
    if found.ahead and not (has_ended and found.newest is not None and found.newest.is_closed):
        text = f"its workflow lacks the last {found.ahead} events of the log"
        yield Difference(order_id, Kind.AHEAD, text, found.ahead)
