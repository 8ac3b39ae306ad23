"""Traffic during a roll complains of what a release must never cause, and of nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from dev.release import traffic as module
from dev.release.traffic import ORDERS, Traffic

RESULT = {"order_id": "ord_1", "version": 3}
LATER = {"Retry-After": "1"}


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0)


def answering(*answers: httpx.Response) -> Traffic:
    """Traffic on a service that gives these answers, and then the last one again."""
    left = list(answers)

    def answer(_: httpx.Request) -> httpx.Response:
        return left.pop(0) if len(left) > 1 else left[0]

    transport = httpx.MockTransport(answer)
    return Traffic(httpx.AsyncClient(transport=transport, base_url="http://orderly"))


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    return httpx.Response(status, json={"code": code}, headers=headers)


async def test_retryable_rejection_is_repeated_until_the_command_is_done() -> None:
    traffic = answering(problem(503, "outcome-unknown", **LATER), httpx.Response(200, json=RESULT))
    await traffic._post(ORDERS, {})
    assert (traffic.complaints, traffic.versions) == ([], {"ord_1": 3})


async def test_command_that_an_older_version_cannot_read_waits_without_complaint() -> None:
    traffic = answering(problem(503, "event-unreadable", **LATER))
    await traffic._post(ORDERS, {})
    assert (traffic.complaints, traffic.versions) == ([], {})


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (problem(500, "internal-error"), "was answered 500"),
        (problem(404, "unknown-command"), "was answered 404"),
        (problem(422, "no-lines"), "was answered 422"),
        (httpx.Response(502, text="no JSON"), "was answered 502"),
    ],
)
async def test_other_errors_are_complained_of(answer: httpx.Response, complaint: str) -> None:
    traffic = answering(answer)
    await traffic._post(ORDERS, {})
    (said,) = traffic.complaints
    assert complaint in said


async def test_rejection_without_retry_after_is_complained_of() -> None:
    traffic = answering(problem(503, "overloaded"), httpx.Response(200, json=RESULT))
    await traffic._post(ORDERS, {})
    assert traffic.complaints == [f"{ORDERS} was answered 503 without Retry-After: overloaded"]


async def test_no_answer_in_time_is_complained_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS_MAX", 0.01)
    traffic = answering(problem(503, "outcome-unknown", **LATER))
    await traffic._post(ORDERS, {})
    (said,) = traffic.complaints
    assert "had no answer" in said and said.endswith("outcome-unknown")


@pytest.mark.parametrize(
    ("answer", "pending", "complaints"),
    [
        ({"state": "done"}, [], 0),
        ({"state": "pending"}, ["/later"], 0),
        ({"state": "rejected"}, [], 1),
        ({"code": "unknown-command"}, [], 1),
    ],
)
async def test_queued_command_must_be_done(
    answer: dict[str, Any], pending: list[str], complaints: int
) -> None:
    traffic = answering(
        httpx.Response(202, json={"href": "/later"}), httpx.Response(200, json=answer)
    )
    await traffic._post(ORDERS, {})
    assert traffic.queued == ["/later"]
    assert await traffic.unsettled() == pending
    assert len(traffic.complaints) == complaints


async def test_traffic_opens_orders_and_ends_with_answers() -> None:
    traffic = answering(httpx.Response(200, json=RESULT))
    async with traffic.flowing():
        while not traffic.responses:
            await asyncio.sleep(0)
    assert traffic.complaints == []
    assert traffic.responses["200"] > 0
