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

from api.problems.problem import ERRORS_MAX, FieldError, malformed

# More unknown names than these are no typos, and each is compared with all parameters.
HINTS_MAX = 10


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
    counts = Counter(name for name, _ in request.query_params.multi_items())
    # A query has room for thousands: only what is shown is worked out.
    wrong = [name for name in counts if not _is_valid(name, counts[name], parameters)]
    shown = []
    for number, name in enumerate(wrong[:ERRORS_MAX]):
        if name in parameters:
            code, detail = "repeated", "must be given once"
        else:
            nearest = get_close_matches(name, parameters, 1) if number < HINTS_MAX else []
            hint = f": did you mean {nearest[0]}?" if nearest else ""
            code, detail = "unknown-parameter", f"is not a parameter of this operation{hint}"
        shown.append(FieldError(parameter=name, code=code, detail=detail))
    if shown:
        raise malformed(shown, len(wrong))


def _is_valid(name: str, count: int, parameters: Mapping[str, bool]) -> bool:
    return name in parameters and (count == 1 or parameters[name])
