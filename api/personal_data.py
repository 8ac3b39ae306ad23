"""The personal-data boundary: plaintext outside, encrypted under the customer's key inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeGuard, Union

from pydantic import BaseModel, Field

from orders import commands as domain
from orders.commands import COMMAND_TYPES, OrderCommand
from orders.models import StrictModel
from privacy.address import Address
from privacy.keys import CustomerKey
from privacy.sealing import seal


class SetShippingAddress(StrictModel):
    """Set the shipping address. It is stored encrypted."""

    type: Literal["set-shipping-address"] = "set-shipping-address"
    address: Address


class SetBillingAddress(StrictModel):
    """Set the billing address. It is stored encrypted."""

    type: Literal["set-billing-address"] = "set-billing-address"
    address: Address


class ErasedAddress(BaseModel):
    """An address of a customer whose personal data was erased."""

    erased: Literal[True]


class UnreadableAddress(BaseModel):
    """An address whose key is missing, as after a restore, or that was changed."""

    unreadable: Literal[True]


# Callers send these in place of the commands with encrypted addresses.
_PLAINTEXT_FORMS: dict[type, type] = {
    domain.SetShippingAddress: SetShippingAddress,
    domain.SetBillingAddress: SetBillingAddress,
}
# Opening an order has a route of its own, which sets the policy and the id.
PUBLIC_COMMAND_TYPES: tuple[Any, ...] = tuple(
    _PLAINTEXT_FORMS.get(t, t) for t in COMMAND_TYPES if t is not domain.OpenOrder
)

PlaintextCommand = OrderCommand | SetShippingAddress | SetBillingAddress
if TYPE_CHECKING:  # A type checker cannot follow the replacement of types at runtime.
    AnyPlaintextCommand = PlaintextCommand
else:
    AnyPlaintextCommand = Annotated[
        Union[PUBLIC_COMMAND_TYPES],  # noqa: UP007
        Field(discriminator="type", json_schema_extra={"required": ["type"]}),
    ]


def has_no_personal_data(
    commands: Sequence[PlaintextCommand],
) -> TypeGuard[Sequence[OrderCommand]]:
    """Whether the commands may pass the boundary unchanged."""
    return not any(isinstance(c, SetShippingAddress | SetBillingAddress) for c in commands)


def encrypt_personal_data(command: PlaintextCommand, key: CustomerKey) -> OrderCommand:
    """The command with its address encrypted under the customer's key."""
    match command:
        case SetShippingAddress(address=address):
            return domain.SetShippingAddress(address=seal(address, key))
        case SetBillingAddress(address=address):
            return domain.SetBillingAddress(address=seal(address, key))
        case _:
            return command
