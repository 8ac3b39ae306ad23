"""HTTP as a careful client speaks it: what may have failed is repeated, under the same key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

import httpx

PATIENCE_S = 60.0
PAUSE_S = 0.5
PAUSE_S_MAX = 10.0
PAGE = 100
NEWS_S_MAX = 5
REPEATABLE = (429, 503)

Json = Mapping[str, Any]


class Unanswered(Exception):
    """The API gives no answer that a shop could go on with; the message says what it was."""


class Reason(NamedTuple):
    """Why something was refused, in the API's own words."""

    field: str
    code: str
    detail: str


class Rejected(Exception):
    """The API says no. `lines` are the reasons that name a line, by its place in the request."""

    def __init__(self, reasons: list[Reason], lines: dict[int, Reason]) -> None:
        super().__init__(*reasons)
        self.reasons = reasons
        self.lines = lines


class Wire:
    """Sends requests until they are answered, for as long as patience lasts."""

    def __init__(self, http: httpx.AsyncClient, patience_s: float = PATIENCE_S) -> None:
        self._http = http
        self._patience_s = patience_s
        self.commands = 0
        """Requests with commands that were answered for good, be it by a refusal."""
        self.repetitions = 0

    async def command(self, path: str, key: str, body: Json) -> Json:
        """What the order answers; raises Refused or Unanswered."""
        answer = await self._until_answered("POST", path, {"Idempotency-Key": key}, json=body)
        self.commands += 1
        if answer.is_client_error:
            raise _refused(_json(answer))
        return _good(answer)

    async def read(self, path: str, **params: str | int) -> Json:
        """What a read answers; raises Unanswered."""
        return _good(await self._until_answered("GET", path, {}, params=params))

    async def news(self, path: str, version: int) -> Json | None:
        """What a read answers once an order is past `version`; None if nothing new has come yet."""
        params, headers = {"min_version": version + 1}, {"Prefer": f"wait={NEWS_S_MAX}"}
        try:
            answer = await self._http.get(path, params=params, headers=headers)
        except httpx.TransportError:
            answer = None
        if answer is None or answer.status_code in REPEATABLE:
            await asyncio.sleep(PAUSE_S)
            return None
        return _good(answer)

    async def orders(self) -> AsyncIterator[Json]:
        """Every order that the read model has, page by page, oldest first."""
        params: dict[str, str | int] = {"sort": "opened_at", "limit": PAGE}
        while True:
            page = await self.read("/v1/orders", **params)
            for order in page["items"]:
                yield order
            if page["next"] is None:
                return
            params["cursor"] = page["next"]

    async def _until_answered(
        self, method: str, path: str, headers: dict[str, str], **content: Any
    ) -> httpx.Response:
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + self._patience_s
        while True:
            pause_s = PAUSE_S
            try:
                answer = await self._http.request(method, path, headers=headers, **content)
            except httpx.TransportError as error:
                failure = f"no answer ({error or type(error).__name__})"
            else:
                if answer.status_code not in REPEATABLE:
                    return answer
                failure, pause_s = _told(answer), _retry_after_s(answer)
            if clock() + pause_s > give_up_at:
                raise Unanswered(f"{method} {path}, repeated for {self._patience_s:g} s: {failure}")
            self.repetitions += 1
            await asyncio.sleep(pause_s)


def _retry_after_s(answer: httpx.Response) -> float:
    told = answer.headers.get("Retry-After", "")
    return min(float(told), PAUSE_S_MAX) if told.isdecimal() else PAUSE_S


def _good(answer: httpx.Response) -> Json:
    if not answer.is_success:
        raise Unanswered(f"{answer.request.method} {answer.url.path}: {_told(answer)}")
    return _json(answer)


def _json(answer: httpx.Response) -> Json:
    try:
        document = answer.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise Unanswered(f"{answer.url.path}: {answer.status_code}, and not a JSON object")
    return document


def _told(answer: httpx.Response) -> str:
    """An error as a person should read it, with what is needed to find it in the logs."""
    problem = _json(answer)
    parts = (problem.get(part) for part in ("code", "detail", "request_id"))
    return " · ".join([str(answer.status_code), *(str(part) for part in parts if part)])


def _refused(problem: Json) -> Rejected:
    """The refusal in a problem document; one that names no field is a reason as a whole."""
    reasons: list[Reason] = []
    lines: dict[int, Reason] = {}
    for error in problem.get("errors", []):
        _, *steps = (error.get("pointer") or "#").split("/")
        in_line = len(steps) >= 2 and steps[0] == "lines" and steps[1].isdecimal()
        if in_line:
            field = "/".join(steps[2:]) or "the whole line"
        else:
            field = "/".join(steps) or error.get("header") or "the whole request"
        reason = Reason(field, error["code"], error["detail"])
        reasons.append(reason)
        if in_line:
            lines.setdefault(int(steps[1]), reason)
    return Rejected(
        reasons or [Reason("the whole request", problem["code"], problem["detail"])], lines
    )
