"""Reads on from one cursor, up to its end if it has one."""

from __future__ import annotations

from eventlog.log import Checkpoint
from outbound.webhooks.cursors import Cursor
from outbound.webhooks.endpoints import Endpoint
from outbound.webhooks.log_reader import LogReader, Page
from outbound.webhooks.tail import Tail, TailPage


class CursorReader:
    """The pages of one cursor: from the tail where it can be, else from Postgres."""

    def __init__(self, log: LogReader, tail: Tail, cursor: Cursor) -> None:
        self._log = log
        self._tail = tail
        self._until = cursor.until
        self._event_ids = cursor.event_ids
        self._is_reading = False
        self.has_news = True
        """Whether there may be events to read."""

    def wants_more(self, read_to: Checkpoint) -> bool:
        """Whether there may be events after a checkpoint."""
        return self.has_news and (self._until is None or read_to < self._until)

    def can_skip(self, page: TailPage, endpoint: Endpoint, read_to: Checkpoint) -> bool:
        """Whether a page of the tail continues what it has read, with no event for the endpoint."""
        return (
            not self._is_reading
            and self._until is None
            and page.begin <= read_to < page.end
            and not page.concerns(endpoint, read_to)
        )

    async def read(self, endpoint: Endpoint, after: Checkpoint) -> Page:
        """The next page."""
        self.has_news, self._is_reading = False, True  # What comes while it reads is news.
        try:
            page = await self._read(endpoint, after)
        except BaseException:
            self.has_news = True
            raise
        finally:
            self._is_reading = False
        self.has_news = self.has_news or page.end > after
        if self._until is not None and page.end >= self._until:
            webhooks = [one for one in page.webhooks if one.checkpoint <= self._until]
            return Page(webhooks, self._until)
        return page

    async def _read(self, endpoint: Endpoint, after: Checkpoint) -> Page:
        if self._event_ids is not None and self._until is not None:
            named = await self._log.read_named(endpoint, sorted(self._event_ids))
            return Page([one for one in named if one.checkpoint > after], self._until)
        if self._tail.is_at_end(after):
            return Page([], after)
        if (page := self._tail.page_after(after)) is not None:
            return Page(await page.webhooks(endpoint, after, self._log.keys), page.end)
        return await self._log.read_backlog(endpoint, after)
