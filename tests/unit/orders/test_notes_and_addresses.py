"""What is written on an order: notes, addresses, and what shipping costs."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter

from orders import commands as c
from orders import events as e
from orders import steps as o
from orders.commands import AddNote
from orders.events import OrderEvent
from orders.money import AMOUNT_MAX, TOTAL_MAX
from orders.order import Order
from orders.rules import draft as drafting
from tests.support.given import (
    Given,
    add_note,
    bagels_added,
    but,
    cancelled,
    given,
    note_added,
    opened,
    placed,
)
from tests.support.order_fixtures import (
    a_booked_order,
    a_cancelled_order,
    a_cancelling_order,
    a_completed_order,
    a_delivered_order,
    a_draft,
    a_held_order,
    a_placed_order,
    a_sent_order,
    an_expired_order,
    bagels,
)

express = c.SetShippingCharge(amount=990)
elm_street = c.SetShippingAddress(address="sealed.1-ELM-STREET")
oak_street = c.SetShippingAddress(address="sealed.2-OAK-STREET")
bill_oak_street = c.SetBillingAddress(address="sealed.2-OAK-STREET")

# AddNote


@pytest.mark.parametrize("past", [(), (bagels_added, placed), (cancelled,)])
def test_note_can_be_added_in_any_status(past: tuple[OrderEvent, ...]) -> None:
    given(opened, *past).when(add_note).then(note_added)


def test_note_cannot_be_added_to_a_new_order() -> None:
    given().when(add_note).then_rejected(
        "add-note is not allowed while the order is new", code="not-allowed-now"
    )


def test_note_id_cannot_be_used_for_another_note() -> None:
    given(opened, note_added).when(AddNote(note_id="bell", text="It rings.")).then_rejected(
        "bell already exists, with other content", code="id-already-used", field="note_id"
    )


def test_number_of_notes_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafting, "NOTES_MAX", 1)
    given(opened).when(add_note).then(note_added)
    given(opened, note_added).when(AddNote(note_id="more", text="Ring twice.")).then_rejected(
        "an order holds at most 1 notes", code="too-many-notes"
    )


def test_repeated_note_changes_nothing() -> None:
    given(opened, note_added).when(add_note).then()


def test_state_holds_only_texts_that_rules_need() -> None:
    """The state travels in each snapshot; texts are in the log and in the read model."""
    words = "a text of a caller"
    order = a_delivered_order.having(
        AddNote(note_id="bell", text=words),
        c.RequestReturn(return_id="back", lines=bagels(1), reason=words),
        o.ChargebackReported(chargeback_id="c", state="opened", amount=1, reason=words),
        o.DeliveryDenied(shipment_id="ghost", reason=words),
    ).having(c.HoldOrder(reason=words))
    draft = a_draft.having(c.ApplyDiscount(discount_id="monday", amount=1, reason=words))
    for scene in (order, draft):
        assert words not in TypeAdapter(Order).dump_json(scene.order).decode()


def test_discount_id_cannot_be_used_with_another_reason() -> None:
    discount = c.ApplyDiscount(discount_id="monday", amount=1, reason="a slow day")
    scene = a_draft.having(discount)
    scene.when(discount).then()
    scene.when(but(discount, reason="a fast day")).then_rejected(
        "monday already exists, with other content", code="id-already-used", field="discount_id"
    )


# SetShippingCharge


def test_shipping_charge_is_part_of_the_total() -> None:
    a_draft.when(express).then(e.ShippingChargeSet(amount=990))
    assert a_draft.having(express).order.total == 336 + 20 + 990
    given(opened).when(express).then(e.ShippingChargeSet(amount=990))


def test_shipping_charge_of_a_placed_order_cannot_be_set() -> None:
    a_placed_order.when(express).then_rejected(
        "set-shipping-charge is not allowed while the order is placed", code="not-allowed-now"
    )
    a_placed_order.when(c.SetShippingCharge(amount=44)).then_rejected(
        "set-shipping-charge is not allowed while the order is placed", code="not-allowed-now"
    )


def test_shipping_charge_has_the_currency_and_counts_for_the_limit() -> None:
    a_draft.when(but(express, currency="JPY")).then_rejected(
        "the order is in USD, not JPY", code="currency-mismatch", field="currency"
    )
    dear = c.AddItemToOrder(
        line_id="yacht",
        sku="1",
        title="YACHTS",
        quantity=TOTAL_MAX // AMOUNT_MAX,
        unit_price=AMOUNT_MAX,
    )
    a_draft.having(dear).when(c.SetShippingCharge(amount=AMOUNT_MAX)).then_rejected(
        "the lines and shipping of an order total at most 9,007,199,254,740,991",
        code="total-too-large",
    )


def test_repeated_shipping_charge_changes_nothing() -> None:
    a_draft.having(express).when(express).then()
    given(opened).when(c.SetShippingCharge(amount=0)).then()


# SetShippingAddress and SetBillingAddress

ONGOING = [a_draft, a_placed_order, a_held_order]
OVER = [a_cancelling_order, a_cancelled_order, a_completed_order, an_expired_order]


@pytest.mark.parametrize("order", ONGOING)
def test_addresses_can_be_set_in_an_unfinished_order(order: Given) -> None:
    order.when(oak_street).then(e.ShippingAddressSet(address="sealed.2-OAK-STREET"))
    order.when(bill_oak_street).then(e.BillingAddressSet(address="sealed.2-OAK-STREET"))


def test_shipping_address_comes_too_late_once_all_pieces_have_left() -> None:
    a_sent_order.when(oak_street).then_rejected(
        "all pieces have left; another address comes too late", code="already-shipped"
    )
    a_sent_order.when(bill_oak_street).then(
        e.BillingAddressSet(address="sealed.2-OAK-STREET"),
    )


def test_booked_shipment_is_booked_again_for_a_new_address() -> None:
    a_booked_order.when(oak_street).then(
        e.ShippingAddressSet(address="sealed.2-OAK-STREET"),
        e.ShipmentBookingRequested(shipment_id="shipment-12", step_id="book-19"),
        e.ShipmentBookingRequested(shipment_id="shipment-14", step_id="book-20"),
    )
    a_booked_order.when(bill_oak_street).then(e.BillingAddressSet(address="sealed.2-OAK-STREET"))


@pytest.mark.parametrize("order", OVER)
def test_addresses_of_an_ended_order_cannot_be_set(order: Given) -> None:
    status = order.order.status
    order.when(oak_street).then_rejected(
        f"set-shipping-address is not allowed while the order is {status}", code="not-allowed-now"
    )
    order.when(bill_oak_street).then_rejected(
        f"set-billing-address is not allowed while the order is {status}", code="not-allowed-now"
    )


@pytest.mark.parametrize("order", ONGOING + OVER)
def test_repeated_address_changes_nothing(order: Given) -> None:
    order.when(elm_street).then()


def test_address_in_plaintext_is_rejected() -> None:
    with pytest.raises(ValueError, match="address"):
        c.SetShippingAddress(address="1 Elm Street")
