"""The exception that is an HTTP problem, and constructors for the kinds that are raised often.

The tree of all errors is drawn at the top of `errors.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel
from starlette.exceptions import HTTPException

from api.problems.catalog import (
    INSUFFICIENT_SCOPE,
    MALFORMED_REQUEST,
    PROBLEM_TYPES,
    UNAUTHENTICATED,
    ProblemType,
    unknown_rejection,
)
from workflows.messages import Rejection

# One body can contain thousands of mistakes, and a caller needs only some of them.
ERRORS_MAX = 100
STEP_CHARACTERS_MAX = 100


class FieldError(BaseModel):
    """One mistake in the request, located by exactly one of the first three."""

    pointer: str | None = None
    """A JSON pointer into the body, as a URI fragment: "#/lines/3/quantity"."""
    parameter: str | None = None
    header: str | None = None
    code: str
    detail: str


class Problem(Exception):
    """An error that becomes the response: a type, and what is specific to this request."""

    def __init__(
        self,
        problem_type: ProblemType,
        detail: str | None = None,
        *,
        errors: Sequence[FieldError] = (),
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
        current_version: int | None = None,
        allowed_commands: list[str] | None = None,
    ) -> None:
        self.type = problem_type
        self.detail = detail or problem_type.meaning
        super().__init__(self.detail)
        self.errors = list(errors)
        self.headers = dict(headers or {})
        if problem_type.retry_after is not None:
            self.headers["Retry-After"] = str(retry_after or problem_type.retry_after)
        self.current_version = current_version
        self.allowed_commands = allowed_commands


class BodyRejected(HTTPException):
    """A body that is not read any further; `problem` says why.

    FastAPI passes on no other kind of exception while it reads a body.
    """

    def __init__(self, problem: Problem, *, closes: bool = False) -> None:
        headers = {"Connection": "close"} if closes else None
        super().__init__(problem.type.status, headers=headers)
        self.problem = problem


def unauthenticated(reason: str | None = None) -> Problem:
    """For a request without a token, or with one that is invalid for a reason (RFC 6750)."""
    challenge, detail = "Bearer", "Send a token, as Authorization: Bearer and the token."
    if reason is not None:
        challenge = f'Bearer error="invalid_token", error_description="{reason}"'
        detail = f"Invalid token: {reason}."
    return Problem(UNAUTHENTICATED, detail, headers={"WWW-Authenticate": challenge})


def insufficient_scope(scope: str) -> Problem:
    challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
    detail = f"This requires a token with the scope {scope}."
    return Problem(INSUFFICIENT_SCOPE, detail, headers={"WWW-Authenticate": challenge})


def malformed(errors: Sequence[FieldError], number: int | None = None) -> Problem:
    """`number` is that of all mistakes, if `errors` has the first ones only."""
    number = number or len(errors)
    parts = "One part of the request is" if number == 1 else f"{number} parts of the request are"
    detail = f"{parts} invalid; `errors` says what to change."
    return Problem(MALFORMED_REQUEST, detail, errors=errors[:ERRORS_MAX])


def malformed_header(header: str, detail: str) -> Problem:
    error = FieldError(header=header, code="malformed", detail=detail)
    return Problem(MALFORMED_REQUEST, f"The {header} header {detail}.", errors=[error])


def unsupported_sort(sorts: Sequence[str]) -> Problem:
    """For a sort that no index supports together with the filters."""
    detail = f"with these filters, must be {' or '.join(sorts)}, each with or without a minus sign"
    error = FieldError(parameter="sort", code="not-with-these-filters", detail=detail)
    return Problem(MALFORMED_REQUEST, f"The sort, {detail}.", errors=[error])


def not_issued(problem_type: ProblemType, parameter: str, detail: str) -> Problem:
    """For a cursor or token that this API did not issue."""
    error = FieldError(parameter=parameter, code="invalid", detail=detail)
    return Problem(problem_type, f"The {parameter} {detail}.", errors=[error])


def rejected(rejection: Rejection, pointer: str, allowed_commands: list[str]) -> Problem:
    """The problem of an order's rejection; `pointer` locates the rejected command in the body."""
    problem_type = PROBLEM_TYPES.get(rejection.code) or unknown_rejection(rejection.code)
    errors = []
    if problem_type.status == 409:
        pointer += f"/{rejection.field}" if rejection.field else ""
        errors = [FieldError(pointer=pointer, code=rejection.code, detail=rejection.message)]
    return Problem(
        problem_type,
        f"{rejection.message[0].upper()}{rejection.message[1:]}.",
        errors=errors,
        current_version=rejection.version,
        allowed_commands=allowed_commands,
    )


def json_pointer(path: Iterable[object]) -> str:
    """A JSON pointer into the body, as a URI fragment."""
    steps = (str(step)[:STEP_CHARACTERS_MAX] for step in path)
    return "/".join(["#", *(step.replace("~", "~0").replace("/", "~1") for step in steps)])
