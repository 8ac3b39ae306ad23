"""An order as it was: folded anew from its part of the log, as of a version or an instant."""

from __future__ import annotations

from datetime import datetime
from itertools import takewhile

from eventlog import log
from eventlog.postgres import Reader
from readside.order_view.document import View
from readside.order_view.projection import fold_view


async def at_version(reader: Reader, order_id: str, version: int) -> View:
    """The order after its first `version` events, or after all of them, if they are fewer."""
    return fold_view(View(order_id), await log.read_stream(reader, order_id, limit=version))


async def at_instant(reader: Reader, order_id: str, at: datetime) -> View:
    """The order after what had happened to it by then; its version is 0 if that was nothing."""
    stream = await log.read_stream(reader, order_id)
    return fold_view(View(order_id), takewhile(lambda event: event.occurred_at <= at, stream))
