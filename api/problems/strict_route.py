"""The route class of the API: a query is read completely or rejected.

FastAPI ignores unknown query parameters, and all but one of a repeated one. A typo in a filter
would answer with all orders.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from difflib import get_close_matches
from inspect import isclass
from typing import Any, get_args, get_origin

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel

from api.problems.problem import FieldError, malformed


class StrictRoute(APIRoute):
    """Rejects unknown query parameters, and repeated ones that take a single value."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle, parameters = super().get_route_handler(), self._query_parameters()

        async def check_and_handle(request: Request) -> Response:
            if request.scope["query_string"]:
                _check(request, parameters)
            return await handle(request)

        return check_and_handle

    def _query_parameters(self) -> dict[str, bool]:
        """By name of each query parameter, whether it takes several values."""
        parsed_by_fastapi = {
            name: list in (get_origin(part) for part in (annotation, *get_args(annotation)))
            for name, annotation in _declared(self.dependant)
        }
        documented = (self.openapi_extra or {}).get("parameters", [])
        parsed_by_the_route = {p["name"]: False for p in documented if p["in"] == "query"}
        return parsed_by_fastapi | parsed_by_the_route


def _declared(dependant: Dependant) -> Iterator[tuple[str, Any]]:
    """The query parameters of a route and its dependencies, each with its type."""
    for field in dependant.query_params:
        annotation = field.field_info.annotation
        if isclass(annotation) and issubclass(annotation, BaseModel):
            for name, inner in annotation.model_fields.items():
                yield inner.alias or name, inner.annotation
        else:
            yield field.alias, annotation
    for dependency in dependant.dependencies:
        yield from _declared(dependency)


def _check(request: Request, parameters: Mapping[str, bool]) -> None:
    """Raises a Problem that names the parameters to change."""
    errors = []
    for name, count in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name not in parameters:
            nearest = get_close_matches(name, parameters, 1)
            hint = f": did you mean {nearest[0]}?" if nearest else ""
            detail = f"is not a parameter of this operation{hint}"
            errors.append(FieldError(parameter=name, code="unknown-parameter", detail=detail))
        elif count > 1 and not parameters[name]:
            errors.append(FieldError(parameter=name, code="repeated", detail="must be given once"))
    if errors:
        raise malformed(errors)
