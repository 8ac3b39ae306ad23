"""Query parameters: what moments look like, and how to look for any only where there is a query.

FastAPI looks for each parameter in each request; for a route that is read much more often than
anything is asked of it, that would cost as much as finding the order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ValidationError

Q = TypeVar("Q", bound=BaseModel)


def _written_out(value: object) -> object:
    if isinstance(value, str) and not re.match(r"\d{4}-\d\d-\d\d", value):
        raise ValueError("must be written as in RFC 3339: 2017-01-01, or 2017-01-01T11:53:26Z")
    return value  # A bare number would be taken for seconds since 1970.


_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def _in_utc(instant: datetime) -> datetime:
    """The instant in UTC; beyond the calendar, its edge: some clients write "no bound" so."""
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        return _FIRST if instant.year == 1 else _LAST


Instant = Annotated[AwareDatetime, BeforeValidator(_written_out), AfterValidator(_in_utc)]
Day = Annotated[date, BeforeValidator(_written_out)]


def asked(request: Request, shape: type[Q]) -> Q:
    """What the query asks for; raises what FastAPI raises where it cannot be understood."""
    if not request.scope["query_string"]:
        return shape()
    try:
        return shape.model_validate(dict(request.query_params))
    except ValidationError as error:
        places = [{**each, "loc": ("query", *each["loc"])} for each in error.errors()]
        raise RequestValidationError(places) from None


def documented(shape: type[BaseModel], headers: Mapping[str, str]) -> dict[str, Any]:
    """For `openapi_extra`: the parameters of `shape`, and headers with their descriptions."""
    schema = shape.model_json_schema()
    parameters = [
        {
            "name": name,
            "in": "query",
            "description": of_it.pop("description", ""),
            "schema": of_it,
        }
        for name, of_it in schema["properties"].items()
    ]
    parameters += [
        {"name": name, "in": "header", "description": said, "schema": {"type": "string"}}
        for name, said in headers.items()
    ]
    return {"parameters": parameters}
