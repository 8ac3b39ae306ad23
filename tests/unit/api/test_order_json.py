"""The JSON of an order: the stored document, and what depends on the caller and on keys."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Mapping
from typing import Any

from api.auth.permissions import COMMAND_ROLES
from api.context import RequestContext
from api.reads.order_json import Order, may_change, orders_json
from orders.commands import Role
from orders.decider import allowed_commands
from orders.events import (
    BillingAddressSet,
    NoteAdded,
    OrderEvent,
    ShipmentBookingRequested,
    ShipmentCreated,
    ShippingAddressSet,
)
from privacy.address import Address
from privacy.keys import KEY_BYTES, CustomerKey
from privacy.sealing import seal
from readside.order_view.row import OrderRow, order_row
from readside.order_view.view import OrderView, fold_view
from tests.support.given import bagels_added, opened, published
from tests.support.personal_data import ADA, BOB, ERASED, FORGED, whole
from tests.support.projections import order_as_shown

OPERATOR = RequestContext("a", "r")
CUSTOMER = RequestContext("a", "r", actor="customer:ada", customer_id="ada")


class Keys:
    """Keys in memory."""

    def __init__(self, *keys: CustomerKey) -> None:
        self._keys: dict[str, CustomerKey | None] = {key.key_id: key for key in keys}

    async def known(self, customer_id: str) -> CustomerKey | None:
        raise NotImplementedError

    async def current(self, customer_id: str) -> CustomerKey:
        raise NotImplementedError

    async def find(self, key_ids: Collection[str]) -> Mapping[str, CustomerKey | None]:
        return {key_id: self._keys[key_id] for key_id in key_ids}

    async def erase(self, customer_id: str) -> int:
        self._keys = dict.fromkeys(self._keys)
        return len(self._keys)


def view_of(*events: OrderEvent) -> OrderView:
    return fold_view(OrderView("ord_1"), published([opened, *events]))


def a_key(name: str) -> CustomerKey:
    return CustomerKey(name, "ada", secrets.token_bytes(KEY_BYTES))


async def shown(row: OrderRow, context: RequestContext, keys: Keys | None = None) -> dict[str, Any]:
    (body,) = await orders_json([row], context, keys or Keys())
    Order.model_validate_json(body)
    order: dict[str, Any] = json.loads(body)
    return order


async def test_json_contains_the_document_and_the_commands_of_the_caller() -> None:
    view = view_of(bagels_added)
    expected = order_as_shown(view)
    assert await shown(order_row(view), OPERATOR) == expected
    own = [c for c in allowed_commands(view.order) if COMMAND_ROLES[c] is Role.CUSTOMER]
    assert own and own != allowed_commands(view.order)
    assert await shown(order_row(view), CUSTOMER) == {**expected, "allowed_commands": own}


async def test_text_that_looks_like_json_stays_text() -> None:
    tricky = [
        f'x","allowed_commands":["hold-order"],"shipping_address":"{FORGED}","y":"',
        f'"{FORGED}"',
        '}],"billing_address":null}',
    ]
    lines = [bagels_added.model_copy(update={"line_id": t, "title": t}) for t in tricky]
    view = view_of(*lines, NoteAdded(note_id="n", text=f'"address":"{FORGED}"'))
    for context in (OPERATOR, CUSTOMER):
        order = await shown(order_row(view), context)
        assert [line["title"] for line in order["lines"]] == tricky
        assert order["shipping_address"] is order["billing_address"] is None
        assert "hold-order" not in order["allowed_commands"]


async def test_addresses_are_decrypted_or_marked_as_erased() -> None:
    key, keys = a_key("k"), Keys()
    keys = Keys(key)
    sent, billed = Address(**ADA), Address(**BOB)
    to, bill = seal(sent, key), seal(billed, key)
    view = view_of(ShippingAddressSet(address=to), BillingAddressSet(address=bill))
    row = order_row(view)
    for context in (OPERATOR, CUSTOMER):
        order = await shown(row, context, keys)
        assert order["shipping_address"] == whole(ADA)
        assert order["billing_address"] == whole(BOB)
    await keys.erase("ada")
    order = await shown(row, OPERATOR, keys)
    assert order["shipping_address"] == order["billing_address"] == ERASED
    assert to not in row.document


async def test_shipment_has_the_address_that_the_carrier_was_given() -> None:
    key = a_key("k")
    keys, first, second = Keys(key), seal(Address(**ADA), key), seal(Address(**BOB), key)
    shipment = ShipmentCreated(shipment_id="s", location="EAST", lines=[], fingerprint="")
    note = NoteAdded(note_id="n", text=f'{{"address":"{FORGED}"}}')
    view = view_of(
        *(bagels_added, note, ShippingAddressSet(address=first), shipment),
        ShipmentBookingRequested(shipment_id="s", step_id="book-6"),
        ShippingAddressSet(address=second),
    )
    order = await shown(order_row(view), CUSTOMER, keys)
    assert [s["address"] for s in order["shipments"]] == [whole(ADA)]
    assert order["shipping_address"] == whole(BOB)
    assert order["notes"][0]["text"] == note.text
    await keys.erase("ada")
    order = await shown(order_row(view), OPERATOR, keys)
    assert [s["address"] for s in order["shipments"]] == [ERASED]


async def test_orders_of_a_list_keep_their_own_addresses() -> None:
    first, second = a_key("k1"), a_key("k2")
    rows = [
        order_row(view_of(ShippingAddressSet(address=seal(Address(**ADA), first)))),
        order_row(view_of()),
        order_row(view_of(ShippingAddressSet(address=seal(Address(**BOB), second)))),
    ]
    assert [may_change([row]) for row in rows] == [True, False, True]
    bodies = await orders_json(rows, CUSTOMER, Keys(first, second))
    addresses = [json.loads(body)["shipping_address"] for body in bodies]
    assert addresses == [whole(ADA), None, whole(BOB)]
