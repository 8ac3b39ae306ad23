"""Turns requests into command messages: checks permissions, and encrypts personal data."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import Request

from api.auth.ownership import customer_of
from api.auth.permissions import assert_allowed
from api.commands.bodies import CommandBatch, NewOrder
from api.commands.headers import CommandOptions
from api.context import (
    canonical_payload,
    client_request_id,
    command_id_of,
    context_of,
    order_id_of,
    short_hash,
)
from api.dependencies import Services
from api.gateway.command_message import CommandMessage
from api.personal_data import PlaintextCommand, encrypt_personal_data, has_no_personal_data
from orders.commands import OrderCommand
from privacy.sealing import keyed_hash
from workflows import messages


async def opening_message(
    request: Request, services: Services, order: NewOrder, options: CommandOptions
) -> CommandMessage:
    """The message that opens an order, whose id is derived from caller and key."""
    order_id = order_id_of(context_of(request).actor, options.key)
    commands = order.commands(services.policy)
    return await command_message(
        request, services, order_id, commands, options, opener=order.customer_id
    )


async def batch_message(
    request: Request,
    services: Services,
    order_id: str,
    batch: CommandBatch,
    options: CommandOptions,
) -> CommandMessage:
    """The message of several commands."""
    return await command_message(
        request, services, order_id, batch.commands, options, pointer="#/commands/{}"
    )


async def command_message(
    request: Request,
    services: Services,
    order_id: str,
    commands: Sequence[PlaintextCommand],
    options: CommandOptions,
    opener: str | None = None,
    pointer: str = "#",
) -> CommandMessage:
    """The message for a request; `opener` is the customer of the order that it opens, if any."""
    context = context_of(request)
    assert_allowed(context, [command.type for command in commands], opener)
    command_id = command_id_of(context.actor, options.key)
    encrypted, payload_hash = await _encrypt(request, services, order_id, commands, opener)
    return CommandMessage(
        order_id=order_id,
        command_id=command_id,
        creates_order=opener is not None,
        pointer=pointer,
        batch=messages.CommandBatch(
            commands=[
                command.with_generated_ids(short_hash(command_id, str(index)))
                for index, command in enumerate(encrypted)
            ],
            expected_versions=options.expected_versions,
            actor=context.actor,
            payload_hash=payload_hash,
            attempt_id=context.attempt_id,
            request_id=client_request_id(request.headers),
            traceparent=context.traceparent,
        ),
    )


async def _encrypt(
    request: Request,
    services: Services,
    order_id: str,
    commands: Sequence[PlaintextCommand],
    opener: str | None,
) -> tuple[Sequence[OrderCommand], str]:
    """The commands with personal data encrypted, and a hash of the request's payload.

    The hash of a payload with personal data is keyed, so that the data cannot be guessed from it.
    """
    payload = canonical_payload(request.url.path, await request.body())
    if has_no_personal_data(commands):
        return commands, short_hash(payload)
    customer_id = opener or await customer_of(order_id, services.pool, services.client)
    key = await services.keys.current(customer_id)
    return [encrypt_personal_data(command, key) for command in commands], keyed_hash(payload, key)
