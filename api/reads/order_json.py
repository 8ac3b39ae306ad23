"""Orders as JSON for one caller: with decrypted addresses and the commands that it may send."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated

from pydantic import WithJsonSchema
from pydantic_core import to_json
from typing_extensions import TypeAliasType

from api.auth.permissions import allowed_to
from api.context import RequestContext
from api.personal_data import ErasedAddress, UnreadableAddress
from orders.commands import COMMAND_TYPES, type_of
from privacy.address import Address
from privacy.keys import CustomerKeys
from privacy.plaintext import decrypt_addresses
from readside.order_view.document import OrderDocument, Shipment
from readside.order_view.row import OrderRow, shown_document

CommandType = TypeAliasType(
    "CommandType",
    Annotated[
        str, WithJsonSchema({"type": "string", "enum": [type_of(kind) for kind in COMMAND_TYPES]})
    ],
)


class ShownShipment(Shipment):
    """Pieces that are shipped together from one stock location."""

    address: Address | ErasedAddress | UnreadableAddress | None
    """Where it goes: the address that the carrier was given."""


class Order(OrderDocument):
    """An order. Amounts are integer minor units of `currency`."""

    shipments: Sequence[ShownShipment]
    shipping_address: Address | ErasedAddress | UnreadableAddress | None
    billing_address: Address | ErasedAddress | UnreadableAddress | None
    allowed_commands: list[CommandType]


async def orders_json(
    rows: Sequence[OrderRow], context: RequestContext, keys: CustomerKeys
) -> list[str]:
    """Each row as the JSON of an Order."""
    addresses = await _addresses_json(rows, keys)
    is_customer = context.is_customer
    return [
        # The document is an object that we wrote, so its last character is its closing brace.
        f'{_decrypted(row, addresses)[:-1]},"shipping_address":{addresses[row.shipping_address]}'
        f',"billing_address":{addresses[row.billing_address]}'
        f',"allowed_commands":{_commands_json(row.allowed_commands, is_customer)}}}'
        for row in rows
    ]


def may_change(rows: Sequence[OrderRow]) -> bool:
    """Whether their JSON changes without a new version: it must not be kept elsewhere.

    An erasure removes addresses, and an orphaned order is resumed.
    """
    return any(row.shipping_address or row.billing_address or row.orphaned for row in rows)


# No text of a caller matches: in a JSON string, its quotation marks are escaped.
_SHIPMENT_ADDRESS = re.compile(r'"address":"(sealed\.[A-Za-z0-9._=-]+)"')


def _decrypted(row: OrderRow, addresses: Mapping[str | None, str]) -> str:
    """The document with the addresses of its shipments."""
    document = shown_document(row)
    if row.shipping_address is None:  # Then no shipment has one.
        return document
    return _SHIPMENT_ADDRESS.sub(lambda found: f'"address":{addresses[found[1]]}', document)


async def _addresses_json(rows: Sequence[OrderRow], keys: CustomerKeys) -> dict[str | None, str]:
    """By encrypted address, its JSON; for no address, null."""
    sealed = {a for row in rows for a in (row.shipping_address, row.billing_address) if a}
    if not sealed:
        return _NO_ADDRESSES
    for row in rows:
        if row.shipping_address is not None:
            sealed.update(_SHIPMENT_ADDRESS.findall(row.document))
    decrypted = await decrypt_addresses(sealed, keys)
    return {**_NO_ADDRESSES, **{token: to_json(a).decode() for token, a in decrypted.items()}}


_NO_ADDRESSES: dict[str | None, str] = {None: "null"}


@lru_cache(1_000)
def _commands_json(offered: tuple[str, ...], is_customer: bool) -> str:
    return to_json(allowed_to(is_customer, list(offered))).decode()
