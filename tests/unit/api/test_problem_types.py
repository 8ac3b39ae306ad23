"""The catalogue of problem types is complete, and each becomes a response that says what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import get_args

import httpx
import pytest
from starlette.requests import Request

from api.problems import catalog
from api.problems.catalog import PROBLEM_TYPES, REJECTIONS, RETRYABLE_STATUSES, ProblemType
from api.problems.errors import RateLimited, ServiceError, UnknownOrder
from api.problems.handlers import problem_of, problem_response
from api.problems.problem import Problem, rejected
from orders.rules.checks import RejectionCode
from tests.support.paths import ROOT
from workflows.messages import Rejection, ShellCode

REJECTION_CODES = {*get_args(RejectionCode), *get_args(ShellCode)}


def response_to(problem: Problem) -> httpx.Response:
    scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "server": ("x", 80)}
    request = Request(scope)
    response = problem_response(request, problem)
    return httpx.Response(
        response.status_code, headers=dict(response.headers), content=bytes(response.body)
    )


def rejection(code: str) -> Problem:
    no = Rejection(code=code, message="no", version=7, allowed_commands=["add-note"])
    return rejected(no, "#", no.allowed_commands)


def leaves(error: type[ServiceError]) -> Iterator[type[ServiceError]]:
    kinds = error.__subclasses__()
    for kind in kinds:
        yield from leaves(kind)
    if not kinds:
        yield error


def instance_of(error: type[ServiceError]) -> ServiceError:
    samples = {UnknownOrder: UnknownOrder("ord_x"), RateLimited: RateLimited(7)}
    return samples.get(error) or error()


@pytest.mark.parametrize("problem_type", PROBLEM_TYPES.values(), ids=list(PROBLEM_TYPES))
def test_a_response_has_retry_after_if_and_only_if_a_retry_can_help(
    problem_type: ProblemType,
) -> None:
    response = response_to(Problem(problem_type))
    assert response.status_code == problem_type.status
    is_retryable = response.status_code in RETRYABLE_STATUSES
    assert response.headers.get("Retry-After", "").isdecimal() == is_retryable


@pytest.mark.parametrize(("status", "retry_after"), [(503, None), (429, None), (409, 1)])
def test_a_type_that_contradicts_its_status_cannot_be_made(
    status: int, retry_after: int | None
) -> None:
    with pytest.raises(ValueError, match="teapot: 429 and 503 need retry_after"):
        ProblemType("teapot", status, "Teapot", "It is.", "Brew.", retry_after=retry_after)


@pytest.mark.parametrize("problem_type", PROBLEM_TYPES.values(), ids=list(PROBLEM_TYPES))
def test_a_type_says_what_to_do_in_whole_sentences(problem_type: ProblemType) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", problem_type.code)
    for text in (problem_type.meaning, problem_type.remedy):
        assert text[0].isupper() or text[0] == "`"
        assert text.endswith((".", "?"))


def test_no_two_types_have_the_same_code() -> None:
    constants = [value for value in vars(catalog).values() if isinstance(value, ProblemType)]
    assert len(PROBLEM_TYPES) == len(constants) + len(REJECTIONS)


def test_every_code_of_a_rejection_has_a_type_and_no_other_has() -> None:
    assert {problem_type.code for problem_type in REJECTIONS} == REJECTION_CODES


def test_every_type_is_raised_somewhere() -> None:
    sources = [
        file.read_text()
        for folder in ("api", "orders", "workflows")
        for file in (ROOT / folder).rglob("*.py")
        if file.name != "catalog.py"
    ]
    constants = {name for name, value in vars(catalog).items() if isinstance(value, ProblemType)}
    for name in constants:
        used = rf"\bcatalog\.{name}\b|(\b{name}\b.*){{2}}"  # Or imported, and then used.
        assert any(re.search(used, text, re.DOTALL) for text in sources), name
    for code in REJECTION_CODES:  # Once in the list of codes, and at least once in use.
        assert sum(text.count(f'"{code}"') for text in sources) > 1, code


@pytest.mark.parametrize("error", list(leaves(ServiceError)))
def test_every_service_error_is_a_problem(error: type[ServiceError]) -> None:
    assert problem_of(instance_of(error)).type in PROBLEM_TYPES.values()


def test_a_rate_limited_caller_learns_when_to_retry() -> None:
    response = response_to(problem_of(RateLimited(7)))
    assert (response.status_code, response.headers["Retry-After"]) == (429, "7")
    assert response.json()["detail"] == "Rate limit exceeded. Nothing was changed; retry in 7 s."


@pytest.mark.parametrize(
    ("code", "status"), [("version-conflict", 412), ("log-behind", 503), ("no-lines", 409)]
)
def test_a_rejection_has_the_status_of_its_type(code: str, status: int) -> None:
    assert response_to(rejection(code)).status_code == status


def test_a_rejection_by_a_rule_that_this_process_does_not_know_yet_is_a_conflict() -> None:
    response = response_to(rejection("from-a-newer-worker"))
    assert response.status_code == 409
    document = response.json()
    assert (document["code"], document["detail"]) == ("from-a-newer-worker", "No.")
    assert document["errors"][0]["code"] == "from-a-newer-worker"
