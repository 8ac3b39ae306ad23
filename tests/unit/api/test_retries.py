"""Retries of calls to Temporal: how often, and for how long."""

from __future__ import annotations

import asyncio
import time

import pytest
from temporalio.api.common.v1 import GrpcStatus
from temporalio.api.errordetails.v1 import WorkflowNotReadyFailure
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from api.gateway import retries
from api.gateway.gateway import raise_update_error
from api.gateway.retries import Retry, raise_rpc_error, retry_until
from api.problems.errors import OutcomeUnknown, ServiceError, TemporalUnavailable, TooManyCommands
from orders.commands import RemoveItemFromOrder
from tests.support.command_builders import message


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "RETRY_SECONDS", 0.005)
    monkeypatch.setattr(retries, "RETRY_SECONDS_MAX", 0.02)
    monkeypatch.setattr(retries, "RECONNECT_SECONDS_MAX", 0.1)


async def attempts(*failures: RPCStatusCode, seconds: float) -> int:
    """The number of attempts until one succeeds, after these have failed."""
    count = 0

    async def attempt(_: float) -> int:
        nonlocal count
        count += 1
        if count <= len(failures):
            raise_rpc_error(RPCError("it failed", failures[count - 1], b""))
        return count

    return await retry_until(asyncio.get_running_loop().time() + seconds, attempt)


async def test_command_is_sent_again_at_once_while_its_order_continues_as_new() -> None:
    began = time.monotonic()
    assert await attempts(RPCStatusCode.RESOURCE_EXHAUSTED, seconds=60) == 2
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (RPCStatusCode.RESOURCE_EXHAUSTED, TooManyCommands),
        (RPCStatusCode.CANCELLED, TemporalUnavailable),
        (RPCStatusCode.INTERNAL, TemporalUnavailable),
    ],
)
async def test_retries_end_at_the_deadline(
    status: RPCStatusCode, error: type[ServiceError]
) -> None:
    with pytest.raises(error):
        await attempts(*[status] * 1_000, seconds=0.1)


async def test_unavailable_server_gets_little_time_to_return() -> None:
    assert await attempts(*[RPCStatusCode.UNAVAILABLE] * 2, seconds=60) == 3
    began = time.monotonic()
    with pytest.raises(TemporalUnavailable):
        await attempts(*[RPCStatusCode.UNAVAILABLE] * 1_000, seconds=60)
    assert time.monotonic() - began < 30


async def test_timeout_of_a_call_is_not_retried() -> None:
    with pytest.raises(TemporalUnavailable):
        await attempts(RPCStatusCode.DEADLINE_EXCEEDED, seconds=60)


def test_order_whose_tasks_fail_is_not_taken_for_an_unavailable_server() -> None:
    """The server says so in this way from the third attempt of a task on."""
    status = GrpcStatus()
    status.details.add().Pack(WorkflowNotReadyFailure())
    raw, code = status.SerializeToString(), RPCStatusCode.FAILED_PRECONDITION
    with pytest.raises(Retry) as retry:
        raise_rpc_error(RPCError("Workflow Task in failed state.", code, raw))
    assert isinstance(retry.value.error, OutcomeUnknown)


def test_update_that_a_stopping_worker_did_not_look_at_is_sent_again() -> None:
    """Temporal rejects it in words of its own; the races of history replay meet this for real."""
    unprocessed = ApplicationError("it wasn't processed by worker", type="UnprocessedUpdate")
    with pytest.raises(Retry) as retry:
        raise_update_error(
            WorkflowUpdateFailedError(unprocessed),
            message("ord_1", RemoveItemFromOrder(line_id="a")),
        )
    assert isinstance(retry.value.error, TemporalUnavailable)
