"""Routes that preview commands on one order, or respond once their result is durable."""

# No `from __future__ import annotations`: FastAPI could not resolve the types of the typed routes.

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request, Response

from api.auth.authentication import require_scope
from api.auth.permissions import WRITE, rejected_for
from api.commands.bodies import (
    CommandBatch,
    CommandPreview,
    CommandResult,
    NewOrder,
    PreviewedEvent,
)
from api.commands.headers import CommandOptions, CommandOptionsDep
from api.commands.message import batch_message, command_message, opening_message
from api.commands.status_routes import COMMAND_RESPONSES, accepted_response, result_response
from api.context import context_of
from api.dependencies import (
    PreviewServicesDep,
    Services,
    ServicesDep,
    get_preview_services,
    get_services,
)
from api.gateway.command_message import CommandMessage
from api.personal_data import PUBLIC_COMMAND_TYPES
from api.problems.handlers import PROBLEMS
from orders.commands import COMMAND_TYPES, type_of
from orders.text import Id
from outbound.event_data import public_events
from readside.order_view.sentences import sentences
from readside.order_view.words import Words
from workflows.command_handler import Rejected

router = APIRouter(prefix="/v1/orders", route_class=require_scope(WRITE))

_TAGS = {type_of(kind): kind.tag for kind in COMMAND_TYPES}


@router.post(
    "",
    status_code=201,
    summary="Open an order",
    response_model=CommandResult,
    responses=COMMAND_RESPONSES,
    tags=["Orders"],
)
async def open_order(
    request: Request, order: NewOrder, options: CommandOptionsDep, services: ServicesDep
) -> Response:
    """Opens an order with or without lines, and places it if `place` is true: all or nothing.

    The order's id is derived from the Idempotency-Key: a repeated request finds the same order.
    """
    message = await opening_message(request, services, order, options)
    return await _execute(request, services, message, options, order.pointer, status=201)


@router.post(
    "/{order_id}/commands",
    summary="Send several commands",
    response_model=CommandResult,
    responses=COMMAND_RESPONSES,
    tags=["Orders"],
)
async def send_commands(
    request: Request,
    order_id: Id,
    batch: CommandBatch,
    options: CommandOptionsDep,
    services: ServicesDep,
) -> Response:
    """Executes all commands or none; each sees what the ones before it changed."""
    message = await batch_message(request, services, order_id, batch, options)
    return await _execute(request, services, message, options, message.pointer.format)


@router.post(
    "/preview",
    summary="Preview an opening",
    response_model=CommandPreview,
    responses=PROBLEMS,
    tags=["Orders"],
)
async def preview_opening(
    request: Request, order: NewOrder, options: CommandOptionsDep, services: PreviewServicesDep
) -> Response:
    """Decides on an opening without executing it. With the same Idempotency-Key, ids are equal."""
    message = await opening_message(request, services, order, options)
    return await _preview(request, services, message, options, order.pointer)


@router.post(
    "/{order_id}/commands/preview",
    summary="Preview several commands",
    response_model=CommandPreview,
    responses=PROBLEMS,
    tags=["Orders"],
)
async def preview_commands(
    request: Request,
    order_id: Id,
    batch: CommandBatch,
    options: CommandOptionsDep,
    services: PreviewServicesDep,
) -> Response:
    """Decides on commands without executing them. With the same Idempotency-Key, ids are equal."""
    message = await batch_message(request, services, order_id, batch, options)
    return await _preview(request, services, message, options, message.pointer.format)


async def _execute(
    request: Request,
    services: Services,
    message: CommandMessage,
    options: CommandOptions,
    pointer_of: Callable[[int], str],
    status: int = 200,
) -> Response:
    """Sends a message and waits for its result, unless the client asked for 202.

    A rejection becomes a problem; `pointer_of` locates a command, by its index, in the body.
    """
    gateway = services.gateway
    try:
        if not options.respond_async:
            result = await gateway.execute(message, options.wait_seconds)
        elif (known := await gateway.enqueue(message)) is not None:
            result = known
        else:
            return accepted_response(message)
    except Rejected as error:
        rejection = error.rejection
        raise rejected_for(context_of(request), rejection, pointer_of(rejection.index)) from error
    return result_response(message, result, status)


async def _preview(
    request: Request,
    services: Services,
    message: CommandMessage,
    options: CommandOptions,
    pointer_of: Callable[[int], str],
) -> Response:
    """Decides on a message without executing it; a rejection becomes a problem."""
    preview = await services.gateway.preview(message, options.wait_seconds)
    if (rejection := preview.rejection) is not None:
        raise rejected_for(context_of(request), rejection, pointer_of(rejection.index))
    events = await public_events(preview.events, services.keys)
    words = Words(preview.currency, preview.titles, options.zone)
    said = sentences(preview.events, words)
    body = CommandPreview(
        order_id=message.order_id,
        events=[
            PreviewedEvent(**event.model_dump(), sentence=sentence)
            for event, sentence in zip(events, said, strict=True)
        ],
        **preview.model_dump(exclude={"rejection", "events", "titles"}),
    )
    headers = {"ETag": f'"{preview.version}"', "Cache-Control": "no-store"}
    return Response(body.model_dump_json(), 200, headers, media_type="application/json")


Respond = Callable[..., Awaitable[Response]]
"""Executes a message, or previews it."""


def _route_for(
    command_type: Any, respond: Respond, services_of: Callable[..., Awaitable[Services]]
) -> Callable[..., Awaitable[Response]]:
    """The typed route of one command."""
    required = any(field.is_required() for field in command_type.model_fields.values())
    command_in_body = Body() if required else Body(default_factory=command_type)

    async def route(
        request: Request,
        order_id: Id,
        options: CommandOptionsDep,
        services: Annotated[Services, Depends(services_of)],
        command: Annotated[command_type, command_in_body],
    ) -> Response:
        message = await command_message(request, services, order_id, [command], options)
        return await respond(request, services, message, options, message.pointer.format)

    return route


for _command_type in PUBLIC_COMMAND_TYPES:
    router.add_api_route(
        f"/{{order_id}}/commands/{type_of(_command_type)}",
        _route_for(_command_type, _execute, get_services),
        methods=["POST"],
        summary=(_command_type.__doc__ or "").split(".")[0].split(":")[0],
        description=_command_type.__doc__,
        operation_id=type_of(_command_type).replace("-", "_"),
        response_model=CommandResult,
        responses=COMMAND_RESPONSES,
        tags=[_TAGS[type_of(_command_type)]],
    )
    router.add_api_route(
        f"/{{order_id}}/commands/{type_of(_command_type)}/preview",
        _route_for(_command_type, _preview, get_preview_services),
        methods=["POST"],
        summary=f"Preview {type_of(_command_type)}",
        description="What the command would do if it were sent now; nothing of it"
        " happens. With the same Idempotency-Key, generated ids are equal.",
        operation_id=f"preview_{type_of(_command_type).replace('-', '_')}",
        response_model=CommandPreview,
        responses=PROBLEMS,
        tags=[_TAGS[type_of(_command_type)]],
    )
