"""Events of orders in words, with what the log says of the orders before."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from datetime import tzinfo

from eventlog import log
from eventlog.envelope import Envelope
from eventlog.log import LoggedEvent
from eventlog.postgres import Reader
from readside.order_view.sentences import sentences, words_after
from readside.order_view.words import NAMING, Words


async def words_before(reader: Reader, order_id: str, version: int, zone: tzinfo) -> Words:
    """The words that the events of an order below a version leave."""
    return words_after(await log.read_before(reader, {order_id: version}, NAMING), Words(zone=zone))


async def narrated(
    reader: Reader, events: Sequence[tuple[str, Envelope]], zone: tzinfo
) -> list[str]:
    """Events in words, each with the id of its order; those of one order by version, with gaps."""
    ends = {order_id: event.version + 1 for order_id, event in events}
    naming: defaultdict[str, deque[LoggedEvent]] = defaultdict(deque)
    for named in await log.read_before(reader, ends, NAMING):
        naming[named.order_id].append(named)
    words: dict[str, Words] = {}
    said: list[str] = []
    for order_id, event in events:
        earlier = naming[order_id]
        while earlier and earlier[0].version < event.version:
            words[order_id] = words_after(
                [earlier.popleft()], words.get(order_id, Words(zone=zone))
            )
        said += sentences([event], words.get(order_id, Words(zone=zone)))
    return said
