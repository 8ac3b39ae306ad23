"""What happens to every request, whoever it is for: one effect for each key, and some trouble."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from dev.simulators.fault_injection import Trouble
from dev.simulators.outbox import Event, Outbox
from dev.simulators.store import Store

TABLES = """
CREATE TABLE IF NOT EXISTS answers (
    party TEXT, key TEXT, request TEXT NOT NULL, status INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (party, key)
);
CREATE TABLE IF NOT EXISTS attempts (
    party TEXT, key TEXT, attempts INTEGER NOT NULL, PRIMARY KEY (party, key)
);
CREATE TABLE IF NOT EXISTS mended (party TEXT, order_id TEXT, PRIMARY KEY (party, order_id));
"""
SLOW_S = 2.0
SILENCE_S_MAX = 60.0
CALLBACK_S_MAX = 2.0
FLAPS = 2
CONTROL = ["control"]


class Asked(BaseModel):
    """A request. Closed here, so that a mistake is seen; a real service may take more."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Rejected(BaseModel):
    """Why nothing was done: a stable code for programs, and words without personal data."""

    code: str
    reason: str


@dataclass(frozen=True)
class Outcome:
    """What is answered, and the event that tells the same, if there is one."""

    status: int
    body: dict[str, Any]
    event: Event | None = None


class No(Exception):
    """Nothing is done; `outcome` says why."""

    def __init__(self, code: str, reason: str, status: int = 422) -> None:
        super().__init__(reason)
        self.outcome = Outcome(status, {"code": code, "reason": reason})


@dataclass(frozen=True)
class Call:
    """A request under its caller's key."""

    request: Request
    key: str


async def _call(
    request: Request,
    idempotency_key: Annotated[
        str,
        Header(
            min_length=1,
            max_length=255,
            description="The same key gets the first answer again; with another body, a 422.",
        ),
    ],
) -> Call:
    return Call(request, idempotency_key)


Keyed = Annotated[Call, Depends(_call)]


class Mending(Asked):
    """What is down comes back: for one order, or for all."""

    order_id: str | None = None


class Desk:
    """One service's way to do things."""

    def __init__(self, party: str, store: Store, outbox: Outbox) -> None:
        self.party = party
        self.store = store
        self._outbox = outbox

    async def carry_out(
        self,
        call: Call,
        asked: Asked,
        order_id: str,
        trouble: Trouble,
        do: Callable[[sqlite3.Connection], Outcome],
    ) -> Response:
        """Does it once for its key, and answers, or not, as the trouble wants it."""
        if trouble is Trouble.SLOW and not self._is_answered(call.key):
            await asyncio.sleep(SLOW_S)
        message_id = None
        with self.store.transaction() as db:
            attempt = self._count(db, call.key)
            if trouble is Trouble.DOWN and self._is_mended(db, order_id):
                trouble = Trouble.NONE
            outcome = _turned_away(trouble, attempt) or self._recalled(db, call, asked)
            if outcome is None:
                outcome = _done_or_not(db, do)
                self._remember(db, call, asked, outcome)
                if outcome.event and trouble is Trouble.CALLBACK_FIRST:
                    message_id = self._outbox.put(db, self.party, outcome.event)
        if message_id:
            await self._outbox.taken(message_id, CALLBACK_S_MAX)
        if trouble is Trouble.SILENT_ONCE and attempt == 1:
            await _hung_up(call.request)
        return answered(outcome)

    def tell(self, db: sqlite3.Connection, event: Event) -> None:
        """Sends a callback for what has just become true."""
        self._outbox.put(db, self.party, event)

    def install(self, app: FastAPI) -> None:
        """What all three have in common: the form of their mistakes, and mending."""

        async def malformed(request: Request, error: Exception) -> Response:
            assert isinstance(error, RequestValidationError)
            # Without the values: they may be personal.
            wrong = [f"{'/'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            return answered(No("malformed", "; ".join(wrong)).outcome)

        async def refused(request: Request, error: Exception) -> Response:
            assert isinstance(error, No)
            return answered(error.outcome)

        app.add_exception_handler(RequestValidationError, malformed)
        app.add_exception_handler(No, refused)

        @app.post("/control/mend", status_code=204, tags=[*CONTROL])
        async def mend(asked: Mending) -> None:
            """Ends what answers 503 until it is mended, for one order or for all of them."""
            with self.store.transaction() as db:
                row = (self.party, asked.order_id or "")
                db.execute("INSERT OR IGNORE INTO mended VALUES (?, ?)", row)

    def _count(self, db: sqlite3.Connection, key: str) -> int:
        attempts: int = db.execute(
            "INSERT INTO attempts VALUES (?, ?, 1)"
            " ON CONFLICT DO UPDATE SET attempts = attempts + 1 RETURNING attempts",
            (self.party, key),
        ).fetchone()[0]
        return attempts

    def _is_answered(self, key: str) -> bool:
        with self.store.transaction() as db:
            query = "SELECT 1 FROM answers WHERE party = ? AND key = ?"
            return db.execute(query, (self.party, key)).fetchone() is not None

    def _is_mended(self, db: sqlite3.Connection, order_id: str) -> bool:
        query = "SELECT 1 FROM mended WHERE party = ? AND order_id IN ('', ?)"
        return db.execute(query, (self.party, order_id)).fetchone() is not None

    def _recalled(self, db: sqlite3.Connection, call: Call, asked: Asked) -> Outcome | None:
        query = "SELECT request, status, body FROM answers WHERE party = ? AND key = ?"
        row = db.execute(query, (self.party, call.key)).fetchone()
        if row is None:
            return None
        if row["request"] != _fingerprint(call, asked):
            return No("key-reused", "this Idempotency-Key came with another request before").outcome
        return Outcome(row["status"], json.loads(row["body"]))

    def _remember(self, db: sqlite3.Connection, call: Call, asked: Asked, outcome: Outcome) -> None:
        answer = (_fingerprint(call, asked), outcome.status, json.dumps(outcome.body))
        db.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?)", (self.party, call.key, *answer))


def answered(outcome: Outcome) -> Response:
    headers = {"Retry-After": "1"} if outcome.status == 429 else None
    return JSONResponse(outcome.body, outcome.status, headers)


def _turned_away(trouble: Trouble, attempt: int) -> Outcome | None:
    if trouble is Trouble.BUSY_ONCE and attempt == 1:
        return No("too-busy", "too many calls at once", 429).outcome
    if trouble is Trouble.DOWN or (trouble is Trouble.FLAPPING and attempt <= FLAPS):
        return No("unavailable", "this is out of order", 503).outcome
    return None


def _done_or_not(db: sqlite3.Connection, do: Callable[[sqlite3.Connection], Outcome]) -> Outcome:
    db.execute("SAVEPOINT doing")
    try:
        return do(db)
    except No as no:
        db.execute("ROLLBACK TO doing")
        return no.outcome


async def _hung_up(request: Request) -> None:
    """Waits until the caller has given up."""
    for _ in range(int(SILENCE_S_MAX / 0.05)):
        if await request.is_disconnected():
            return
        await asyncio.sleep(0.05)


def _fingerprint(call: Call, asked: Asked) -> str:
    # Without the address: of what is personal, not even a hash is kept, as it could be guessed.
    request = call.request
    body = asked.model_dump_json(exclude={"address"})
    return hashlib.sha256(f"{request.method} {request.url.path} {body}".encode()).hexdigest()


Id = Annotated[str, Field(min_length=1, max_length=256)]
Amount = Annotated[int, Field(gt=0, description="integer minor units of the currency")]
Quantity = Annotated[int, Field(gt=0, description="pieces")]
