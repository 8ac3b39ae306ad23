"""Responses to commands, and the route to poll for the result of an asynchronous one."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from api.auth.authentication import require_scope
from api.auth.permissions import READ, rejected_for
from api.commands.bodies import AsyncCommand, CommandResult, EventSummary
from api.context import SHORT_HASH, context_of
from api.dependencies import ClientDep, PoolDep
from api.gateway.command_message import CommandMessage
from api.gateway.command_status import command_status
from api.problems.catalog import PROBLEM_TYPES, UNKNOWN_COMMAND
from api.problems.errors import IdempotencyKeyReused
from api.problems.handlers import PROBLEMS, problem_details, problem_of
from api.problems.problem import Problem
from orders.text import Id
from workflows import messages
from workflows.idempotency import CommandStatus
from workflows.messages import NOT_KNOWN_YET

router = APIRouter(
    prefix="/v1/orders", tags=["Orders"], responses=PROBLEMS, route_class=require_scope(READ)
)

POLL_SECONDS = 1
_WAITS = "It is kept, and executed once the order runs in a version that knows it."

COMMAND_RESPONSES: dict[int | str, dict[str, Any]] = {
    **PROBLEMS,
    202: {"model": AsyncCommand, "description": "Accepted and durable: poll `Location`"},
}

# Hashes of the key and of the payload: another payload under the same key has another address.
AsyncCommandId = Annotated[str, Path(pattern=f"^{SHORT_HASH}{SHORT_HASH}$")]


@router.get(
    "/{order_id}/commands/async/{command_id}",
    summary="Get an asynchronous command",
    response_model=AsyncCommand,
    response_model_exclude_none=True,
)
async def get_async_command(
    request: Request, order_id: Id, command_id: AsyncCommandId, client: ClientDep, pool: PoolDep
) -> Response:
    """The state of a command that was sent with `Prefer: respond-async`, and its result.

    Poll it at the interval in `Retry-After` while it is `pending`. A result is kept for ever; a
    rejection while the order is running and it is among its last 100.
    """
    half = len(command_id) // 2
    key_hash, payload_hash = command_id[:half], command_id[half:]
    status = await command_status(client, pool, order_id, key_hash)
    if status is None:
        raise Problem(UNKNOWN_COMMAND)
    return _async_response(_async_command(request, order_id, status, payload_hash))


def accepted_response(message: CommandMessage) -> Response:
    """202: the command is durable, and its result can be polled."""
    href = f"/v1/orders/{message.order_id}/commands/async/"
    href += f"{message.command_id}{message.batch.payload_hash}"
    command = AsyncCommand(order_id=message.order_id, href=href, state="pending")
    response = _async_response(command, status=202)
    response.headers.update({"Location": href, "Preference-Applied": "respond-async"})
    return response


def result_response(
    message: CommandMessage, result: messages.CommandResult, status: int
) -> Response:
    """200 or 201: the command was executed, now or at an earlier attempt."""
    headers = {"ETag": f'"{result.version}"'}
    if result.attempt_id != message.batch.attempt_id:
        headers["Idempotent-Replayed"] = "true"
    if status == 201:
        headers["Location"] = f"/v1/orders/{message.order_id}"
    body = _result(message.order_id, result).model_dump_json()
    return Response(body, status, headers, media_type="application/json")


def _async_command(
    request: Request, order_id: str, status: CommandStatus, payload_hash: str
) -> AsyncCommand:
    command = AsyncCommand(order_id=order_id, href=request.url.path, state="pending")
    if status.payload_hash not in (None, payload_hash):
        return _rejected(command, request, problem_of(IdempotencyKeyReused()))
    if status.rejected is not None:
        rejection = status.rejected.rejection
        pointer = status.rejected.pointer.format(rejection.index)
        problem = rejected_for(context_of(request), rejection, pointer)
        return _rejected(command, request, problem)
    if status.result is not None:
        done = {"state": "done", "result": _result(order_id, status.result)}
        return command.model_copy(update=done)
    if status.is_unread:
        waiting = Problem(PROBLEM_TYPES[NOT_KNOWN_YET], _WAITS)
        return _with_problem(command, request, waiting)
    return command


def _rejected(command: AsyncCommand, request: Request, problem: Problem) -> AsyncCommand:
    rejected = _with_problem(command, request, problem)
    return rejected.model_copy(update={"state": "rejected"})


def _with_problem(command: AsyncCommand, request: Request, problem: Problem) -> AsyncCommand:
    document = problem_details(problem, context_of(request), request.url.path)
    return command.model_copy(update={"problem": document})


def _async_response(command: AsyncCommand, status: int = 200) -> Response:
    headers = {"Retry-After": str(POLL_SECONDS)} if command.state == "pending" else {}
    body = command.model_dump_json(exclude_none=True)
    return Response(body, status, headers, media_type="application/json")


def _result(order_id: str, result: messages.CommandResult) -> CommandResult:
    first = result.version - len(result.event_types) + 1
    return CommandResult(
        order_id=order_id,
        version=result.version,
        status=result.status,
        total=result.total,
        currency=result.currency,
        events=[EventSummary(version=v, type=t) for v, t in enumerate(result.event_types, first)],
        consistency_token=f"{order_id}@{result.version}",
    )
