"""Intent in: every route here takes commands to one order and answers once they are durable."""

# No `from __future__ import annotations` here: FastAPI could not resolve the typed routes' types.

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.auth.authentication import require_scope
from api.auth.ownership import customer_of
from api.auth.permissions import WRITE, assert_allowed, rejected_for
from api.commands.headers import CommandOptions, CommandOptionsDep
from api.commands.status_routes import ANSWERS, CommandResult, accepted, answered
from api.context import canonical_payload, client_request_id, context_of, short_hash
from api.dependencies import Services, ServicesDep
from api.gateway.command_message import CommandMessage
from api.gateway.gateway import Gateway
from api.personal_data import (
    PUBLIC_COMMAND_TYPES,
    AnyPlaintextCommand,
    PlaintextCommand,
    SetBillingAddress,
    SetShippingAddress,
    encrypt_personal_data,
    has_no_personal_data,
)
from api.problems.handlers import PROBLEMS
from orders.commands import (
    COMMAND_TYPES,
    UNASSIGNED,
    AddItemToOrder,
    AmendOrder,
    NewId,
    OpenOrder,
    OrderCommand,
    PaymentMethod,
    PlaceOrder,
    SetShippingCharge,
    type_of,
)
from orders.money import Amount, Currency, Quantity
from orders.policy import Policy
from orders.text import CustomerId, Id, LongName, Name
from privacy.address import Address
from privacy.sealing import keyed_hash
from workflows import messages
from workflows.command_handler import Rejected
from workflows.messages import COMMANDS_MAX

router = APIRouter(prefix="/v1/orders", route_class=require_scope(WRITE))

LINES_MAX = 500


class NewLine(BaseModel):
    """A line of a new order. Amounts are integer minor units of the order's currency."""

    model_config = ConfigDict(extra="forbid", strict=True)

    line_id: NewId = UNASSIGNED
    sku: LongName
    title: LongName
    quantity: Quantity
    unit_price: Amount
    discount: Amount = 0
    tax: Amount = 0
    currency: Currency | None = Field(None, description="if given, must be the order's own")

    def command(self) -> AddItemToOrder:
        return AddItemToOrder(**self.model_dump(exclude_unset=True))


class NewOrder(BaseModel):
    """A new order, alone or with its lines, as a draft or placed at once. All or nothing."""

    model_config = ConfigDict(extra="forbid", strict=True)

    customer_id: CustomerId
    currency: Currency
    external_reference: Name | None = None
    lines: list[NewLine] = Field(default_factory=list, max_length=LINES_MAX)
    shipping_address: Address | None = None
    billing_address: Address | None = None
    shipping_charge: Amount = 0
    place: bool = False
    payment_method: PaymentMethod | None = Field(None, description="to place the order with")

    def commands(self, policy: Policy) -> list[PlaintextCommand]:
        opening = OpenOrder(
            customer_id=self.customer_id,
            currency=self.currency,
            external_reference=self.external_reference,
            policy=policy,
        )
        commands: list[PlaintextCommand] = [opening, *(line.command() for line in self.lines)]
        if self.shipping_charge:
            commands.append(SetShippingCharge(amount=self.shipping_charge))
        if self.shipping_address:
            commands.append(SetShippingAddress(address=self.shipping_address))
        if self.billing_address:
            commands.append(SetBillingAddress(address=self.billing_address))
        if self.place:
            commands.append(PlaceOrder(payment_method=self.payment_method))
        return commands


class CommandBatch(BaseModel):
    """Several commands to one order, carried out together or not at all."""

    model_config = ConfigDict(extra="forbid", strict=True)

    commands: list[AnyPlaintextCommand] = Field(min_length=1, max_length=COMMANDS_MAX)


@router.post(
    "",
    status_code=201,
    summary="Open an order",
    response_model=CommandResult,
    responses=ANSWERS,
    tags=["Orders"],
)
async def open_order(
    request: Request, order: NewOrder, options: CommandOptionsDep, services: ServicesDep
) -> Response:
    """Opens an order, alone or with its lines, and places it if `place` is true: all or nothing.

    The order's id follows from the Idempotency-Key: repeated, the request finds the same order.
    """
    order_id = f"ord_{short_hash(context_of(request).actor, options.key)}"
    commands = order.commands(services.policy)
    mail = await _mail(request, services, order_id, commands, options, opener=order.customer_id)
    try:
        return await _carry_out(services.gateway, mail, options, status=201)
    except Rejected as no:
        line = no.rejection.index - 1  # The opening comes before the lines, all else after them.
        is_a_line = 0 <= line < len(order.lines)
        raise rejected_for(
            context_of(request), no.rejection, f"#/lines/{line}" if is_a_line else "#"
        ) from no


@router.post(
    "/{order_id}/commands",
    summary="Send several commands to an order, all or nothing",
    response_model=CommandResult,
    responses=ANSWERS,
    tags=["Orders"],
)
async def send_commands(
    request: Request,
    order_id: Id,
    commands: CommandBatch,
    options: CommandOptionsDep,
    services: ServicesDep,
) -> Response:
    """Carries out all of the commands or none; each decides on what the ones before it did."""
    mail = await _mail(
        request, services, order_id, commands.commands, options, pointer="#/commands/{}"
    )
    try:
        return await _carry_out(services.gateway, mail, options)
    except Rejected as no:
        raise rejected_for(
            context_of(request), no.rejection, mail.pointer.format(no.rejection.index)
        ) from no


class AmendmentPreview(BaseModel):
    """What an amendment would come to, were it sent now. Amounts are minor units of `currency`."""

    order_id: str
    version: int = Field(description="send it back as If-Match, so that nothing comes between")
    currency: str
    total_before: int
    total_after: int
    to_authorise: int = Field(description="beyond what is authorised already")
    to_refund: int = Field(description="of what is captured already")
    event_types: list[str]


@router.post(
    "/{order_id}/commands/amend-order/preview",
    summary="See what an amendment would come to",
    response_model=AmendmentPreview,
    responses=PROBLEMS,
    tags=["Orders"],
)
async def preview_amendment(
    request: Request,
    order_id: Id,
    amendment: AmendOrder,
    options: CommandOptionsDep,
    services: ServicesDep,
) -> Response:
    """Decides on the amendment as if it were sent now, and changes nothing."""
    mail = await _mail(request, services, order_id, [amendment], options)
    foreseen = await services.gateway.preview(mail, options.wait_seconds)
    if foreseen.rejection is not None:
        raise rejected_for(context_of(request), foreseen.rejection, "#")
    body = AmendmentPreview(order_id=order_id, **foreseen.model_dump(exclude={"refusal"}))
    headers = {"ETag": f'"{foreseen.version}"'}
    return Response(body.model_dump_json(), 200, headers, media_type="application/json")


def _route_for(command_type: Any) -> Callable[..., Awaitable[Response]]:
    """One typed route for one command, so that a log of URLs reads as intent."""
    required = any(field.is_required() for field in command_type.model_fields.values())
    command_in_body = Body() if required else Body(default_factory=command_type)

    async def send_command(
        request: Request,
        order_id: Id,
        options: CommandOptionsDep,
        services: ServicesDep,
        command: Annotated[command_type, command_in_body],
    ) -> Response:
        mail = await _mail(request, services, order_id, [command], options)
        try:
            return await _carry_out(services.gateway, mail, options)
        except Rejected as no:
            raise rejected_for(context_of(request), no.rejection, "#") from no

    return send_command


_TAGS = {type_of(kind): kind.tag for kind in COMMAND_TYPES}
for _command_type in PUBLIC_COMMAND_TYPES:
    router.add_api_route(
        f"/{{order_id}}/commands/{type_of(_command_type)}",
        _route_for(_command_type),
        methods=["POST"],
        summary=(_command_type.__doc__ or "").split(".")[0].split(":")[0],
        description=_command_type.__doc__,
        operation_id=type_of(_command_type).replace("-", "_"),
        response_model=CommandResult,
        responses=ANSWERS,
        tags=[_TAGS[type_of(_command_type)]],
    )


async def _mail(
    request: Request,
    services: Services,
    order_id: str,
    commands: Sequence[PlaintextCommand],
    options: CommandOptions,
    opener: str | None = None,
    pointer: str = "#",
) -> CommandMessage:
    """What is sent for a request; `opener` is whose order begins with it, if one does."""
    context = context_of(request)
    assert_allowed(context, [command.type for command in commands], opener)
    command_id = short_hash(context.actor, options.key)
    safe, payload_hash = await _through_the_door(request, services, order_id, commands, opener)
    return CommandMessage(
        order_id=order_id,
        command_id=command_id,
        creates_order=opener is not None,
        pointer=pointer,
        batch=messages.CommandBatch(
            commands=[
                c.with_generated_ids(short_hash(command_id, str(i))) for i, c in enumerate(safe)
            ],
            expected_versions=options.expected_versions,
            actor=context.actor,
            payload_hash=payload_hash,
            attempt_id=context.attempt_id,
            request_id=client_request_id(request.headers),
            traceparent=context.traceparent,
        ),
    )


async def _through_the_door(
    request: Request,
    services: Services,
    order_id: str,
    commands: Sequence[PlaintextCommand],
    opener: str | None,
) -> tuple[Sequence[OrderCommand], str]:
    """The commands without any open personal data, and a hash of them as they were received."""
    payload = canonical_payload(request.url.path, await request.body())
    if has_no_personal_data(commands):
        return commands, short_hash(payload)
    customer_id = opener or await customer_of(order_id, services.pool, services.client)
    key = await services.keys.current(customer_id)
    return [encrypt_personal_data(command, key) for command in commands], keyed_hash(payload, key)


async def _carry_out(
    gateway: Gateway, mail: CommandMessage, options: CommandOptions, status: int = 200
) -> Response:
    if not options.respond_async:
        return answered(mail, await gateway.execute(mail, options.wait_seconds), status)
    answer = await gateway.enqueue(mail)
    return accepted(mail) if answer is None else answered(mail, answer, status)
