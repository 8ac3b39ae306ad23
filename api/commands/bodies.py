"""The bodies of command requests, and of their responses."""

# No `from __future__ import annotations`: a string could not name the union of commands.

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SkipValidation

from api.personal_data import (
    AnyPlaintextCommand,
    PlaintextCommand,
    SetBillingAddress,
    SetShippingAddress,
)
from api.problems.handlers import ProblemDetails
from orders.commands import (
    UNASSIGNED,
    AddItemToOrder,
    NewId,
    OpenOrder,
    PaymentMethod,
    PlaceOrder,
    SetShippingCharge,
)
from orders.money import Amount, Currency, Quantity
from orders.policy import Policy
from orders.steps import Service
from orders.text import CustomerId, LongName, Name
from privacy.address import Address
from readside.order_view.document import OrderStatus, StepType
from workflows.messages import COMMANDS_MAX

LINES_MAX = 500
# What a worker answers is not validated here: during a deployment, it may be a newer one.


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
    """A new order with or without lines, as a draft or placed at once: all or nothing."""

    model_config = ConfigDict(extra="forbid", strict=True)

    customer_id: CustomerId
    currency: Currency
    external_reference: Name | None = None
    lines: list[NewLine] = Field(default_factory=list, max_length=LINES_MAX)
    shipping_address: Address | None = None
    billing_address: Address | None = None
    shipping_charge: Amount = 0
    place: bool = Field(False, description="place the order at once instead of opening a draft")
    payment_method: PaymentMethod | None = Field(None, description="used if `place` is true")

    def commands(self, policy: Policy) -> list[PlaintextCommand]:
        """The equivalent commands: the opening, then the lines, then the rest."""
        opening = OpenOrder(
            **self._given("customer_id", "currency", "external_reference"), policy=policy
        )
        commands: list[PlaintextCommand] = [opening, *(line.command() for line in self.lines)]
        if self.shipping_charge:
            commands.append(SetShippingCharge(amount=self.shipping_charge))
        if self.shipping_address:
            commands.append(SetShippingAddress(address=self.shipping_address))
        if self.billing_address:
            commands.append(SetBillingAddress(address=self.billing_address))
        if self.place:
            commands.append(PlaceOrder(**self._given("payment_method")))
        return commands

    def _given(self, *fields: str) -> dict[str, Any]:
        """Those of the fields that have a value."""
        return self.model_dump(include=set(fields), exclude_none=True)

    def pointer(self, index: int) -> str:
        """A JSON pointer to the part of the body that became command number `index`."""
        line = index - 1  # After the opening.
        return f"#/lines/{line}" if 0 <= line < len(self.lines) else "#"


class CommandBatch(BaseModel):
    """Several commands to one order, executed together or not at all."""

    model_config = ConfigDict(extra="forbid", strict=True)

    commands: list[AnyPlaintextCommand] = Field(min_length=1, max_length=COMMANDS_MAX)


class EventSummary(BaseModel):
    """An event that a command caused."""

    version: int
    type: str


class CommandResult(BaseModel):
    """The order after a command; `events` is empty if the command changed nothing."""

    order_id: str
    version: int
    status: SkipValidation[OrderStatus]
    total: int = Field(description="integer minor units of `currency`")
    currency: str
    events: list[EventSummary]
    consistency_token: str = Field(description="pass it to a read that must include this change")


class AsyncCommand(BaseModel):
    """An asynchronous command and its state."""

    order_id: str
    href: str = Field(description="the address to poll for the result")
    state: Literal["pending", "done", "rejected"]
    result: CommandResult | None = Field(None, description="if `done`")
    problem: ProblemDetails | None = Field(
        None, description="if `rejected`, why; if `pending`, what it waits for, if that is known"
    )


class PreviewedEvent(BaseModel):
    """An event that a command would cause."""

    version: int
    type: str
    data: dict[str, Any]
    sentence: str = Field(description="the event in words, in English, for people")


class PlannedStep(BaseModel):
    """What an external service would be asked for."""

    step_id: str
    type: SkipValidation[StepType]
    service: SkipValidation[Service]
    summary: str = Field(description="in words, for people")


class CommandPreview(BaseModel):
    """What commands would do if they were sent now. Amounts are minor units of `currency`."""

    order_id: str
    version: int = Field(description="send it as If-Match with the command, to get this outcome")
    status: SkipValidation[OrderStatus] = Field(description="of the order afterwards")
    currency: str
    total_before: int
    total_after: int
    to_authorise: int = Field(description="in addition to what is authorised already")
    to_refund: int = Field(description="of what is captured already")
    events: list[PreviewedEvent] = Field(description="empty if nothing would change")
    steps: list[PlannedStep] = Field(description="in addition to those that are running")
