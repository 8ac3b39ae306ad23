"""The door: outside it personal data is open, inside it is sealed under the customer's own key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeGuard, Union

from pydantic import BaseModel, Field

from orders import commands as domain
from orders.commands import COMMAND_TYPES, OrderCommand
from orders.models import StrictModel
from privacy.address import Address
from privacy.keys import CustomerKey, CustomerKeys
from privacy.sealing import seal, unseal_all


class SetShippingAddress(StrictModel):
    """Say where the goods go; only who needs to know can read it."""

    type: Literal["set-shipping-address"] = "set-shipping-address"
    address: Address


class SetBillingAddress(StrictModel):
    """Say who is billed; only who needs to know can read it."""

    type: Literal["set-billing-address"] = "set-billing-address"
    address: Address


class ErasedAddress(BaseModel):
    """Was personal data of a customer who has been erased; nobody can read it any more."""

    erased: Literal[True]


# The sealed forms come from us alone: callers send the open ones in their place.
_OPEN_FORMS: dict[type, type] = {
    domain.SetShippingAddress: SetShippingAddress,
    domain.SetBillingAddress: SetBillingAddress,
}
# Opening has a route of its own: an order's policy is ours to set, and its id follows from its key.
PUBLIC_COMMAND_TYPES: tuple[Any, ...] = tuple(
    _OPEN_FORMS.get(t, t) for t in COMMAND_TYPES if t is not domain.OpenOrder
)

PlaintextCommand = OrderCommand | SetShippingAddress | SetBillingAddress
if TYPE_CHECKING:  # A type checker cannot follow the exchange: to it the sealed forms remain.
    AnyPlaintextCommand = PlaintextCommand
else:
    AnyPlaintextCommand = Annotated[
        Union[PUBLIC_COMMAND_TYPES],  # noqa: UP007
        Field(discriminator="type", json_schema_extra={"required": ["type"]}),
    ]


def without_personal_data(
    commands: Sequence[PlaintextCommand],
) -> TypeGuard[Sequence[OrderCommand]]:
    """Whether the commands may go in as they are."""
    return not any(isinstance(c, SetShippingAddress | SetBillingAddress) for c in commands)


def sealed(command: PlaintextCommand, key: CustomerKey) -> OrderCommand:
    """The command as it may go in, with its personal data under the customer's key."""
    match command:
        case SetShippingAddress(address=address):
            return domain.SetShippingAddress(address=seal(address, key))
        case SetBillingAddress(address=address):
            return domain.SetBillingAddress(address=seal(address, key))
        case _:
            return command


_ERASED = ErasedAddress(erased=True).model_dump_json()
# In JSON as we write it, and never within one of its texts: there a quote follows a backslash.
_SEALED = re.compile(r'(?<=address":)"(sealed\.[A-Za-z0-9._=-]+)"')


def is_sealed(document: str) -> bool:
    """Whether a document holds personal data; a quick look, which may err on the safe side."""
    return '"sealed.' in document


async def unsealed(document: str, keys: CustomerKeys) -> str:
    """The document with its addresses open, or marked as erased; all else letter for letter."""
    addresses = await unseal_all(set(_SEALED.findall(document)), keys)
    shown = {token: a.model_dump_json() if a else _ERASED for token, a in addresses.items()}
    return _SEALED.sub(lambda match: shown[match[1]], document)
