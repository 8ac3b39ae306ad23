"""The errors that a caller is told of, each with a status, a stable code and what to change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel

from workflows.messages import LOG_BEHIND, VERSION_CONFLICT, Rejection

# A caller can make thousands of mistakes in one body, and needs to be told of some.
ERRORS_MAX = 100
STEP_CHARACTERS_MAX = 100


class FieldError(BaseModel):
    """One thing in the request to change, found by exactly one of the first three."""

    pointer: str | None = None
    """A JSON pointer into the body, as a URI fragment: "#/lines/3/quantity"."""
    parameter: str | None = None
    header: str | None = None
    code: str
    detail: str


class Problem(Exception):
    """An error that the caller is told of."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldError] = (),
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
        current_version: int | None = None,
        allowed_commands: list[str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = list(errors)
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)
        self.current_version = current_version
        self.allowed_commands = allowed_commands


def unauthenticated(wrong: str | None = None) -> Problem:
    """For a request without a token, or with one of which something is wrong (RFC 6750)."""
    challenge, detail = "Bearer", "Send a token, as Authorization: Bearer and the token."
    if wrong is not None:
        challenge = f'Bearer error="invalid_token", error_description="{wrong}"'
        detail = f"The token cannot be believed: {wrong}."
    return Problem(401, "unauthenticated", detail, headers={"WWW-Authenticate": challenge})


def insufficient_scope(scope: str) -> Problem:
    return Problem(
        403,
        "insufficient-scope",
        f"This takes a token with the scope {scope}.",
        headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},
    )


def unknown_order(order_id: str) -> Problem:
    return Problem(404, "unknown-order", f"There is no order {order_id}.")


def unknown_command(order_id: str) -> Problem:
    return Problem(
        404,
        "unknown-command",
        f"Order {order_id} knows no such command: it was never sent, or it was refused so long ago "
        "that this is forgotten. Nothing of it has happened.",
    )


def key_reused() -> Problem:
    return Problem(
        422,
        "idempotency-key-reused",
        "This key came with another payload before. Use a new key for a new request.",
        errors=[
            FieldError(header="Idempotency-Key", code="reused", detail="names another request")
        ],
    )


def outcome_unknown() -> Problem:
    return Problem(
        503,
        "outcome-unknown",
        "The order has not answered in time. Repeat the request with the same Idempotency-Key.",
        retry_after=1,
    )


def engine_unavailable() -> Problem:
    return Problem(
        503,
        "engine-unavailable",
        "Orders cannot take commands right now. Repeat the request with the same Idempotency-Key.",
        retry_after=1,
    )


def too_busy() -> Problem:
    return Problem(
        429, "too-busy", "Too many commands are under way; repeat this one later.", retry_after=1
    )


def overloaded() -> Problem:
    detail = "More is asked of this process than it can do. Nothing has happened; repeat it later."
    return Problem(503, "overloaded", detail, retry_after=1)


def rate_limited(seconds: int) -> Problem:
    detail = f"You ask too often. Nothing has happened; repeat it in {seconds} s, and ask slower."
    return Problem(429, "rate-limited", detail, retry_after=seconds)


def storage_unavailable() -> Problem:
    return Problem(
        503, "storage-unavailable", "The event log cannot be read right now.", retry_after=1
    )


def malformed(errors: Sequence[FieldError]) -> Problem:
    count = "One thing" if len(errors) == 1 else f"{len(errors)} things"
    detail = f"{count} in the request cannot be understood; `errors` says what to change."
    return Problem(422, "malformed-request", detail, errors=errors[:ERRORS_MAX])


def pointer(path: Iterable[object]) -> str:
    """A JSON pointer into the body, as a URI fragment."""
    steps = (str(step)[:STEP_CHARACTERS_MAX] for step in path)
    return "/".join(["#", *(step.replace("~", "~0").replace("/", "~1") for step in steps)])


def malformed_header(header: str, detail: str) -> Problem:
    return Problem(
        422,
        "malformed-request",
        f"The {header} header {detail}.",
        errors=[FieldError(header=header, code="malformed", detail=detail)],
    )


def not_ours(parameter: str, detail: str) -> Problem:
    """For what only we hand out, and the caller has not from us."""
    return Problem(
        400,
        f"invalid-{parameter.replace('_', '-')}",
        f"The {parameter} {detail}.",
        errors=[FieldError(parameter=parameter, code="invalid", detail=detail)],
    )


def unserved_sort(sorts: Sequence[str]) -> Problem:
    """For a sort in which no index finds what the filters ask for."""
    detail = f"with these filters, must be {' or '.join(sorts)}, each with or without a minus sign"
    return Problem(
        422,
        "malformed-request",
        f"The sort, {detail}.",
        errors=[FieldError(parameter="sort", code="not-with-these-filters", detail=detail)],
    )


def refused(refusal: Rejection, pointer: str) -> Problem:
    """What an order's refusal means over HTTP; `pointer` leads to the refused command."""
    status = {VERSION_CONFLICT: 412, LOG_BEHIND: 503}.get(refusal.code, 409)
    errors = []
    if status == 409:
        pointer += f"/{refusal.field}" if refusal.field else ""
        errors = [FieldError(pointer=pointer, code=refusal.code, detail=refusal.message)]
    return Problem(
        status,
        refusal.code,
        f"{refusal.message[0].upper()}{refusal.message[1:]}.",
        errors=errors,
        retry_after=1 if status == 503 else None,
        current_version=refusal.version,
        allowed_commands=refusal.allowed_commands,
    )
