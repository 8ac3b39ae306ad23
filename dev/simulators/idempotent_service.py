"""What the simulated services share: one effect for each idempotency key, and injected faults."""

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

from dev.simulators.fault_injection import Fault
from dev.simulators.outbox import CallbackEvent, Outbox
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
NO_RESPONSE_S_MAX = 60.0
CALLBACK_S_MAX = 2.0
FLAPPING_ATTEMPTS = 2
LATER_S = 1.0
CONTROL = ["control"]


class ServiceRequest(BaseModel):
    """A request body. Unknown fields are an error here; a real service may accept more."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Rejection(BaseModel):
    """Why nothing was done: a stable code, and a reason without personal data."""

    code: str
    reason: str


@dataclass(frozen=True)
class ServiceResponse:
    """A response, and the callback event that reports the same, if there is one."""

    status: int
    body: dict[str, Any]
    event: CallbackEvent | None = None
    later: CallbackEvent | None = None
    """A callback that contradicts the response, a second after it."""


class RequestRejected(Exception):
    """Nothing is done; `response` says why."""

    def __init__(self, code: str, reason: str, status: int = 422) -> None:
        super().__init__(reason)
        self.response = ServiceResponse(status, {"code": code, "reason": reason})


@dataclass(frozen=True)
class Keyed:
    """A request with its idempotency key."""

    request: Request
    key: str


async def _keyed(
    request: Request,
    idempotency_key: Annotated[
        str,
        Header(
            min_length=1,
            max_length=255,
            description="The same key gets the first response again; with another body, a 422.",
        ),
    ],
) -> Keyed:
    return Keyed(request, idempotency_key)


KeyedRequest = Annotated[Keyed, Depends(_keyed)]


class Recovery(ServiceRequest):
    """The service recovers from an outage: for one order, or for all."""

    order_id: str | None = None


class Report(ServiceRequest):
    """Any callback, of this service or of one that errs."""

    type: str
    data: dict[str, Any]


class IdempotentService:
    """Executes the requests of one service: `payments`, `stock` or `shipping`."""

    def __init__(self, name: str, store: Store, outbox: Outbox) -> None:
        self.name = name
        self.store = store
        self._outbox = outbox

    async def execute(
        self,
        keyed: Keyed,
        body: ServiceRequest,
        order_id: str,
        fault: Fault,
        effect: Callable[[sqlite3.Connection], ServiceResponse],
    ) -> Response:
        """Runs the effect once for its key, and responds as the fault says."""
        if fault is Fault.SLOW and not self._has_response(keyed.key):
            await asyncio.sleep(SLOW_S)
        message_id = None
        with self.store.transaction() as db:
            attempt = self._count_attempt(db, keyed.key)
            if fault is Fault.DOWN and self._has_recovered(db, order_id):
                fault = Fault.NONE
            response = _fault_response(fault, attempt) or self._stored_response(db, keyed, body)
            if response is None:
                response = _run(db, effect)
                self._store_response(db, keyed, body, response)
                if response.event and fault is Fault.CALLBACK_FIRST:
                    message_id = self._outbox.enqueue(db, self.name, response.event)
                if response.later:
                    self._outbox.enqueue(db, self.name, response.later, LATER_S)
        if message_id:
            await self._outbox.wait_until_delivered(message_id, CALLBACK_S_MAX)
        if fault is Fault.NO_RESPONSE_ONCE and attempt == 1:
            await _wait_for_disconnect(keyed.request)
        return to_http(response)

    def send_callback(
        self, db: sqlite3.Connection, event: CallbackEvent, delay_s: float = 0
    ) -> None:
        """Enqueues a callback for what became true in this transaction."""
        self._outbox.enqueue(db, self.name, event, delay_s)

    def add_common_routes(self, app: FastAPI) -> None:
        """Adds what all services share: error responses, and recovery from an outage."""

        async def malformed(request: Request, error: Exception) -> Response:
            assert isinstance(error, RequestValidationError)
            # Without the values: they may be personal data.
            reasons = [f"{'/'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            return to_http(RequestRejected("malformed", "; ".join(reasons)).response)

        async def rejected(request: Request, error: Exception) -> Response:
            assert isinstance(error, RequestRejected)
            return to_http(error.response)

        app.add_exception_handler(RequestValidationError, malformed)
        app.add_exception_handler(RequestRejected, rejected)

        @app.post("/control/recover", status_code=204, tags=[*CONTROL])
        async def recover(body: Recovery) -> None:
            """Ends a simulated outage, for one order or for all of them."""
            with self.store.transaction() as db:
                row = (self.name, body.order_id or "")
                db.execute("INSERT OR IGNORE INTO mended VALUES (?, ?)", row)

        @app.post("/control/callbacks", status_code=204, tags=[*CONTROL])
        async def report(body: Report) -> None:
            """Sends a callback; the records stay as they are. `data` names the `order_id`."""
            if "order_id" not in body.data:
                raise RequestRejected("malformed", "data: order_id is missing")
            with self.store.transaction() as db:
                self.send_callback(db, CallbackEvent(body.type, body.data))

    def _count_attempt(self, db: sqlite3.Connection, key: str) -> int:
        attempts: int = db.execute(
            "INSERT INTO attempts VALUES (?, ?, 1)"
            " ON CONFLICT DO UPDATE SET attempts = attempts + 1 RETURNING attempts",
            (self.name, key),
        ).fetchone()[0]
        return attempts

    def _has_response(self, key: str) -> bool:
        with self.store.transaction() as db:
            query = "SELECT 1 FROM answers WHERE party = ? AND key = ?"
            return db.execute(query, (self.name, key)).fetchone() is not None

    def _has_recovered(self, db: sqlite3.Connection, order_id: str) -> bool:
        query = "SELECT 1 FROM mended WHERE party = ? AND order_id IN ('', ?)"
        return db.execute(query, (self.name, order_id)).fetchone() is not None

    def _stored_response(
        self, db: sqlite3.Connection, keyed: Keyed, body: ServiceRequest
    ) -> ServiceResponse | None:
        query = "SELECT request, status, body FROM answers WHERE party = ? AND key = ?"
        row = db.execute(query, (self.name, keyed.key)).fetchone()
        if row is None:
            return None
        if row["request"] != _fingerprint(keyed, body):
            reason = "this Idempotency-Key came with another request before"
            return RequestRejected("key-reused", reason).response
        return ServiceResponse(row["status"], json.loads(row["body"]))

    def _store_response(
        self, db: sqlite3.Connection, keyed: Keyed, body: ServiceRequest, response: ServiceResponse
    ) -> None:
        row = (_fingerprint(keyed, body), response.status, json.dumps(response.body))
        db.execute("INSERT INTO answers VALUES (?, ?, ?, ?, ?)", (self.name, keyed.key, *row))


def to_http(response: ServiceResponse) -> Response:
    headers = {"Retry-After": "1"} if response.status == 429 else None
    return JSONResponse(response.body, response.status, headers)


def _fault_response(fault: Fault, attempt: int) -> ServiceResponse | None:
    if fault is Fault.BUSY_ONCE and attempt == 1:
        return RequestRejected("too-busy", "too many calls at once", 429).response
    if fault is Fault.DOWN or (fault is Fault.FLAPPING and attempt <= FLAPPING_ATTEMPTS):
        return RequestRejected("unavailable", "the service is down", 503).response
    return None


def _run(
    db: sqlite3.Connection, effect: Callable[[sqlite3.Connection], ServiceResponse]
) -> ServiceResponse:
    db.execute("SAVEPOINT effect")
    try:
        return effect(db)
    except RequestRejected as rejected:
        db.execute("ROLLBACK TO effect")
        return rejected.response


async def _wait_for_disconnect(request: Request) -> None:
    for _ in range(int(NO_RESPONSE_S_MAX / 0.05)):
        if await request.is_disconnected():
            return
        await asyncio.sleep(0.05)


def _fingerprint(keyed: Keyed, body: ServiceRequest) -> str:
    # Without the address: not even a hash of personal data is kept, as it could be guessed.
    content = body.model_dump_json(exclude={"address"})
    request = f"{keyed.request.method} {keyed.request.url.path} {content}"
    return hashlib.sha256(request.encode()).hexdigest()


_PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$"

Id = Annotated[str, Field(min_length=1, max_length=256)]
Reference = Annotated[str, Field(min_length=1, max_length=256, pattern=_PRINTABLE)]
Tracking = Annotated[str, Field(min_length=1, max_length=100, pattern=_PRINTABLE)]
Location = Annotated[str, Field(min_length=1, max_length=255, pattern=_PRINTABLE)]
Amount = Annotated[int, Field(gt=0, description="integer minor units of the currency")]
Quantity = Annotated[int, Field(gt=0, description="pieces")]
