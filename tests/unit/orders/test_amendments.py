"""AmendOrder: what follows, when it is refused, when it stays quiet."""

from __future__ import annotations

import pytest

from orders import commands as c
from orders import events as e
from orders import ledger
from orders.events import AmendedLine, LineCount
from orders.lifecycle import Status
from orders.money import AMOUNT_MAX, QUANTITY_MAX
from orders.rules import amendments as amending
from orders.rules.checks import fingerprint
from orders.steps import PaymentRefused, Piece, ShipmentDeparted
from tests.support.given import Given, but
from tests.support.order_fixtures import (
    BAGELS,
    a_booked_order,
    a_completed_order,
    a_declined_order,
    a_draft,
    a_half_sent_order,
    a_held_order,
    a_placed_order,
    a_sent_order,
    a_short_order,
    bagels,
    bagels_leave,
)

MILK = c.AddLine(line_id="milk", sku="995242", title="MILK", quantity=2, unit_price=150)
BAGEL_TERMS = AmendedLine(
    line_id="bagels",
    sku="1095275",
    title="ROLLS: BAGELS",
    quantity=2,
    unit_price=179,
    discount=29,
    tax=7,
    cancelled=0,
)


def amend(*changes: c.Change, amendment_id: str = "call") -> c.AmendOrder:
    return c.AmendOrder(amendment_id=amendment_id, changes=list(changes))


one_bagel = amend(c.ChangeLine(line_id="bagels", quantity=1))


def test_added_line_is_reserved_authorised_and_shipped() -> None:
    more = amend(MILK)
    a_booked_order.when(more).then(
        e.OrderAmended(
            amendment_id="call",
            lines=[
                AmendedLine(
                    line_id="milk",
                    sku="995242",
                    title="MILK",
                    quantity=2,
                    unit_price=150,
                    discount=0,
                    tax=0,
                    cancelled=0,
                )
            ],
            shipping_charge=44,
            fingerprint=fingerprint(more),
        ),
        e.StockRequested(step_id="reserve-19", lines=[LineCount(line_id="milk", quantity=2)]),
    )
    order = a_booked_order.having(more).settled().order
    assert [promise.amount for promise in order.authorisations.values()] == [400, 300]
    assert [dict(s.lines) for s in order.shipments.values()] == [
        {"bagels": 2},
        {"tuna": 1},
        {"milk": 2},
    ]


def test_smaller_quantity_shrinks_shipment_and_reserved_stock() -> None:
    a_booked_order.when(one_bagel).then(
        e.OrderAmended(
            amendment_id="call",
            lines=[but(BAGEL_TERMS, quantity=1)],
            shipping_charge=44,
            fingerprint=fingerprint(one_bagel),
        ),
        e.ShipmentChanged(shipment_id=BAGELS, lines=[LineCount(line_id="bagels", quantity=1)]),
        e.ShipmentBookingRequested(shipment_id=BAGELS, step_id="book-20"),
    )
    order = a_booked_order.having(one_bagel).settled().order
    assert order.lines["bagels"].reserved == {"EAST": 1}
    assert order.total == 179 - 29 + 7 + 20 + 44


def test_removed_line_is_cancelled() -> None:
    removed = amend(c.RemoveLine(line_id="bagels"))
    a_booked_order.when(removed).then(
        e.OrderAmended(
            amendment_id="call",
            lines=[but(BAGEL_TERMS, cancelled=2)],
            shipping_charge=44,
            fingerprint=fingerprint(removed),
        ),
        e.ShipmentStopRequested(shipment_id=BAGELS, step_id="stop-19"),
    )
    all_of_it = amend(c.RemoveLine(line_id="bagels"), c.RemoveLine(line_id="tuna"))
    assert a_booked_order.having(all_of_it).settled().order.status is Status.CANCELLED


def test_amendment_refunds_or_captures_the_difference() -> None:
    cheaper = amend(
        c.ChangeLine(line_id="bagels", unit_price=100), c.ChangeShippingCharge(amount=0)
    )
    assert ledger.net_captured(a_sent_order.having(cheaper).settled().order) == 200 - 29 + 7 + 20
    dearer = amend(c.ChangeLine(line_id="bagels", tax=1_007))
    order = a_sent_order.having(cheaper).settled().having(but(dearer, amendment_id="b")).settled()
    assert ledger.net_captured(order.order) == 200 - 29 + 1_007 + 20
    assert ledger.captured(order.order) == 400 + 1_000


def test_amendment_ends_the_wait_for_a_decision() -> None:
    without_tuna = amend(c.RemoveLine(line_id="tuna"))
    assert a_short_order.having(without_tuna).settled().order.status is Status.CONFIRMED
    asked_again = a_declined_order.having(without_tuna).order
    assert [step.type for step in asked_again.steps.values()] == ["release", "authorise"]


def test_declined_increment_stops_no_shipment() -> None:
    dearer = a_booked_order.having(amend(c.ChangeLine(line_id="tuna", unit_price=500)))
    refused = PaymentRefused(step_id="authorise-19", reason="no funds")
    waiting = dearer.having(refused)
    assert waiting.order.status is Status.AWAITING_CUSTOMER
    gone = waiting.having(ShipmentDeparted(shipment_id=BAGELS)).settled().order
    assert gone.status is Status.AWAITING_CUSTOMER
    assert ledger.captured(gone) == 380
    back = amend(c.ChangeLine(line_id="tuna", unit_price=100), amendment_id="no")
    assert waiting.having(back).order.status is Status.CONFIRMED


def test_decline_of_an_unneeded_increment_has_no_effect() -> None:
    dearer = a_booked_order.having(amend(c.ChangeLine(line_id="tuna", unit_price=500)))
    back = amend(c.ChangeLine(line_id="tuna", unit_price=100), amendment_id="no")
    refused = PaymentRefused(step_id="authorise-19", reason="no funds")
    assert dearer.having(back, refused).order.status is Status.CONFIRMED


@pytest.mark.parametrize("change", [one_bagel, amend(c.RemoveLine(line_id="bagels"))])
def test_pieces_shipped_before_an_amendment_are_added_again(
    change: c.AmendOrder,
) -> None:
    gone = ShipmentDeparted(
        shipment_id=BAGELS, lines=[Piece(line_id="bagels", sku="1095275", quantity=2)]
    )
    order = a_booked_order.having(change, gone).settled().order
    line = order.lines["bagels"]
    assert (line.quantity, line.cancelled, line.shipped) == (2, 0, 2)
    assert order.total == 400
    assert ledger.net_captured(order) == 380


def test_shipped_pieces_cannot_be_removed() -> None:
    a_half_sent_order.when(one_bagel).then_rejected(
        "2 pieces of line bagels have left or are cancelled already",
        code="already-shipped",
        field="changes/0/quantity",
    )
    a_half_sent_order.when(amend(MILK, c.RemoveLine(line_id="bagels"))).then_rejected(
        "2 pieces of line bagels have left already", code="already-shipped", field="changes/1"
    )


def test_amendment_obeys_the_rules_of_a_draft(monkeypatch: pytest.MonkeyPatch) -> None:
    a_booked_order.when(amend(but(MILK, discount=301))).then_rejected(
        "the discount makes the line -0.01 USD; it cannot be negative",
        code="discount-exceeds-price",
        field="changes/0/discount",
    )
    a_booked_order.when(amend(c.ChangeLine(line_id="tuna", unit_price=79))).then_rejected(
        "the discount makes the line -0.01 USD; it cannot be negative",
        code="discount-exceeds-price",
        field="changes/0",
    )
    a_booked_order.when(amend(but(MILK, line_id="tuna"))).then_rejected(
        "tuna already exists, with other content",
        code="id-already-used",
        field="changes/0/line_id",
    )
    a_booked_order.when(amend(c.RemoveLine(line_id="milk"))).then_rejected(
        "the order has no line milk", code="unknown-id", field="line_id"
    )
    a_booked_order.when(
        amend(but(MILK, quantity=QUANTITY_MAX, unit_price=AMOUNT_MAX))
    ).then_rejected(
        "the lines and shipping of an order total at most 9,007,199,254,740,991",
        code="total-too-large",
    )
    monkeypatch.setattr(amending, "LINES_MAX", 2)
    a_booked_order.when(amend(MILK)).then_rejected(
        "an order holds at most 2 lines", code="too-many-lines"
    )


@pytest.mark.parametrize("order", [a_draft, a_held_order, a_completed_order])
def test_only_active_order_can_be_amended(order: Given) -> None:
    order.when(one_bagel).then_rejected(
        f"amend-order is not allowed while the order is {order.order.status}",
        code="not-allowed-now",
    )


def test_repeated_amendment_changes_nothing() -> None:
    once = a_booked_order.having(one_bagel)
    once.when(one_bagel).then()
    once.settled().having(bagels_leave).when(one_bagel).then()
    once.when(amend(MILK)).then_rejected(
        "call already exists, with other content", code="id-already-used", field="amendment_id"
    )


def test_amendment_without_a_change_causes_no_event() -> None:
    a_booked_order.when(
        amend(
            c.ChangeLine(line_id="bagels", quantity=2, unit_price=179),
            c.ChangeShippingCharge(amount=44),
        )
    ).then()
    a_placed_order.when(amend(c.ChangeLine(line_id="bagels"))).then()


def test_ids_of_new_lines_derive_from_the_amendment() -> None:
    unnamed = c.AddLine(sku="995242", title="MILK", quantity=1, unit_price=150)
    asked = c.AmendOrder(changes=[unnamed, MILK, unnamed]).with_generated_ids("key-1")
    assert isinstance(asked, c.AmendOrder)
    ids = [change.line_id for change in asked.changes if isinstance(change, c.AddLine)]
    assert (asked.amendment_id, ids) == ("key-1", ["key-1.0", "milk", "key-1.2"])


def test_cancelled_and_amended_pieces_are_added_again_only_if_shipped() -> None:
    off = c.CancelLines(cancellation_id="diet", lines=bagels(1))
    more = amend(c.ChangeLine(line_id="bagels", quantity=4))
    gone = ShipmentDeparted(
        shipment_id=BAGELS, lines=[Piece(line_id="bagels", sku="1095275", quantity=2)]
    )
    line = a_booked_order.having(off, more, gone).order.lines["bagels"]
    assert (line.quantity, line.cancelled, line.shipped, line.unshipped) == (4, 1, 2, 1)
