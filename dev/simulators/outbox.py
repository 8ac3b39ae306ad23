"""Callbacks on their way: written with what they tell of, sent until somebody has taken them."""

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
AT_ONCE_MAX = 20
PAUSE_S = 0.2  # Doubles with each attempt, up to the next number.
PAUSE_S_MAX = 30.0
ANSWER_S_MAX = 15.0
LOOK_S = 1.0


@dataclass(frozen=True)
class Event:
    """What a service tells without being asked; `data` names the order."""

    type: str
    data: dict[str, Any]


class Outbox:
    """Sends to `{url}/payments` and so on; without a url or a secret, callbacks only gather."""

    def __init__(self, store: Store, url: str | None, secret: str | None) -> None:
        self._store = store
        self._url = url
        self._secret = secret
        self._woken = asyncio.Event()

    def put(self, db: sqlite3.Connection, party: str, event: Event) -> str:
        """Within the transaction that makes it true; returns the id of the message."""
        message_id = f"msg_{secrets.token_hex(12)}"
        now = datetime.now(UTC)
        body = {"type": event.type, "timestamp": now.isoformat(), "data": event.data}
        db.execute(
            "INSERT INTO outbox (message_id, party, order_id, body, due) VALUES (?, ?, ?, ?, ?)",
            (message_id, party, event.data["order_id"], json.dumps(body), now.timestamp()),
        )
        self._woken.set()
        return message_id

    async def taken(self, message_id: str, seconds: float) -> None:
        """Returns once a message has been taken, or after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._is_taken(message_id):
                    await asyncio.sleep(0.01)

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Sends in the background for as long as it lasts."""
        if self._url is None or self._secret is None:
            yield
            return
        task = asyncio.create_task(self._send_for_ever(self._url.rstrip("/"), self._secret))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()  # It ended by itself: say why.

    async def _send_for_ever(self, url: str, secret: str) -> None:
        async with httpx.AsyncClient(timeout=ANSWER_S_MAX, trust_env=False) as http:
            while True:
                self._woken.clear()
                if due := self._due():
                    await asyncio.gather(*(self._send(http, url, secret, row) for row in due))
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(self._pause(), LOOK_S)):
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
            answer = await http.post(f"{url}/{row['party']}", content=row["body"], headers=headers)
            is_taken, said = answer.is_success, f"answered {answer.status_code}"
        except httpx.HTTPError as error:
            is_taken, said = False, repr(error)
        if not is_taken:
            log.info("callback %s to %s: %s", row["message_id"], row["party"], said)
        pause = min(PAUSE_S * 2 ** min(row["attempts"], 20), PAUSE_S_MAX)
        with self._store.transaction() as db:
            db.execute(
                "UPDATE outbox SET attempts = attempts + 1, due = ?, is_taken = ?"
                " WHERE message_id = ?",
                (time.time() + pause, is_taken, row["message_id"]),
            )

    def _due(self) -> list[sqlite3.Row]:
        """Of each order, the first that was not taken: what happened first is told first."""
        with self._store.transaction() as db:
            return db.execute(
                "SELECT * FROM outbox WHERE due <= ? AND sequence IN"
                " (SELECT MIN(sequence) FROM outbox WHERE NOT is_taken GROUP BY party, order_id)"
                " ORDER BY due LIMIT ?",
                (time.time(), AT_ONCE_MAX),
            ).fetchall()

    def _pause(self) -> float:
        """The seconds until the next attempt of any."""
        with self._store.transaction() as db:
            row = db.execute("SELECT MIN(due) FROM outbox WHERE NOT is_taken").fetchone()
        return LOOK_S if row[0] is None else max(row[0] - time.time(), 0.01)

    def _is_taken(self, message_id: str) -> bool:
        with self._store.transaction() as db:
            row = db.execute("SELECT is_taken FROM outbox WHERE message_id = ?", (message_id,))
            return bool(row.fetchone()[0])
