"""Reads recorded orders from the log and its journal: their inputs, and what each came to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple, get_args

import asyncpg

from eventlog.intents import UnreadableIntent, unpack_text
from eventlog.postgres import Reader
from workflows.messages import ShellCode

PAGE_SIZE = 100
# The workflow rejects by these what rules have no say in.
_SHELL_CODES = list(get_args(ShellCode))

Fact = tuple[str, int, dict[str, Any]]
"""Type, schema version and data of an event."""


class RecordedInput(NamedTuple):
    """An input of an order, and its outcome."""

    at: str
    """ISO 8601."""
    intent: str | None
    """JSON; None if the journal lacks it."""
    code: str | None
    """Of the rejection."""
    events: Sequence[Fact]


class RecordedOrder(NamedTuple):
    """One order as it was recorded."""

    order_id: str
    inputs: Sequence[RecordedInput]
    damaged: int = 0
    """Entries of the journal that cannot be read."""

    @property
    def events(self) -> list[Fact]:
        return [fact for given in self.inputs for fact in given.events]

    @property
    def without_journal(self) -> int:
        """How many inputs the journal lacks."""
        return sum(given.intent is None for given in self.inputs)

    def line(self, until: datetime) -> bytes:
        """What another process gets of it; deadlines up to `until` have passed."""
        about = {"order_id": self.order_id, "until": until.isoformat(), "inputs": self.inputs}
        return json.dumps(about, separators=(",", ":")).encode() + b"\n"


class Selection(NamedTuple):
    """The orders to read: those opened since a time, or a random sample of them, or all."""

    since: datetime | None = None
    sample: int | None = None


_OPENED = """
    SELECT order_id FROM order_events
    WHERE version = 1 AND ($1::timestamptz IS NULL OR occurred_at >= $1)
"""


async def count_orders(reader: Reader, selection: Selection) -> int:
    found: int = await reader.fetchval(f"SELECT count(*) FROM ({_OPENED}) o", selection.since)
    return min(found, selection.sample or found)


async def end_of_log(reader: Reader) -> datetime | None:
    """The time of the last event; None for an empty log."""
    at: datetime | None = await reader.fetchval(
        "SELECT occurred_at FROM order_events ORDER BY transaction_id DESC, position DESC LIMIT 1"
    )
    return at


async def read_recorded(pool: asyncpg.Pool, selection: Selection) -> AsyncIterator[RecordedOrder]:
    """The selected orders, a page of them in memory at a time."""
    async for order_ids in _pages(pool, selection):
        events = await pool.fetch(
            """
            SELECT order_id, version, type, schema_version, occurred_at, data, intent,
                   metadata->>'command_id' AS command_id
            FROM order_events WHERE order_id = ANY($1) ORDER BY order_id, version
            """,
            order_ids,
        )
        others = await pool.fetch(
            """
            SELECT order_id, version, decided_at, code, body FROM ineffective_intents
            WHERE order_id = ANY($1) AND (code IS NULL OR code <> ALL($2))
            ORDER BY order_id, version, decided_at
            """,
            order_ids,
            _SHELL_CODES,
        )
        by_order = {key: list(rows) for key, rows in groupby(others, key=lambda r: r["order_id"])}
        for order_id, rows in groupby(events, key=lambda row: row["order_id"]):
            yield recorded_order(order_id, list(rows), by_order.get(order_id, []))


async def _pages(pool: asyncpg.Pool, selection: Selection) -> AsyncIterator[list[str]]:
    if selection.sample is not None:
        query = f"{_OPENED} ORDER BY random() LIMIT $2"
        rows = await pool.fetch(query, selection.since, selection.sample)
        for first in range(0, len(rows), PAGE_SIZE):
            yield [row["order_id"] for row in rows[first : first + PAGE_SIZE]]
        return
    last = ""
    query = f"{_OPENED} AND order_id > $2 ORDER BY order_id LIMIT {PAGE_SIZE}"
    while rows := await pool.fetch(query, selection.since, last):
        yield [row["order_id"] for row in rows]
        last = rows[-1]["order_id"]


def recorded_order(
    order_id: str, events: Sequence[Any], ineffective: Sequence[Any]
) -> RecordedOrder:
    """An order from its rows: each in order of version, and within one of time."""
    damaged, known = 0, events[-1]["version"]
    inputs: list[tuple[tuple[int, bool], RecordedInput]] = []
    for row in ineffective:
        if row["version"] > known:
            continue  # Decided after events that are not in the log yet.
        try:
            text = unpack_text(row["body"])
        except UnreadableIntent:
            damaged += 1
            continue
        if '"is_shortened":true' not in text:
            at = row["decided_at"].isoformat()
            inputs.append(((row["version"], False), RecordedInput(at, text, row["code"], ())))
    for caused in _by_cause(events):
        first = caused[0]
        intent = None
        if first["intent"] is not None:
            try:
                intent = unpack_text(first["intent"], first["data"])
            except UnreadableIntent:
                damaged += 1
        facts = [(row["type"], row["schema_version"], row["data"]) for row in caused]
        given = RecordedInput(first["occurred_at"].isoformat(), intent, None, facts)
        inputs.append(((first["version"] - 1, True), given))
    inputs.sort(key=lambda pair: pair[0])
    return RecordedOrder(order_id, [given for _, given in inputs], damaged)


def _by_cause(events: Iterable[Any]) -> Iterator[list[Any]]:
    caused: list[Any] = []
    for row in events:
        if caused and (row["intent"] is not None or row["command_id"] != caused[0]["command_id"]):
            yield caused
            caused = []
        caused.append(row)
    if caused:
        yield caused
