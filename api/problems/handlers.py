"""Every error as an RFC 9457 problem document, those of the framework included."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import Match

from api.auth.permissions import allowed_to
from api.context import RequestContext, context_of
from api.limits.json_body import BodyRejected
from api.problems import catalog as problem_pages
from api.problems.problem import FieldError, Problem, malformed, pointer, storage_unavailable
from eventlog.postgres import OTHER_TABLES, UNAVAILABLE
from orders.commands import COMMAND_TYPES, type_of
from orders.events import UnreadableEvent
from readside.engine.projection import ProjectionError

log = logging.getLogger("orderly.api")

MEDIA_TYPE = "application/problem+json"


class ProblemDocument(BaseModel):
    """RFC 9457, with a stable `code` for programs; `type` is where it is explained."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    errors: list[FieldError] = []
    request_id: str
    trace_id: str
    current_version: int | None = None
    allowed_commands: list[str] | None = None


def install(app: FastAPI) -> None:
    """Makes every error of the application a problem document, the framework's own included."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http_exception)
    for unavailable in UNAVAILABLE:
        app.add_exception_handler(unavailable, _on_storage_unavailable)
    for other in OTHER_TABLES:
        app.add_exception_handler(other, _on_other_tables)
    app.add_exception_handler(ProjectionError, _on_undigestible)
    app.add_exception_handler(Exception, _on_bug)


async def _on_problem(request: Request, error: Exception) -> JSONResponse:
    return respond(request, cast(Problem, error))


async def _on_validation(request: Request, error: Exception) -> JSONResponse:
    errors = [_field_error(e) for e in cast(RequestValidationError, error).errors()]
    return respond(request, malformed(errors))


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    http = cast(HTTPException, error)
    known = http.problem if isinstance(http, BodyRejected) else None
    response = respond(request, known or _problem_of(request, http.status_code))
    response.headers.update(http.headers or {})
    if http.status_code == 405:
        response.headers["Allow"] = ", ".join(_methods_at(request))
    return response


def _methods_at(request: Request) -> list[str]:
    """All methods that a path takes, whichever of its routes each of them has."""
    routes = iter_route_contexts(request.app.routes)
    there = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in there for method in route.methods or ()})


def _problem_of(request: Request, status: int) -> Problem:
    """What an error of the framework's own means to a caller."""
    path = request.url.path
    match status:
        case 404:
            return Problem(404, "not-found", f"There is nothing at {path}.")
        case 405:
            return Problem(405, "method-not-allowed", f"{path} does not take {request.method}.")
        case _:
            return Problem(status, "http-error", f"{HTTPStatus(status).phrase}.")


async def _on_storage_unavailable(request: Request, error: Exception) -> JSONResponse:
    log.warning("Postgres is away: %r", error)
    return respond(request, storage_unavailable())


async def _on_other_tables(request: Request, error: Exception) -> JSONResponse:
    log.error("These are not the tables of this software (orderly migrate, or rebuild): %s", error)
    detail = "This service is being upgraded, and what it reads is not there yet."
    return respond(request, Problem(503, "storage-unavailable", detail, retry_after=10))


async def _on_undigestible(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error.__cause__, UnreadableEvent):
        return await _on_bug(request, error)
    log.warning("an event cannot be read here: %s", error)
    detail = "An event of this order was written by a later version of the service than this."
    return respond(request, Problem(503, "event-unreadable", detail, retry_after=60))


async def _on_bug(request: Request, error: Exception) -> JSONResponse:
    log.error("bug while serving %s %s", request.method, request.url.path, exc_info=error)
    detail = "This is our mistake. Tell us the request_id and we can find it."
    return respond(request, Problem(500, "internal-error", detail))


def document_of(problem: Problem, context: RequestContext, instance: str) -> ProblemDocument:
    """The problem as it befell one request; `instance` is the path of that."""
    allowed = problem.allowed_commands
    return ProblemDocument(
        type=problem_pages.type_of(problem.code),
        title=problem_pages.title_of(problem.code),
        status=problem.status,
        detail=problem.detail,
        instance=instance,
        code=problem.code,
        errors=problem.errors,
        request_id=context.request_id,
        trace_id=context.trace_id,
        current_version=problem.current_version,
        allowed_commands=allowed and allowed_to(context, allowed),
    )


def respond(request: Request, problem: Problem) -> JSONResponse:
    document = document_of(problem, context_of(request), request.url.path)
    return JSONResponse(
        document.model_dump(exclude_none=True),
        status_code=problem.status,
        headers=problem.headers,
        media_type=MEDIA_TYPE,
    )


# What a route may answer besides its success, for the OpenAPI document.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "A problem document (RFC 9457)",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
    }
}

_TAGS = frozenset(type_of(command_type) for command_type in COMMAND_TYPES)


def _field_error(error: Any) -> FieldError:
    where, *path = error["loc"]
    # A discriminated union names its chosen member in the path, which is not in the body.
    steps = [str(part) for part in path if part not in _TAGS]
    code, detail = error["type"].replace("_", "-"), error["msg"]
    if code == "union-tag-invalid":  # The only message that quotes what was sent.
        detail = f"must be one of {error['ctx']['expected_tags']}"
    if where == "body":
        return FieldError(pointer=pointer(steps), code=code, detail=detail)
    place = "header" if where == "header" else "parameter"
    return FieldError.model_validate({place: ".".join(steps), "code": code, "detail": detail})
