"""Maps every error, those of the framework included, to an RFC 9457 problem document."""

from __future__ import annotations

import logging
from dataclasses import replace
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from prometheus_client import Counter
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match

from api.context import RequestContext, context_of, route_of
from api.problems import catalog, errors
from api.problems.problem import (
    ERRORS_MAX,
    BodyRejected,
    FieldError,
    Problem,
    json_pointer,
    malformed,
)
from eventlog.postgres import OTHER_TABLES, UNAVAILABLE
from field_errors import words_for
from orders.commands import COMMAND_TYPES, type_of
from orders.upcasting import UnreadableEvent
from readside.engine.projection import ProjectionError
from workflows.messages import EVENT_UNREADABLE

log = logging.getLogger("orderly.api")

MEDIA_TYPE = "application/problem+json"
UPGRADE_SECONDS = 10
SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
# Refused before the caller is known, or because there are many.
COUNTED = frozenset((401, 429))


class ProblemDetails(BaseModel):
    """RFC 9457, with a stable `code` for programs; `type` is the address of its description."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: catalog.ProblemCode
    errors: list[FieldError] = []
    request_id: str
    trace_id: str
    current_version: int | None = None
    allowed_commands: list[str] | None = None


def register_exception_handlers(app: FastAPI) -> None:
    """Makes every error of the application, the framework's included, a problem document."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(errors.ServiceError, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_problem)
    app.add_exception_handler(HTTPException, _on_http_exception)
    for unavailable in UNAVAILABLE:
        app.add_exception_handler(unavailable, _on_postgres_unavailable)
    for other in OTHER_TABLES:
        app.add_exception_handler(other, _on_schema_mismatch)
    app.add_exception_handler(UnreadableEvent, _on_unreadable_event)
    app.add_exception_handler(ProjectionError, _on_projection_error)
    app.add_exception_handler(Exception, _on_bug)


def problem_of(error: Exception) -> Problem:
    """The HTTP problem that an error of a route becomes, wherever it was raised."""
    match error:
        case Problem():
            return error
        case BodyRejected(problem=problem):
            return problem
        case RequestValidationError():
            found = error.errors()
            return malformed([_field_error(each) for each in found[:ERRORS_MAX]], len(found))
        case errors.UnknownOrder(order_id=order_id):
            return Problem(catalog.UNKNOWN_ORDER, f"There is no order {order_id}.")
        case errors.IdempotencyKeyReused():
            detail = "identifies an earlier request with another payload"
            reused = FieldError(header="Idempotency-Key", code="reused", detail=detail)
            return Problem(catalog.IDEMPOTENCY_KEY_REUSED, errors=[reused])
        case errors.RateLimited(retry_after=seconds):
            detail = f"Rate limit exceeded. Nothing was changed; retry in {seconds} s."
            return Problem(catalog.RATE_LIMITED, detail, retry_after=seconds)
        case errors.ServiceError():
            return Problem(_TYPES[type(error)])
        case UnreadableEvent() | ProjectionError(__cause__=UnreadableEvent()):
            return Problem(catalog.PROBLEM_TYPES[EVENT_UNREADABLE])
    if isinstance(error, OTHER_TABLES):
        detail = "The service is being upgraded, and what this request reads is not there yet."
        return Problem(catalog.STORAGE_UNAVAILABLE, detail, retry_after=UPGRADE_SECONDS)
    if isinstance(error, UNAVAILABLE):
        return Problem(catalog.STORAGE_UNAVAILABLE)
    return Problem(catalog.INTERNAL_ERROR)


_TYPES: dict[type[errors.ServiceError], catalog.ProblemType] = {
    errors.TemporalUnavailable: catalog.TEMPORAL_UNAVAILABLE,
    errors.StorageUnavailable: catalog.STORAGE_UNAVAILABLE,
    errors.JwksUnavailable: catalog.SIGNING_KEYS_UNAVAILABLE,
    errors.IdentityProviderUnavailable: catalog.IDENTITY_PROVIDER_UNAVAILABLE,
    errors.OutcomeUnknown: catalog.OUTCOME_UNKNOWN,
    errors.OrderOrphaned: catalog.ORDER_ORPHANED,
    errors.Overloaded: catalog.OVERLOADED,
    errors.TooManyCommands: catalog.TOO_MANY_COMMANDS,
    errors.TooManyStreams: catalog.TOO_MANY_STREAMS,
}


async def _on_problem(request: Request, error: Exception) -> JSONResponse:
    return problem_response(request, problem_of(error))


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    http = cast(HTTPException, error)
    known = http.problem if isinstance(http, BodyRejected) else None
    response = problem_response(request, known or _http_problem(request, http.status_code))
    response.headers.update(http.headers or {})
    if http.status_code == 405:
        response.headers["Allow"] = ", ".join(_allowed_methods(request))
    return response


def _allowed_methods(request: Request) -> list[str]:
    """The methods that a path accepts, over all of its routes."""
    contexts = iter_route_contexts(request.app.routes)
    matching = [route for route in contexts if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in matching for method in route.methods or ()})


def _http_problem(request: Request, status: int) -> Problem:
    """The problem of an error that the framework raised."""
    path = request.url.path
    match status:
        case 404:
            return Problem(catalog.NOT_FOUND, f"There is nothing at {path}.")
        case 405:
            return Problem(catalog.METHOD_NOT_ALLOWED, f"{path} does not accept {request.method}.")
        case _:
            retry_after = 1 if status in catalog.RETRYABLE_STATUSES else None
            problem_type = replace(catalog.HTTP_ERROR, status=status, retry_after=retry_after)
            return Problem(problem_type, f"{HTTPStatus(status).phrase}.")


async def _on_postgres_unavailable(request: Request, error: Exception) -> JSONResponse:
    log.warning("Postgres unavailable: %r", error)
    return problem_response(request, problem_of(error))


async def _on_schema_mismatch(request: Request, error: Exception) -> JSONResponse:
    log.error("the tables are of another version (orderly migrate, or rebuild): %s", error)
    return problem_response(request, problem_of(error))


async def _on_projection_error(request: Request, error: Exception) -> JSONResponse:
    is_unreadable = isinstance(error.__cause__, UnreadableEvent)
    return await (_on_unreadable_event if is_unreadable else _on_bug)(request, error)


async def _on_unreadable_event(request: Request, error: Exception) -> JSONResponse:
    log.warning("unreadable event: %s", error)
    return problem_response(request, problem_of(error))


async def _on_bug(request: Request, error: Exception) -> JSONResponse:
    log.error("bug while serving %s %s", request.method, request.url.path, exc_info=error)
    return problem_response(request, problem_of(error))


def problem_details(problem: Problem, context: RequestContext, instance: str) -> ProblemDetails:
    """The document of a problem in one request; `instance` is the path of that request."""
    return ProblemDetails(
        type=problem.type.uri,
        title=problem.type.title,
        status=problem.type.status,
        detail=problem.detail,
        instance=instance,
        code=problem.type.code,
        errors=problem.errors,
        request_id=context.request_id,
        trace_id=context.trace_id,
        current_version=problem.current_version,
        allowed_commands=problem.allowed_commands,
    )


_PROBLEMS_TOTAL = Counter(
    "orderly_problems_total", "Responses that are problem documents, by code.", ["code"]
)
for _code in catalog.PROBLEM_TYPES:
    _PROBLEMS_TOTAL.labels(_code)  # 0, so that the first one shows as an increase.


def count_problem(problem_type: catalog.ProblemType) -> None:
    """Counts a response."""
    _PROBLEMS_TOTAL.labels(problem_type.code).inc()


def problem_response(request: Request, problem: Problem) -> JSONResponse:
    count_problem(problem.type)
    if request.method not in SAFE_METHODS:
        _log_refusal(problem, is_known=route_of(request.scope) != "none")
    document = problem_details(problem, context_of(request), request.url.path)
    return JSONResponse(
        document.model_dump(exclude_none=True),
        status_code=problem.type.status,
        headers=problem.headers,
        media_type=MEDIA_TYPE,
    )


def _log_refusal(problem: Problem, *, is_known: bool) -> None:
    """One line for each command that is refused; a flood of the same kind is counted.

    So is what is sent to no known route.
    """
    status, code = problem.type.status, problem.type.code
    if problem.type is catalog.INTERNAL_ERROR:
        return  # A bug, which has a line of its own.
    is_counted = status in COUNTED or status >= 500 or not is_known
    level = logging.WARNING if is_counted else logging.INFO
    log.log(level, "refused: %s", code, extra={"status": status, "code": code})


# For `responses` of a route: `api/openapi.py` replaces it by the problems that it can answer with.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "A problem document (RFC 9457)",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
    }
}
# For routes that answer with no other problem.
MALFORMED: dict[int | str, dict[str, Any]] = {422: PROBLEMS["default"]}

_TAGS = frozenset(type_of(command_type) for command_type in COMMAND_TYPES)


def _field_error(error: Any) -> FieldError:
    source, *path = error["loc"]
    # A discriminated union adds the chosen member to the path, which is not in the body.
    steps = [str(part) for part in path if part not in _TAGS]
    code, detail = words_for(error)
    if source == "body":
        return FieldError(pointer=json_pointer(steps), code=code, detail=detail)
    locator = "header" if source == "header" else "parameter"
    return FieldError.model_validate({locator: ".".join(steps), "code": code, "detail": detail})
