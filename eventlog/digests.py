"""Digests: how many events a part of the log has, and the sum of the hashes of their ids.

Equal events have equal digests, in any order. Digests are by slice: the
orders whose hash begins with certain hexadecimal digits. For all orders they are added up from
blocks that are kept as the log grows (`digest_blocks.py`), and from the few events that are in none
yet; for some orders they are computed from the streams of these.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from eventlog.feed import EventFilter
from eventlog.log import START, Checkpoint
from eventlog.postgres import Reader

HASH_DIGITS = 7
"""Of an order's hash."""
SLICE_DIGITS_MAX = HASH_DIGITS - 1
"""Of the name of a slice that can be read, so that those within it have a name, too."""
LEVEL_FACTOR = 16
"""Blocks of a level that one block of the next has."""
LEVELS = 8
KEPT_DIGITS = 2
"""Slices with longer names are computed from the streams of their orders."""
# Limits of what one read computes, so that it stays far below the time that a statement may take.
UNKEPT_EVENTS_MAX = 100_000
ORDERS_MAX = 10_000

_MODULUS = 2**64


class DigestsBehind(Exception):
    """Too many events are in no block yet: to add them up would take long."""


class TooManyOrders(Exception):
    """The filter names more than ORDERS_MAX orders of the slice."""


@dataclass(frozen=True, slots=True)
class Digest:
    """A number of events, and the sum of the hashes of their ids, modulo 2 ** 64."""

    count: int = 0
    sum: int = 0

    def __add__(self, other: Digest) -> Digest:
        return Digest(self.count + other.count, (self.sum + other.sum) % _MODULUS)

    def __sub__(self, other: Digest) -> Digest:
        return Digest(self.count - other.count, (self.sum - other.sum) % _MODULUS)

    def __str__(self) -> str:
        return f"{self.sum:016x}"


class Digests(NamedTuple):
    """The digests of a slice."""

    slices: dict[str, Digest]
    """Of the slices whose names are longer by one digit; without those that have no events."""
    orders: dict[str, Digest] | None
    """Of its orders, if they were read from their streams."""

    @property
    def whole(self) -> Digest:
        """Of all its events."""
        return total(self.slices.values())


def digits_of(level: int) -> int:
    """How many digits the slices of a block have."""
    return min(level + 1, KEPT_DIGITS)


def order_hash(order_id: str) -> str:
    """The digits with which the names of an order's slices begin."""
    return hashlib.sha256(order_id.encode()).hexdigest()[:HASH_DIGITS]


def total(digests: Iterable[Digest]) -> Digest:
    return sum(digests, Digest())


async def read(
    reader: Reader, after: Checkpoint, until: Checkpoint, filter: EventFilter, slice: str
) -> Digests:
    """The digests of a slice over the matching events after one checkpoint, up to another.

    Up to `until`, all events must be settled. Raises DigestsBehind or TooManyOrders.
    """
    if filter.names_orders or len(slice) >= KEPT_DIGITS:
        return await _of_orders(reader, after, until, filter, slice)
    if after >= until:
        return Digests({}, None)
    found = await _up_to(reader, until, filter, slice)
    before = await _up_to(reader, after, filter, slice) if after > START else {}
    ranges = {name: digest - before.get(name, Digest()) for name, digest in found.items()}
    return Digests({name: one for name, one in ranges.items() if one != Digest()}, None)


async def _of_orders(
    reader: Reader, after: Checkpoint, until: Checkpoint, filter: EventFilter, slice: str
) -> Digests:
    order_ids = await _order_ids(reader, filter, slice)
    if len(order_ids) > ORDERS_MAX:
        raise TooManyOrders
    rows = await reader.fetch(
        """
        SELECT order_id, count(*), sum(event_hash(order_id, version)) FROM order_events
        WHERE order_id = ANY($1) AND ($2::text[] IS NULL OR type = ANY($2))
          AND (transaction_id, position) > ($3, $4) AND (transaction_id, position) <= ($5, $6)
        GROUP BY order_id ORDER BY order_id
        """,
        order_ids,
        filter.types,
        *after,
        *until,
    )
    orders = {order_id: _digest(count, sum) for order_id, count, sum in rows}
    slices: dict[str, Digest] = defaultdict(Digest)
    for order_id, digest in orders.items():
        slices[order_hash(order_id)[: len(slice) + 1]] += digest
    return Digests(dict(sorted(slices.items())), orders)


async def _order_ids(reader: Reader, filter: EventFilter, slice: str) -> list[str]:
    """The orders of a slice that the filter names, or more than ORDERS_MAX if they are more."""
    wanted: dict[str, str | int | None] = {
        "order_id =": filter.order_id,
        "data->>'customer_id' =": filter.customer_id,
    }
    if slice:
        first, after_last = _hashes_of(slice)
        wanted |= {"order_hash(order_id) >=": first, "order_hash(order_id) <": after_last}
    given = {condition: value for condition, value in wanted.items() if value is not None}
    conditions = "".join(f" AND {condition} ${n}" for n, condition in enumerate(given, 2))
    rows = await reader.fetch(
        f"SELECT order_id FROM order_events WHERE version = 1{conditions} LIMIT $1",
        ORDERS_MAX + 1,
        *given.values(),
    )
    return [row["order_id"] for row in rows]


async def _up_to(
    reader: Reader, until: Checkpoint, filter: EventFilter, slice: str
) -> dict[str, Digest]:
    """The digests of the slices within a slice, from the beginning up to a checkpoint."""
    lowest_level = len(slice)  # Blocks of lower levels have no slices as small.
    end = await _end_of_blocks(reader, until, lowest_level)  # Blocks may be added meanwhile.
    kept = await _kept(reader, end, lowest_level, filter, slice)
    unkept = await _unkept(reader, end, until, filter, slice)
    names = sorted(kept.keys() | unkept.keys())
    return {name: kept.get(name, Digest()) + unkept.get(name, Digest()) for name in names}


async def _end_of_blocks(reader: Reader, until: Checkpoint, level: int) -> Checkpoint:
    """Where the last block of a level ends that is up to a checkpoint."""
    end = await reader.fetchrow(
        """
        SELECT transaction_id, position FROM digest_blocks
        WHERE level = $1 AND (transaction_id, position) <= ($2, $3)
        ORDER BY transaction_id DESC, position DESC LIMIT 1
        """,
        level,
        *until,
    )
    return START if end is None else Checkpoint(*end)


async def _kept(
    reader: Reader, until: Checkpoint, lowest_level: int, filter: EventFilter, slice: str
) -> dict[str, Digest]:
    """The digests of the blocks that end at a checkpoint or before it."""
    rows = await reader.fetch(
        """
        WITH ends AS (
            SELECT level, number + 1 AS blocks
            FROM generate_series($3::int, $4::int) AS levels (level), LATERAL (
                SELECT number FROM digest_blocks AS block
                WHERE block.level = levels.level AND (transaction_id, position) <= ($1, $2)
                ORDER BY transaction_id DESC, position DESC LIMIT 1
            ) AS last
        ), used AS (  -- The largest blocks first; those of the level below follow where they end.
            SELECT level, number, 4 * (least(level + 1, $6) - $7) AS shift FROM (
                SELECT level, generate_series(
                    coalesce(lead(blocks) OVER (ORDER BY level) * $5, 0), blocks - 1) AS number
                FROM ends
            ) AS numbers
        )
        SELECT child, sum(part.events)::bigint, sum(part.sum) FROM used, LATERAL (
            -- Aggregated block by block, so that only these are read, by the primary key.
            SELECT slice >> used.shift AS child, sum(events) AS events, sum(sum) AS sum
            FROM digest_sums AS one
            WHERE one.level = used.level AND one.number = used.number
              AND slice >= $8 << used.shift + 4 AND slice < ($8 + 1) << used.shift + 4
              AND ($9::text[] IS NULL OR type = ANY($9))
            GROUP BY child
        ) AS part
        GROUP BY child
        """,
        *until,
        lowest_level,
        LEVELS - 1,
        LEVEL_FACTOR,
        KEPT_DIGITS,
        len(slice) + 1,
        int(slice or "0", 16),
        filter.types,
    )
    return {_child(slice, child): _digest(count, sum) for child, count, sum in rows}


async def _unkept(
    reader: Reader, after: Checkpoint, until: Checkpoint, filter: EventFilter, slice: str
) -> dict[str, Digest]:
    """The digests of the events between two checkpoints; raises DigestsBehind."""
    first, after_last = _hashes_of(slice)
    rows = await reader.fetch(
        """
        WITH unkept AS MATERIALIZED (
            SELECT order_hash(order_id) AS hash, order_id, version, type FROM order_events
            WHERE (transaction_id, position) > ($1, $2) AND (transaction_id, position) <= ($3, $4)
            ORDER BY transaction_id, position LIMIT $5
        ), hashed AS (
            SELECT hash >> $6 AS child, order_id, version,
                   hash >= $7 AND hash < $8 AND ($9::text[] IS NULL OR type = ANY($9)) AS matches
            FROM unkept
        )
        SELECT child, count(*) AS scanned, count(*) FILTER (WHERE matches) AS events,
               sum(event_hash(order_id, version)) FILTER (WHERE matches) AS sum
        FROM hashed GROUP BY child
        """,
        *after,
        *until,
        UNKEPT_EVENTS_MAX + 1,
        4 * (HASH_DIGITS - len(slice) - 1),
        first,
        after_last,
        filter.types,
    )
    if sum(row["scanned"] for row in rows) > UNKEPT_EVENTS_MAX:
        raise DigestsBehind
    return {
        _child(slice, row["child"]): _digest(row["events"], row["sum"])
        for row in rows
        if row["events"]
    }


def _child(slice: str, number: int) -> str:
    """The name of a slice within another one."""
    return f"{number:0{len(slice) + 1}x}"


def _hashes_of(slice: str) -> tuple[int, int]:
    """The first hash of a slice, and the first one after it."""
    bits = 4 * (HASH_DIGITS - len(slice))
    number = int(slice or "0", 16)
    return number << bits, (number + 1) << bits


def _digest(count: int, sum: Decimal) -> Digest:
    """From what Postgres adds up: signed hashes, without a modulus."""
    return Digest(count, int(sum) % _MODULUS)
