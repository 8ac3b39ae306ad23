"""Checks that a body is unambiguous JSON of limited size, before it is parsed by a schema."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from email.message import Message
from itertools import islice
from typing import Any, NoReturn

from starlette.datastructures import Headers

from api.problems.catalog import BODY_TIMEOUT, BODY_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE
from api.problems.problem import (
    ERRORS_MAX,
    BodyRejected,
    FieldError,
    Problem,
    json_pointer,
    malformed,
)

BYTES_MAX = 256 * 1024
SECONDS_MAX = 10.0
DEPTH_MAX = 32
VALUES_MAX = 20_000  # Three times those of the largest command batch; checking them takes time.
DIGITS_MAX = 20  # A 64-bit number with its sign; Python's own limit is higher.


class _Object(list[tuple[str, Any]]):
    """An object with all of its keys, duplicates included."""


def too_large() -> BodyRejected:
    detail = f"A body may have at most {BYTES_MAX:,} bytes."
    return BodyRejected(Problem(BODY_TOO_LARGE, detail), closes=True)


def too_slow() -> BodyRejected:
    detail = f"The body did not arrive within {SECONDS_MAX:.0f} seconds."
    return BodyRejected(Problem(BODY_TIMEOUT, detail), closes=True)


def check_type(headers: Headers) -> None:
    """Raises BodyRejected for a Content-Type or Content-Encoding other than plain JSON."""
    declared = Message()
    declared["content-type"] = headers.get("content-type", "none")
    kind = declared.get_content_type()
    if kind != "application/json" and not kind.endswith("+json"):
        _reject_header("Content-Type", "must be application/json")
    if headers.get("content-encoding", "identity") != "identity":
        _reject_header("Content-Encoding", "must be left out: send the body as it is")


def _reject_header(header: str, detail: str) -> NoReturn:
    error = FieldError(header=header, code="unsupported", detail=detail)
    detail = f"The {header} header {detail}."
    raise BodyRejected(Problem(UNSUPPORTED_MEDIA_TYPE, detail, errors=[error]))


def check(body: bytes) -> None:
    """Raises BodyRejected for a body that is not JSON, or is ambiguous JSON."""
    try:
        text = body.decode()
        if sum(text.count(mark) for mark in ",[{") > VALUES_MAX:
            raise BodyRejected(malformed([_too_many()]))
        document = json.loads(
            text,
            object_pairs_hook=_Object,
            parse_int=lambda text: int(text) if len(text) <= DIGITS_MAX else math.inf,
        )
    except UnicodeDecodeError:
        errors = [FieldError(pointer="#", code="json-invalid", detail="not UTF-8")]
    except json.JSONDecodeError as error:
        wrong = f"not JSON: {error.msg}, after {error.pos:,} characters"
        errors = [FieldError(pointer="#", code="json-invalid", detail=wrong)]
    except RecursionError:
        errors = [_too_deep(())]
    else:
        errors = list(islice(_faults(document, ()), ERRORS_MAX))
    if errors:
        raise BodyRejected(malformed(errors))


def _faults(value: Any, path: tuple[object, ...]) -> Iterator[FieldError]:
    match value:
        case list() if len(path) == DEPTH_MAX:
            yield _too_deep(path)
        case _Object():
            seen = set[str]()
            for key, inner in value:
                if key in seen:
                    yield _fault((*path, key), "duplicate-key", "comes twice; send it once")
                elif not _is_text(key):
                    yield _fault(path, "not-unicode", "has a key with half a surrogate pair")
                else:
                    yield from _faults(inner, (*path, key))
                seen.add(key)
        case list():
            for number, inner in enumerate(value):
                yield from _faults(inner, (*path, number))
        case str() if not _is_text(value):
            yield _fault(path, "not-unicode", "has half a surrogate pair")
        case int() if not -(2**63) <= value < 2**63:
            yield _fault(path, "number-too-large", "is beyond 64 bits")
        case float() if not math.isfinite(value):
            yield _fault(path, "number-too-large", "is beyond 64 bits, or no number")


def _too_many() -> FieldError:
    return _fault((), "too-many-values", f"has more than {VALUES_MAX:,} values")


def _too_deep(path: tuple[object, ...]) -> FieldError:
    return _fault(path, "too-deep", f"is nested deeper than {DEPTH_MAX} levels")


def _fault(path: tuple[object, ...], code: str, detail: str) -> FieldError:
    return FieldError(pointer=json_pointer(path), code=code, detail=detail)


def _is_text(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)
