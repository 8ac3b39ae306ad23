"""The document of an order: folded from its events, with amounts that add up."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders.commands import RefundPayment
from orders.events import (
    ChargebackOpened,
    DiscountApplied,
    DiscrepancyRecorded,
    ItemAdded,
    ItemQuantityChanged,
    LineCount,
    OrderEvent,
    ReturnRequested,
    ShipmentBookingRequested,
    ShippingAddressSet,
)
from orders.evolve import fold
from orders.order import Order
from readside.engine.projection import ProjectionError
from readside.order_view.document import document
from readside.order_view.view import OrderView, fold_view
from tests.support.given import (
    LONG_AGO,
    Given,
    add_note,
    bagels_added,
    but,
    cancelled,
    note_added,
    opened,
    placed,
    published,
    tuna_added,
    welcome_applied,
)
from tests.support.order_fixtures import (
    a_confirmed_order,
    a_delivered_order,
    a_half_sent_order,
    a_sent_order,
)

EVENTS: list[OrderEvent] = [
    opened,
    bagels_added,
    tuna_added,
    welcome_applied,
    note_added,
    placed,
    cancelled,
]
STREAM = published(EVENTS)
NOTHING = OrderView("ord_1")


def at(version: int) -> datetime:
    return LONG_AGO + timedelta(seconds=version)


def test_view_is_the_fold_of_the_events_with_their_times() -> None:
    view = fold_view(NOTHING, STREAM)
    assert view == OrderView(
        *("ord_1", fold(EVENTS), at(1), at(6), at(7)),
        texts={"note:bell": note_added.text, "discount:welcome": "your first order"},
    )


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_view_continues_from_any_version(cut: int) -> None:
    assert fold_view(fold_view(NOTHING, STREAM[:cut]), STREAM[cut:]) == fold_view(NOTHING, STREAM)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"type": "order-teleported"}, "order-teleported"),
        ({"schema_version": 2}, "schema version 2, known is 1"),
        ({"data": {"line_id": "tuna"}}, "item-added"),
    ],
    ids=["unknown type", "newer schema", "unknown shape"],
)
def test_unreadable_event_raises_with_its_version(change: dict[str, object], reason: str) -> None:
    stream = [*STREAM[:2], but(STREAM[2], **change), *STREAM[3:]]
    with pytest.raises(ProjectionError, match=rf"^order ord_1, version 3: .*{reason}") as stopped:
        fold_view(NOTHING, stream)
    assert (stopped.value.order_id, stopped.value.version) == ("ord_1", 3)


NOTHING_OF_IT_YET = {
    "reserved": 0,
    "shipped": 0,
    "delivered": 0,
    "cancelled": 0,
    "returned": 0,
}


def test_document_shows_all_of_an_order() -> None:
    assert document(fold_view(NOTHING, STREAM[:6])).model_dump(mode="json") == {
        "order_id": "ord_1",
        "version": 6,
        "status": "placed",
        "customer_id": "900",
        "currency": "USD",
        "external_reference": "basket-31198570044",
        "total": 306,
        "lines": [
            bagels_added.model_dump(exclude={"type"})
            | {"total": 336, "share_of_discounts": 47}
            | NOTHING_OF_IT_YET,
            tuna_added.model_dump(exclude={"type"})
            | {"total": 20, "share_of_discounts": 3}
            | NOTHING_OF_IT_YET,
        ],
        "shipping_charge": 0,
        "payment": {
            "status": "none",
            "method": None,
            "authorised": 0,
            "captured": 0,
            "refunded": 0,
            "voided": 0,
            "earned": 0,
            "capturable": 0,
            "refundable": 0,
            "disputed": 0,
            "refund_pending": 0,
            "decline_reason": None,
            "authorisations": [],
        },
        "fulfilment_status": "none",
        "return_status": "none",
        "shipments": [],
        "returns": [],
        "awaits": None,
        "awaits_since": None,
        "hold_reason": None,
        "held_since": None,
        "missing": [],
        "deadline": None,
        "pending": [],
        "needs_attention": [],
        "cancel_reason": None,
        "discounts": [{"discount_id": "welcome", "amount": 50, "reason": "your first order"}],
        "notes": [{"note_id": "bell", "text": add_note.text}],
        "opened_at": "2017-01-01T11:53:27Z",
        "placed_at": "2017-01-01T11:53:32Z",
        "updated_at": "2017-01-01T11:53:32Z",
    }


def test_payment_shows_earned_capturable_and_refundable_amounts() -> None:
    def shown(scene: Given) -> dict[str, int]:
        names = {"earned", "capturable", "refundable", "refund_pending"}
        return document(OrderView("ord_1", scene.order)).payment.model_dump(include=names)

    assert shown(a_half_sent_order) == {
        "earned": 380,
        "capturable": 20,
        "refundable": 380,
        "refund_pending": 0,
    }
    refund = RefundPayment(refund_id="sorry", amount=50)
    requested = {"earned": 350, "capturable": 0, "refundable": 350, "refund_pending": 50}
    assert shown(a_sent_order.having(refund)) == requested
    assert shown(a_sent_order.having(refund).settled()) == {**requested, "refund_pending": 0}


def test_shipment_shows_the_address_that_the_carrier_was_given() -> None:
    order = a_confirmed_order.order
    booked, unbooked = order.shipments
    events: list[OrderEvent] = [
        ShippingAddressSet(address="sealed.ELM"),
        ShipmentBookingRequested(shipment_id=booked, step_id="book-90"),
        ShippingAddressSet(address="sealed.OAK"),
    ]
    shown = document(fold_view(OrderView("ord_1", order), published(events)))
    addresses = {s.shipment_id: s.address for s in shown.shipments}
    assert addresses == {booked: "sealed.ELM", unbooked: None}


def test_reasons_and_summaries_are_shown() -> None:
    view = OrderView("ord_1", a_delivered_order.order)
    back = [LineCount(line_id="bagels", quantity=1)]
    (key,) = (a.authorisation_id for a in view.order.authorisations.values())
    events: list[OrderEvent] = [
        ReturnRequested(return_id="r", lines=back, reason="stale", fingerprint=""),
        ReturnRequested(return_id="silent", lines=back, fingerprint=""),
        ChargebackOpened(
            chargeback_id="c", authorisation_id=key, amount=9, reason="fraud", fingerprint=""
        ),
        DiscrepancyRecorded(
            discrepancy_id="d", kind="k", service="s", summary="what it says", fingerprint=""
        ),
    ]
    shown = document(fold_view(view, published(events)))
    assert [back.reason for back in shown.returns] == ["stale", None]
    reasons = {entry.kind: entry.reason for entry in shown.needs_attention}
    assert reasons == {"chargeback": "fraud", "k": "what it says"}


def test_line_keeps_its_place_when_its_quantity_changes() -> None:
    fewer = ItemQuantityChanged(line_id="bagels", quantity=1)
    shown = document(fold_view(NOTHING, published([opened, bagels_added, tuna_added, fewer])))
    assert [(line.line_id, line.quantity) for line in shown.lines] == [("bagels", 1), ("tuna", 1)]


def test_order_without_lines_has_a_document() -> None:
    shown = document(fold_view(NOTHING, STREAM[:1]))
    assert (shown.version, shown.total, shown.lines, shown.placed_at) == (1, 0, [], None)


ITEMS = st.builds(
    ItemAdded,
    line_id=st.sampled_from("abcdef"),
    sku=st.just("1"),
    title=st.just("x"),
    quantity=st.integers(1, 9),
    unit_price=st.integers(0, 999),
    discount=st.just(0),
    tax=st.integers(0, 9),
)


@given(st.lists(ITEMS, min_size=1, max_size=6), st.lists(st.integers(1, 50), max_size=3))
def test_amounts_of_a_document_add_up(items: list[ItemAdded], discounts: list[int]) -> None:
    events: list[OrderEvent] = [opened, *items]
    for number, amount in enumerate(discounts):
        if amount <= fold(events).total:
            events.append(DiscountApplied(discount_id=f"{number}", amount=amount))
    shown = document(fold_view(NOTHING, published(events)))
    assert shown.total == sum(line.total - line.share_of_discounts for line in shown.lines)
    assert sum(line.share_of_discounts for line in shown.lines) == sum(
        discount.amount for discount in shown.discounts
    )
    for line in shown.lines:
        assert line.total == line.quantity * line.unit_price - line.discount + line.tax
        assert 0 <= line.share_of_discounts <= line.total


def test_document_without_events_is_a_new_order() -> None:
    assert fold_view(NOTHING, []).order == Order()
    assert document(NOTHING).status == "new"
