"""Transactional outbox of callbacks: stored with their effect, sent until they are accepted."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
from standardwebhooks import Webhook

from dev.simulators.store import Store

log = logging.getLogger("simulators.callbacks")

TABLES = """
CREATE TABLE IF NOT EXISTS outbox (
    sequence INTEGER PRIMARY KEY,
    message_id TEXT NOT NULL UNIQUE,
    party TEXT NOT NULL,
    order_id TEXT NOT NULL,
    body TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    due REAL NOT NULL,
    is_taken INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS untaken ON outbox (party, order_id, sequence) WHERE NOT is_taken;
"""
CONCURRENT_CALLBACKS_MAX = 20
PAUSE_S = 0.2  # Doubles with each attempt, up to PAUSE_S_MAX.
PAUSE_S_MAX = 30.0
RESPONSE_S_MAX = 15.0
POLL_S = 1.0


@dataclass(frozen=True)
class CallbackEvent:
    """What a callback reports; `data` names the order."""

    type: str
    data: dict[str, Any]


class Outbox:
    """Sends to `{url}/payments` and so on; without a URL or a secret, callbacks are only stored."""

    def __init__(self, store: Store, url: str | None, secret: str | None) -> None:
        self._store = store
        self._url = url
        self._secret = secret
        self._woken = asyncio.Event()

    def enqueue(
        self, db: sqlite3.Connection, service: str, event: CallbackEvent, delay_s: float = 0
    ) -> str:
        """Stores a callback in the transaction of its effect; returns the message id.

        One that is delayed may be overtaken by those that are stored after it.
        """
        message_id = f"msg_{secrets.token_hex(12)}"
        now = datetime.now(UTC)
        body = {"type": event.type, "timestamp": now.isoformat(), "data": event.data}
        db.execute(
            "INSERT INTO outbox (message_id, party, order_id, body, due) VALUES (?, ?, ?, ?, ?)",
            (
                message_id,
                service,
                event.data["order_id"],
                json.dumps(body),
                now.timestamp() + delay_s,
            ),
        )
        self._woken.set()
        return message_id

    async def wait_until_delivered(self, message_id: str, seconds: float) -> None:
        """Returns once a message was accepted, or after `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._is_delivered(message_id):
                    await asyncio.sleep(0.01)

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Sends in the background inside the `async with`."""
        if self._url is None or self._secret is None:
            yield
            return
        task = asyncio.create_task(self._send_forever(self._url.rstrip("/"), self._secret))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()  # It ended by itself: raise its error.

    async def _send_forever(self, url: str, secret: str) -> None:
        async with httpx.AsyncClient(timeout=RESPONSE_S_MAX, trust_env=False) as http:
            while True:
                try:
                    await self._send_due(http, url, secret)
                except sqlite3.OperationalError as error:  # The disk is full.
                    log.warning("callbacks wait: %s", error)
                    await asyncio.sleep(POLL_S)

    async def _send_due(self, http: httpx.AsyncClient, url: str, secret: str) -> None:
        """Sends the callbacks that are due; without any, waits until one may be."""
        self._woken.clear()
        if due := self._due():
            await asyncio.gather(*(self._send(http, url, secret, row) for row in due))
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(min(self._pause(), POLL_S)):
                await self._woken.wait()

    async def _send(self, http: httpx.AsyncClient, url: str, secret: str, row: sqlite3.Row) -> None:
        now = datetime.now(UTC)
        headers = {
            "content-type": "application/json",
            "webhook-id": row["message_id"],
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": Webhook(secret).sign(row["message_id"], now, row["body"]),
        }
        try:
            response = await http.post(
                f"{url}/{row['party']}", content=row["body"], headers=headers
            )
            is_taken, result = response.is_success, f"status {response.status_code}"
        except httpx.HTTPError as error:
            is_taken, result = False, repr(error)
        if not is_taken:
            log.info("callback %s to %s: %s", row["message_id"], row["party"], result)
        pause = min(PAUSE_S * 2 ** min(row["attempts"], 20), PAUSE_S_MAX)
        with self._store.transaction() as db:
            db.execute(
                "UPDATE outbox SET attempts = attempts + 1, due = ?, is_taken = ?"
                " WHERE message_id = ?",
                (time.time() + pause, is_taken, row["message_id"]),
            )

    def _due(self) -> list[sqlite3.Row]:
        """The oldest callback of each order that was not accepted: they are sent in order."""
        now = time.time()
        with self._store.transaction() as db:
            return db.execute(
                "SELECT * FROM outbox WHERE due <= ? AND sequence IN"
                " (SELECT MIN(sequence) FROM outbox WHERE NOT is_taken"
                " AND (attempts > 0 OR due <= ?) GROUP BY party, order_id)"
                " ORDER BY due LIMIT ?",
                (now, now, CONCURRENT_CALLBACKS_MAX),
            ).fetchall()

    def _pause(self) -> float:
        """The seconds until the next attempt."""
        with self._store.transaction() as db:
            row = db.execute("SELECT MIN(due) FROM outbox WHERE NOT is_taken").fetchone()
        return POLL_S if row[0] is None else max(row[0] - time.time(), 0.01)

    def _is_delivered(self, message_id: str) -> bool:
        with self._store.transaction() as db:
            row = db.execute("SELECT is_taken FROM outbox WHERE message_id = ?", (message_id,))
            return bool(row.fetchone()[0])
