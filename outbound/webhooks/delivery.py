"""Delivers the events after one cursor to its endpoint.

In order within an order, side by side across orders, each event until it was accepted. An order
whose event is rejected is parked and tried again later, while the others go on. An endpoint that is
down gets one event at growing intervals, and then all that it has missed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from eventlog.log import Checkpoint
from eventlog.postgres import UNAVAILABLE
from outbound.rendering import RenderedEvent
from outbound.webhooks import cursors, endpoints
from outbound.webhooks.channel import Channel
from outbound.webhooks.cursors import (
    ERROR_CHARACTERS_MAX,
    Attempt,
    Cursor,
    ParkedOrder,
    Progress,
    SkippedTo,
)
from outbound.webhooks.log_reader import LogReader
from outbound.webhooks.parking import Parking
from outbound.webhooks.poster import Answer, Verdict
from outbound.webhooks.reading import CursorReader
from outbound.webhooks.tail import Tail, TailPage
from outbound.window import Window

WINDOW_MAX = 500
# More parked orders than these are not about single orders: nothing new is read until they go.
PARKED_MAX = 1_000
ATTEMPTS_UNSTORED_MAX = 2_000
POLL_SECONDS = 5.0
RETRY_SECONDS = 0.5
CANCEL_SECONDS_MAX = 2.0

logger = logging.getLogger("orderly.deliverer")


class Delivery:
    """The delivery of one cursor, in one task and one more for each attempt."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        log: LogReader,
        tail: Tail,
        channel: Channel,
        cursor: Cursor,
        parked: dict[str, ParkedOrder],
    ) -> None:
        self._pool = pool
        self._log = log
        self._reader = CursorReader(log, tail, cursor)
        self._channel, self._now = channel, channel.clock.now
        self._cursor = cursor
        self._revision = cursor.revision
        self._window = Window(cursor.at)
        self._parking = Parking(parked)
        self._attempts: list[Attempt] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._woken = asyncio.Event()
        self._is_stopping = False
        self._is_committing = False
        self._stored_position, self._stored_at = cursor.at, _clock()

    def offer(self, page: TailPage) -> None:
        """Skips a page of the tail that has nothing for the endpoint, or wakes up to read it."""
        endpoint, read_to = self._channel.endpoint, self._window.read_to
        if self._is_stopping or read_to >= page.end:
            return
        if self._reader.can_skip(page, endpoint, read_to):
            self._window.add((), page.end)
        else:
            self._reader.has_news = True
            self._woken.set()

    def skipped_to(self) -> SkippedTo | None:
        """A position to store, if it has only skipped events since it stored one."""
        at = self._window.watermark
        has_changed = self._attempts or self._parking.has_changed or self._is_committing
        if has_changed or at == self._stored_position:
            return None
        return SkippedTo(self._cursor.cursor_id, self._revision, self._cursor.epoch, *at)

    def stop(self) -> None:
        """Begins no further attempt; `run` returns when those under way have ended."""
        self._is_stopping = True
        self._woken.set()

    def retry_now(self) -> None:
        """Tries all parked orders again."""
        self._parking.try_all_now(self._now())
        self._woken.set()

    async def run(self) -> None:
        """Delivers until it is stopped, or a replay has come to its end; raises CursorLost."""
        try:
            while not (self._is_stopping or self._is_finished()):
                self._woken.clear()
                try:
                    await self._advance()
                except UNAVAILABLE as error:
                    logger.warning("Postgres is unavailable, retrying: %r", error)
                    await asyncio.sleep(RETRY_SECONDS)
                else:
                    await self._sleep()
            if self._tasks:
                await asyncio.wait(self._tasks)
            await self._commit()
        finally:
            await self._end_attempts()

    async def _end_attempts(self) -> None:
        """Cancels the attempts that are under way, so that no connection is used any more."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CANCEL_SECONDS_MAX)

    async def _advance(self) -> None:
        """Reads, sends and stores what can be read, sent and stored now."""
        channel = self._channel
        if channel.health.is_down and self._window.has_open and not self._tasks:
            self._window.rewind()  # Addresses may have been erased since.
            self._reader.has_news = True
        if channel.may_send(self._now()):
            if self._wants_more():
                await self._read()
            if not self._is_stopping:  # It may have been stopped while it read.
                self._start_attempts()
        if _clock() >= self._commit_due():
            await self._commit()
        if channel.is_gone:
            await endpoints.mark_gone(
                self._pool, channel.endpoint.endpoint_id, channel.endpoint.version
            )

    def _wants_more(self) -> bool:
        return (
            self._reader.wants_more(self._window.read_to)
            and self._window.ready_orders < self._channel.pace.concurrent_max
            and len(self._window) < WINDOW_MAX
            and len(self._parking) < PARKED_MAX
        )

    async def _read(self) -> None:
        """Reads one page into the window, without the events of parked orders."""
        page = await self._reader.read(self._channel.endpoint, self._window.read_to)
        wanted = []
        for webhook in page.webhooks:
            if webhook.order_id in self._parking:
                self._parking.skip(webhook.order_id)
            else:
                wanted.append(webhook)
        self._window.add(wanted, page.end)

    def _start_attempts(self) -> None:
        """Begins as many attempts as the endpoint may have at once."""
        while self._channel.may_send(self._now()) and len(self._attempts) < ATTEMPTS_UNSTORED_MAX:
            is_probe = self._channel.health.is_down
            order_id = None if is_probe else self._parking.due(self._now())
            if order_id is None and (webhook := self._window.take()) is not None:
                self._start(self._deliver(webhook))
                continue
            if order_id is None and is_probe:
                order_id = self._parking.first_due()
            if order_id is None:
                return
            self._start(self._retry(order_id, self._parking.begin(order_id)))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._channel.in_flight += 1
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._channel.in_flight -= 1
        self._tasks.discard(task)
        self._woken.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("an attempt failed", exc_info=error)

    async def _deliver(self, webhook: RenderedEvent) -> None:
        """Sends the next event of an order; parks the order if it is rejected."""
        answer = await self._channel.send(webhook.event_id, webhook.body)
        channel, now = self._channel, self._now()
        channel.record(answer, now)
        next_try_at = None
        if answer.verdict is Verdict.DELIVERED:
            self._window.settle(webhook)
        elif channel.health.is_down or channel.is_gone:
            self._window.put_back(webhook)
            next_try_at = channel.health.next_try_at
        else:
            next_try_at = now + channel.pace.pause(1, answer)
            self._parking.park(webhook.order_id, webhook.version, answer.error, now, next_try_at)
            self._window.drop_order(webhook.order_id)
        self._note(webhook, answer, now, next_try_at)

    async def _retry(self, order_id: str, parked: ParkedOrder) -> None:
        """Sends the events of a parked order, from the rejected one on, until one is rejected."""
        try:
            may_send = True  # The first one, even as a probe.
            while True:
                self._parking.begin_reading(order_id)
                webhooks, more = await self._log.read_order(
                    self._channel.endpoint, order_id, parked.version, self._window.read_to
                )
                for webhook in filter(self._is_wanted, webhooks):
                    if not (may_send and await self._retry_one(webhook, parked)):
                        return
                    may_send = self._may_continue()
                if more is not None:
                    parked.version = more
                elif self._parking.unpark(order_id):
                    return
        except UNAVAILABLE as error:
            logger.warning("Postgres is unavailable, retrying: %r", error)
            parked.next_try_at = self._now() + timedelta(seconds=RETRY_SECONDS)
        finally:
            self._parking.end(order_id)

    async def _retry_one(self, webhook: RenderedEvent, parked: ParkedOrder) -> bool:
        """Sends one event of a parked order; returns whether it was accepted."""
        answer = await self._channel.send(webhook.event_id, webhook.body)
        channel, now = self._channel, self._now()
        is_delivered = answer.verdict is Verdict.DELIVERED
        # That a rejected order is rejected again says nothing new about the endpoint.
        if channel.health.is_down or answer.verdict is not Verdict.REJECTED:
            channel.record(answer, now)
        if is_delivered:
            self._window.record_delivered(webhook)
            parked.version, parked.attempts = webhook.version + 1, 0
            self._note(webhook, answer, now, None)
        else:
            parked.version, parked.attempts = webhook.version, parked.attempts + 1
            parked.error = (answer.error or "")[:ERROR_CHARACTERS_MAX]
            parked.next_try_at = now + channel.pace.pause(parked.attempts, answer)
            self._note(webhook, answer, now, parked.next_try_at)
        return is_delivered

    def _is_wanted(self, webhook: RenderedEvent) -> bool:
        ids = self._cursor.event_ids
        return ids is None or webhook.event_id in ids

    def _may_continue(self) -> bool:
        channel = self._channel
        return not (self._is_stopping or channel.is_gone or channel.health.is_down)

    def _note(
        self, webhook: RenderedEvent, answer: Answer, now: datetime, next_try_at: datetime | None
    ) -> None:
        """Keeps an attempt for the record of deliveries."""
        began = now - timedelta(milliseconds=answer.latency_ms)
        attempt = Attempt.of(webhook.event_id, webhook.type, began, answer, next_try_at)
        self._attempts.append(attempt)

    async def _commit(self) -> None:
        """Stores what has happened; if that fails, it stays to be stored."""
        attempts, self._attempts = self._attempts, []
        parked, unparked = self._parking.take_changes()
        at, is_finished = self._window.watermark, self._is_finished()
        progress = Progress(at, attempts, parked, unparked, is_finished)
        self._is_committing = True
        try:
            async with self._pool.acquire() as connection:
                await cursors.commit(
                    connection, self._cursor, self._revision, progress, self._channel.health
                )
        except BaseException:
            self._attempts = attempts + self._attempts
            self._parking.put_back_changes([*parked, *unparked])
            raise
        finally:
            self._is_committing = False
        self._revision += 1
        self._stored_position, self._stored_at = at, _clock()
        self._window.forget_delivered()

    def _is_finished(self) -> bool:
        """Whether a replay has come to its end."""
        until: Checkpoint | None = self._cursor.until
        is_idle = not (self._tasks or self._parking)
        return until is not None and is_idle and self._window.watermark >= until

    def _commit_due(self) -> float:
        if self._attempts or self._parking.has_changed:
            return self._stored_at + self._channel.pace.commit_seconds
        return float("inf")

    async def _sleep(self) -> None:
        """Waits until there is something to do."""
        if self._channel.may_send(self._now()) and self._wants_more():
            await asyncio.sleep(0)
            return
        seconds = min(POLL_SECONDS, self._commit_due() - _clock(), self._next_try_seconds())
        try:
            async with asyncio.timeout(max(seconds, 0.001)):
                await self._woken.wait()
        except TimeoutError:
            self._reader.has_news = True

    def _next_try_seconds(self) -> float:
        """The time until an attempt that waits for its time."""
        now, probe_at = self._now(), self._channel.health.next_try_at
        if probe_at is not None:
            return (probe_at - now).total_seconds() if probe_at > now else POLL_SECONDS
        due = self._parking.next_try_at()
        if due is None or (due <= now and not self._channel.may_send(now)):
            return POLL_SECONDS
        return (due - now).total_seconds()


def _clock() -> float:
    return asyncio.get_running_loop().time()
