"""Compares the log in a backup with production's, which must begin with it, order by order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import asyncpg

from cli.history_comparison import ranges

PAGE_SIZE = 2_000

# All that `restore apply` keeps of an event. Compared as a hash, so that production sends little.
_DIGEST = """
    sha256(convert_to(jsonb_build_array(
        type, schema_version, extract(epoch FROM occurred_at), data, metadata,
        encode(intent, 'hex'))::text, 'UTF8'))
"""


class Growth(NamedTuple):
    """What production has, and the backup does not."""

    orders: int
    events: int


async def differences(
    copy: asyncpg.Pool, production: asyncpg.Pool
) -> AsyncIterator[tuple[int, list[str]]]:
    """Page by page, the number of events compared, and the differences, each a sentence."""
    order_id, version = "", 0
    while page := await copy.fetch(
        f"SELECT order_id, version, {_DIGEST} AS digest FROM order_events"
        " WHERE (order_id, version) > ($1, $2) ORDER BY order_id, version LIMIT $3",
        order_id,
        version,
        PAGE_SIZE,
    ):
        kept = {(row["order_id"], row["version"]): row["digest"] for row in page}
        rows = await production.fetch(
            f"SELECT order_id, version, {_DIGEST} AS digest FROM order_events"
            " JOIN unnest($1::text[], $2::int[]) AS kept (order_id, version)"
            " USING (order_id, version)",
            *map(list, zip(*kept, strict=True)),
        )
        current = {(row["order_id"], row["version"]): row["digest"] for row in rows}
        yield (
            len(page),
            [
                *_sentences("is not in production", (key for key in kept if key not in current)),
                *_sentences(
                    "is another event in production",
                    (key for key in kept if current.get(key, kept[key]) != kept[key]),
                ),
            ],
        )
        order_id, version = next(reversed(kept))


async def growth(copy: asyncpg.Pool, production: asyncpg.Pool) -> Growth:
    """What a restore of the backup would lose without newer WAL and without Temporal."""
    query = "SELECT count(*) FILTER (WHERE version = 1), count(*) FROM order_events"
    before, now = await copy.fetchrow(query), await production.fetchrow(query)
    assert before is not None and now is not None
    return Growth(*(max(new - old, 0) for old, new in zip(before, now, strict=True)))


def _sentences(what: str, events: Iterator[tuple[str, int]]) -> Iterator[str]:
    """A sentence for each order, from sorted order ids and versions."""
    versions = defaultdict[str, list[int]](list)
    for order_id, version in events:
        versions[order_id].append(version)
    for order_id, found in versions.items():
        yield f"order {order_id}: version {ranges(found)} {what}"
