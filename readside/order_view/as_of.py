"""An order as of a version or an instant, folded from its stream in the log."""

from __future__ import annotations

from datetime import datetime
from itertools import takewhile

from eventlog import log
from eventlog.postgres import Reader
from readside.order_view.view import OrderView, fold_view


async def at_version(reader: Reader, order_id: str, version: int) -> OrderView:
    """The order after its first `version` events, or after all of them if there are fewer."""
    return fold_view(OrderView(order_id), await log.read_stream(reader, order_id, limit=version))


async def at_instant(reader: Reader, order_id: str, at: datetime) -> OrderView:
    """The order after its events up to an instant; its version is 0 if there were none."""
    stream = await log.read_stream(reader, order_id)
    return fold_view(OrderView(order_id), takewhile(lambda event: event.occurred_at <= at, stream))
