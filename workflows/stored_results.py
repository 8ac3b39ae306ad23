"""The results of an order's command batches, in chunks of which a snapshot carries the packed text.

A run unpacks a chunk only for a repeated batch: what a command costs does not depend on how many
results the order has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from pydantic import TypeAdapter

from orders.models import StoredModel
from workflows.messages import CommandResult
from workflows.packing import pack, unpack

RESULTS_MIN = 1_000  # These are kept however old they are.
RETENTION = timedelta(hours=24)
RESULTS_MAX = 3_000
RESULTS_PER_CHUNK = 200

# The snapshot has to stay under Temporal's 2 MB.
RESULTS_BYTES_MAX = 300_000
CHUNK_BYTES_MAX = 30_000  # Of several results.
MARK_CHARACTERS = 6


class StoredResult(StoredModel):
    """The result of one command batch, and when it was executed."""

    command_id: str
    at: datetime
    result: CommandResult


class ResultChunk(StoredModel):
    """Stored results of batches that were executed one after the other."""

    text: str
    """The results, packed."""
    marks: str
    """The beginnings of their command ids, to find the chunk that a batch may be in."""
    count: int
    last_at: datetime


_RESULTS = TypeAdapter(list[StoredResult])


class PackedResults(NamedTuple):
    """Results as a snapshot holds them."""

    chunks: list[ResultChunk]
    dropped_until: datetime | None
    """Until when keys count whose results had no room; None if there are none, or it has passed."""


class StoredResults:
    """The results of earlier runs, packed, and those of this run."""

    def __init__(self, chunks: Sequence[ResultChunk] = ()) -> None:
        self._chunks = tuple(chunks)
        self._of_this_run: dict[str, StoredResult] = {}

    def __contains__(self, command_id: str) -> bool:
        return self.get(command_id) is not None

    def __getitem__(self, command_id: str) -> StoredResult:
        if (found := self.get(command_id)) is None:
            raise KeyError(command_id)
        return found

    def get(self, command_id: str) -> StoredResult | None:
        """The result of a batch; None if it was not executed, or its result was dropped."""
        if command_id in self._of_this_run:
            return self._of_this_run[command_id]
        mark = _mark(command_id)
        marked = (chunk for chunk in self._chunks if mark in chunk.marks)
        found = (by_id(_unpacked(chunk)).get(command_id) for chunk in marked)
        return next((stored for stored in found if stored is not None), None)

    def add(self, *results: StoredResult) -> None:
        """Stores the results of further batches."""
        self._of_this_run |= by_id(results)

    def all(self) -> list[StoredResult]:
        """All results, oldest first."""
        packed = [stored for chunk in self._chunks for stored in _unpacked(chunk)]
        return [*packed, *self._of_this_run.values()]

    def packed(self, now: datetime) -> PackedResults:
        """The results to retain. What is dropped are the oldest chunks, but never the first."""
        chunks = list(self._chunks)
        fresh = list(self._of_this_run.values())
        if fresh and chunks and chunks[-1].count < RESULTS_PER_CHUNK:
            fresh = [*_unpacked(chunks.pop()), *fresh]
        chunks += _packed(fresh)
        kept = _retained(chunks, now)
        dropped = [chunk.last_at + RETENTION for chunk in chunks if chunk not in kept]
        return PackedResults(kept, max((until for until in dropped if until > now), default=None))

    def packed_as_of_last(self) -> PackedResults:
        """The results to retain, by the time of the newest: without a clock that may be wrong."""
        if not (results := self.all()):
            return PackedResults([], None)
        return self.packed(max(stored.at for stored in results))


def by_id(results: Iterable[StoredResult]) -> dict[str, StoredResult]:
    return {stored.command_id: stored for stored in results}


def of_results(results: Mapping[str, StoredResult]) -> StoredResults:
    """A store with these results."""
    store = StoredResults()
    store.add(*results.values())
    return store


def merged(stored: StoredResults, logged: Mapping[str, StoredResult]) -> StoredResults:
    """Stored results and those of the log, oldest first; where both have one, the log's."""
    results = [*{**by_id(stored.all()), **logged}.values()]
    store = StoredResults()
    store.add(*sorted(results, key=lambda one: one.at))
    return store


def _retained(chunks: Sequence[ResultChunk], now: datetime) -> list[ResultChunk]:
    """The chunk of the opening, always, and the later ones that are recent or among the last."""
    kept: list[ResultChunk] = []
    size = sum(map(_bytes_of, chunks[:1]))
    for chunk in reversed(chunks[1:]):
        later, size = sum(other.count for other in kept), size + _bytes_of(chunk)
        is_old = later >= RESULTS_MIN and now - chunk.last_at > RETENTION
        if is_old or later >= RESULTS_MAX or size > RESULTS_BYTES_MAX:
            break
        kept.append(chunk)
    return [*chunks[:1], *reversed(kept)]


def _packed(results: Sequence[StoredResult]) -> list[ResultChunk]:
    """Chunks of this many results, or of fewer if they are large."""
    starts = range(0, len(results), RESULTS_PER_CHUNK)
    parts = (results[start : start + RESULTS_PER_CHUNK] for start in starts)
    return [chunk for part in parts for chunk in _chunks(part)]


def _chunks(results: Sequence[StoredResult]) -> list[ResultChunk]:
    chunk = ResultChunk(
        text=pack(_RESULTS, results),
        marks="".join(_mark(stored.command_id) for stored in results),
        count=len(results),
        last_at=max(stored.at for stored in results),
    )
    if len(results) == 1 or _bytes_of(chunk) <= CHUNK_BYTES_MAX:
        return [chunk]
    half = len(results) // 2
    return [*_chunks(results[:half]), *_chunks(results[half:])]


def _unpacked(chunk: ResultChunk) -> list[StoredResult]:
    results: list[StoredResult] = unpack(_RESULTS, chunk.text)
    return results


def _mark(command_id: str) -> str:
    """What a chunk shows of a command id, so that few are unpacked in vain."""
    return f" {command_id[:MARK_CHARACTERS]}"


def _bytes_of(chunk: ResultChunk) -> int:
    return len(chunk.text) + len(chunk.marks)
