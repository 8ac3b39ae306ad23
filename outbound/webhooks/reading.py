"""Reads on from one cursor, up to its end if it has one."""

from __future__ import annotations

from eventlog.log import Checkpoint
from outbound.webhooks.cursors import Cursor
from outbound.webhooks.endpoints import Endpoint
from outbound.webhooks.log_reader import LogReader, Page


class CursorReader:
    """The pages of one cursor; between news, it reads until it is at the end of the log."""

    def __init__(self, log: LogReader, cursor: Cursor) -> None:
        self._log = log
        self._until = cursor.until
        self._event_ids = cursor.event_ids
        self._is_behind = True
        self.has_news = True
        """Whether there may be events to read."""
        self.is_unsettled = False
        """Whether more is committed that cannot be read before an older transaction ends."""

    def restart(self) -> None:
        """Reads on from an earlier position, and what was read before once more.

        Addresses may have been erased since.
        """
        self.has_news = self._is_behind = True

    def wants_more(self, read_to: Checkpoint) -> bool:
        """Whether there may be events after a checkpoint."""
        return self.has_news and (self._until is None or read_to < self._until)

    async def read(self, endpoint: Endpoint, after: Checkpoint) -> Page:
        """The next page."""
        page = await self._read(endpoint, after)
        self.has_news = page.end > after
        self.is_unsettled = page.unsettled and not self.has_news
        self._is_behind = page.is_full
        if self._until is not None and page.end >= self._until:
            webhooks = [one for one in page.webhooks if one.checkpoint <= self._until]
            return Page(webhooks, self._until, False, False)
        return page

    async def _read(self, endpoint: Endpoint, after: Checkpoint) -> Page:
        if self._event_ids is not None and self._until is not None:
            named = await self._log.read_named(endpoint, sorted(self._event_ids))
            later = [webhook for webhook in named if webhook.checkpoint > after]
            return Page(later, self._until, False, False)
        if self._is_behind:
            return await self._log.read_backlog(endpoint, after)
        return await self._log.read_tail(endpoint, after)
