"""What a command came to: the answer, at once or, for who did not wait, at an address to poll."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, Field

from api.auth.authentication import require_scope
from api.auth.permissions import READ, rejected_for
from api.context import SHORT_HASH, context_of
from api.dependencies import ClientDep, PoolDep
from api.gateway.command_message import CommandMessage
from api.gateway.command_status import command_status
from api.problems.catalog import UNKNOWN_COMMAND
from api.problems.errors import IdempotencyKeyReused
from api.problems.handlers import PROBLEMS, ProblemDocument, document_of, problem_of
from api.problems.problem import Problem
from orders.text import Id
from workflows import messages
from workflows.idempotency import CommandStatus

router = APIRouter(
    prefix="/v1/orders", tags=["Orders"], responses=PROBLEMS, route_class=require_scope(READ)
)

POLL_SECONDS = 1


class EventSummary(BaseModel):
    """An event that a request caused."""

    version: int
    type: str


class CommandResult(BaseModel):
    """What an order became by what was asked of it. `events` is empty if it was already so."""

    order_id: str
    version: int
    status: str
    total: int = Field(description="integer minor units of `currency`")
    currency: str
    events: list[EventSummary]
    consistency_token: str = Field(description="give it to a read to see this change there")


class AsyncCommand(BaseModel):
    """A command that nobody waits for, and what has become of it."""

    order_id: str
    href: str = Field(description="where to ask what has become of it")
    state: Literal["pending", "done", "rejected"]
    result: CommandResult | None = Field(None, description="if `done`")
    problem: ProblemDocument | None = Field(None, description="if `rejected`, why")


# Of a route that takes commands: with `Prefer: respond-async` it may answer 202.
ANSWERS: dict[int | str, dict[str, Any]] = {
    **PROBLEMS,
    202: {"model": AsyncCommand, "description": "Kept, and carried out later: poll `Location`"},
}

# Hashes of the key and of the payload: another payload under the same key has another address.
AsyncCommandId = Annotated[str, Path(pattern=f"^{SHORT_HASH}{SHORT_HASH}$")]


@router.get(
    "/{order_id}/commands/async/{command_id}",
    summary="What has become of a command that was sent with respond-async",
    response_model=AsyncCommand,
    response_model_exclude_none=True,
)
async def get_async_command(
    request: Request, order_id: Id, command_id: AsyncCommandId, client: ClientDep, pool: PoolDep
) -> Response:
    """Poll it until it is no longer `pending`, as often as `Retry-After` says.

    What was done stays known for ever; what was refused, while the order runs and among its last
    hundred refusals.
    """
    half = len(command_id) // 2
    key_hash, payload_hash = command_id[:half], command_id[half:]
    known = await command_status(client, pool, order_id, key_hash)
    if known is None:
        raise Problem(UNKNOWN_COMMAND)
    return _shown(_told(request, order_id, known, payload_hash))


def accepted(mail: CommandMessage) -> Response:
    """202: the batch cannot be lost any more, and what becomes of it is to be asked for."""
    href = f"/v1/orders/{mail.order_id}/commands/async/"
    href += f"{mail.command_id}{mail.batch.payload_hash}"
    sent = AsyncCommand(order_id=mail.order_id, href=href, state="pending")
    response = _shown(sent, status=202)
    response.headers.update({"Location": href, "Preference-Applied": "respond-async"})
    return response


def answered(mail: CommandMessage, answer: messages.CommandResult, status: int) -> Response:
    """200 or 201: the batch was carried out, and this came of it."""
    headers = {"ETag": f'"{answer.version}"'}
    if answer.attempt_id != mail.batch.attempt_id:
        headers["Idempotent-Replayed"] = "true"
    if status == 201:
        headers["Location"] = f"/v1/orders/{mail.order_id}"
    body = _body(mail.order_id, answer).model_dump_json()
    return Response(body, status, headers, media_type="application/json")


def _told(request: Request, order_id: str, known: CommandStatus, payload_hash: str) -> AsyncCommand:
    sent = AsyncCommand(order_id=order_id, href=request.url.path, state="pending")
    problem = None
    if known.payload_hash not in (None, payload_hash):
        problem = problem_of(IdempotencyKeyReused())
    elif known.rejected is not None:
        refusal = known.rejected.rejection
        pointer = known.rejected.pointer.format(refusal.index)
        problem = rejected_for(context_of(request), refusal, pointer)
    if problem is not None:
        document = document_of(problem, context_of(request), request.url.path)
        return sent.model_copy(update={"state": "rejected", "problem": document})
    if known.result is not None:
        body = _body(order_id, known.result)
        return sent.model_copy(update={"state": "done", "result": body})
    return sent


def _shown(sent: AsyncCommand, status: int = 200) -> Response:
    headers = {"Retry-After": str(POLL_SECONDS)} if sent.state == "pending" else {}
    body = sent.model_dump_json(exclude_none=True)
    return Response(body, status, headers, media_type="application/json")


def _body(order_id: str, answer: messages.CommandResult) -> CommandResult:
    first = answer.version - len(answer.event_types) + 1
    return CommandResult(
        order_id=order_id,
        version=answer.version,
        status=answer.status,
        total=answer.total,
        currency=answer.currency,
        events=[EventSummary(version=v, type=t) for v, t in enumerate(answer.event_types, first)],
        consistency_token=f"{order_id}@{answer.version}",
    )
