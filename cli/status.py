"""What /readyz says, in words for a person: each dependency, and what to do about it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import httpx

ANSWER_SECONDS_MAX = 4.0

Json = Mapping[str, Any]

TEMPORAL = "commands are 503 until it answers; check the server and TEMPORAL_ADDRESS"
WORKERS = (
    "commands are 503, asynchronous ones 202; start `orderly worker`, or end a frozen one and start"
    " it again"
)
POSTGRES = {
    "read-only": "is it a standby, or is its disk full? make it writable; reads continue",
    "full": "find who has them: SELECT usename, count(*) FROM pg_stat_activity GROUP BY 1",
    "not migrated": "then start the processes again",
    "unreachable": "check the server and ORDERLY_POSTGRES_DSN; if it runs, look for locks:"
    " SELECT * FROM pg_stat_activity WHERE wait_event_type = 'Lock'",
}
PROJECTIONS = {
    "stopped": "docs/operations.md says how to start it again",
    "no projector": "start `orderly projector`, or end a frozen one and start it again",
}
BEHIND = (
    "if it does not catch up: SELECT pid, state, query FROM pg_stat_activity"
    " WHERE backend_xid IS NOT NULL ORDER BY xact_start"
)
WAITING = "if it is back: `orderly retry-steps --service {}` retries them now"
PARKED = "`orderly projections parked` says why, `orderly projections retry` tries again"
FAILING = "`orderly stuck` says why; deploy the code that they began with, or `orderly repair`"
DESERTED = "start its workers; then `orderly move-orders --from` its build id"
CURRENT = "start its workers, or make another version current; docs/releasing.md says how"
EVENT_DELIVERY = {
    "no deliverer": "start `orderly deliverer`, or end a frozen one and start it again",
    "no relay": "start `orderly relay`, or end a frozen one and start it again",
    "the broker": "the relay's log says why; the relay continues by itself",
    "": "GET /v1/webhook-endpoints says which and why; docs/operations.md says what to do",
}
UNPUBLISHED = "can the workers reach Postgres, and write to it?"


class NoAnswer(Exception):
    """Why there is nothing to show."""


class Finding(NamedTuple):
    """The state of one dependency; `remedy` is empty if nothing is wrong with it."""

    name: str
    state: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.name:<20}{self.state}" + (f": {self.remedy}" if self.remedy else "")


async def fetch(admin_url: str) -> Json:
    """The body of /readyz on the admin address; raises NoAnswer, also if it takes long."""
    url = f"{admin_url.rstrip('/')}/readyz"
    try:
        async with (
            asyncio.timeout(ANSWER_SECONDS_MAX),
            # No proxy, and no certificates: a health check has no secrets.
            httpx.AsyncClient(trust_env=False, timeout=ANSWER_SECONDS_MAX) as http,
        ):
            body = (await http.get(url)).json()
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        reason = f" ({error})" if str(error) else f" within {ANSWER_SECONDS_MAX:g} seconds"
        raise NoAnswer(
            f"The API does not answer at {url}{reason}: start `orderly api`, end a frozen one, or"
            " name the admin address of another with --url."
        ) from None
    except ValueError:
        body = None
    if not isinstance(body, dict) or not {"commands", "reads"} <= body.keys():
        raise NoAnswer(f"What answers at {url} is not the admin address of an orderly API.")
    if "temporal" not in body:  # It has no connections yet, or no longer.
        raise NoAnswer(f"The API at {url} cannot serve: {body['reasons'][0]}.")
    return body


def findings(readiness: Json) -> Iterator[Finding]:
    """The state of everything, in the order of the way that a command takes."""
    for what in ("commands", "reads"):
        yield Finding(what, "ready" if readiness[what]["ready"] else "NOT READY")
    yield _state("temporal", readiness["temporal"], {"": TEMPORAL})
    remedies = {"unknown": "", "no version": CURRENT, "no worker of the": CURRENT, "": WORKERS}
    yield _state("workers", readiness["workers"], remedies)
    yield _state("postgres", readiness["postgres"], POSTGRES)
    for name, state in readiness["projections"].items():
        yield _state(name, state, PROJECTIONS | {"": BEHIND})
    for service, orders in (readiness["waiting_orders"] or {}).items():
        yield _count(service, orders, "orders wait for it", WAITING.format(service))
    yield _count("parked orders", readiness["parked_orders"], "", PARKED)
    yield _count("unpublished orders", readiness["unpublished_orders"], "", UNPUBLISHED)
    yield _count("failing orders", readiness["failing_orders"], "", FAILING)
    for name, state in (readiness["event_delivery"] or {}).items():
        yield _state(name, state, EVENT_DELIVERY)
    for name, state in (readiness["worker_versions"] or {}).items():
        yield _state(name, state, {"": DESERTED})


def _state(name: str, state: str, remedies: Mapping[str, str]) -> Finding:
    """A state in words, with the remedy for the first beginning of them that is known."""
    if state == "ok":
        return Finding(name, state)
    known = (remedy for beginning, remedy in remedies.items() if state.startswith(beginning))
    return Finding(name, state, next(known, ""))


def _count(name: str, number: int | None, what: str, remedy: str) -> Finding:
    if not number:
        return Finding(name, "ok" if number == 0 else "unknown")
    return Finding(name, f"{number:,} {what}".strip(), remedy)
