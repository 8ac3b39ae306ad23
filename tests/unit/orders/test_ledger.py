"""An order's money: what is due, promised, taken and given back, to the cent."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given as over
from hypothesis import strategies as st

from orders import commands as c
from orders import ledger
from orders.entities import Line
from orders.money import allocate
from orders.policy import Policy
from tests.support.given import Given, given
from tests.support.order_fixtures import (
    BAGELS,
    a_booked_order,
    a_cancelled_order,
    a_cancelling_order,
    a_delivered_order,
    a_draft,
    a_half_sent_order,
    a_placed_order,
    a_return_agreed,
    a_sent_order,
    bagels,
    bagels_leave,
    tuna,
)


def money(scene: Given) -> tuple[int, int, int, int]:
    """What is due now and in the end, what was taken, and what is still open."""
    order = scene.order
    return (
        ledger.due(order),
        ledger.final_due(order),
        ledger.net_captured(order),
        ledger.capturable(order),
    )


def test_goods_are_due_when_shipped_and_shipping_with_the_first() -> None:
    assert money(a_placed_order) == (0, 400, 0, 0)
    assert money(a_booked_order) == (0, 400, 0, 400)
    assert money(a_half_sent_order) == (380, 400, 380, 20)
    assert money(a_sent_order) == (400, 400, 400, 0)


def test_requested_amounts_are_claimed_before_their_results() -> None:
    asked = a_booked_order.having(bagels_leave)
    assert money(asked) == (380, 400, 380, 20)
    assert ledger.captured(asked.order) == 0
    assert ledger.to_capture(asked.order) == 20


def test_nothing_is_due_for_a_cancelled_order() -> None:
    assert money(a_cancelling_order) == (0, 0, 0, 400)
    assert money(a_cancelled_order) == (0, 0, 0, 0)
    assert ledger.voided(a_cancelled_order.order) == 400


def test_uncaptured_part_of_an_authorisation_is_voided() -> None:
    no_tuna = c.CancelLines(
        cancellation_id="diet", lines=[c.LineQuantity(line_id="tuna", quantity=1)]
    )
    order = a_half_sent_order.having(no_tuna).settled().order
    assert ledger.authorised(order) == 400
    assert (ledger.captured(order), ledger.voided(order)) == (380, 20)


def test_shipping_is_due_while_any_piece_is_shipped() -> None:
    lost = c.ReportDeliveryFailure(shipment_id=BAGELS)
    assert money(a_sent_order.having(lost)) == (64, 64, 64, 0)
    returned = a_return_agreed.having(
        c.ReceiveReturn(receipt_id="r", return_id="stale", lines=bagels(1), condition="damaged")
    )
    assert money(returned) == (232, 232, 232, 0)


def test_goodwill_lowers_the_due_amount_to_zero_at_most() -> None:
    kind = a_delivered_order.having(c.RefundPayment(refund_id="sorry", amount=400))
    assert money(kind) == (0, 0, 0, 0)
    all_back = kind.settled().having(
        c.RequestReturn(return_id="r", lines=bagels(2)),
        c.ApproveReturn(return_id="r"),
        c.ReceiveReturn(receipt_id="r", return_id="r", lines=bagels(2), condition="sellable"),
    )
    assert money(all_back) == (0, 0, 0, 0)
    assert ledger.refundable(all_back.order) == 0


def test_placing_fixes_the_discount_shares_of_lines() -> None:
    """1.00 USD off 3.56 USD: 0.94 off the bagels, 0.06 off the tuna."""
    placed = a_draft.having(c.ApplyDiscount(discount_id="welcome", amount=100), c.PlaceOrder())
    order = placed.order
    assert order.discount_shares() == {"bagels": 94, "tuna": 6}
    assert [line.price_of(line.quantity) for line in order.lines.values()] == [336 - 94, 20 - 6]
    assert order.total == 300
    one_left = placed.having(c.CancelLines(cancellation_id="a", lines=[*bagels(1), *tuna()]))
    assert one_left.order.total == 121 + 44
    none_left = one_left.having(c.CancelLines(cancellation_id="b", lines=bagels(1)))
    assert none_left.order.total == 0, "without pieces there is no shipping charge"


LINES = st.builds(
    Line,
    line_id=st.just("a"),
    sku=st.just("A"),
    title=st.just("A"),
    quantity=st.integers(1, 50),
    unit_price=st.integers(100, 10**6),
    discount=st.integers(0, 50),
    tax=st.integers(0, 1000),
    discount_share=st.integers(0, 50),
)


@over(LINES, st.data())
def test_prices_of_pieces_sum_to_the_line(line: Line, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, line.quantity), max_size=6)))
    marks = [0, *cuts, line.quantity]
    parts = [line.price_of(b) - line.price_of(a) for a, b in pairwise(marks)]
    assert sum(parts) == line.total - line.discount_share
    assert min(parts) >= 0
    for pieces in marks:
        shares = allocate(line.total - line.discount_share, [pieces, line.quantity - pieces])
        assert line.price_of(pieces) == shares[0]


@over(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.integers(1, 999))
def test_refunds_of_single_pieces_sum_to_the_paid_amount(quantities: list[int], price: int) -> None:
    opened = c.OpenOrder(customer_id="900", currency="USD", policy=Policy())
    items = [
        c.AddItemToOrder(
            line_id=str(n), sku="A", title="A", quantity=quantity, unit_price=price, tax=n
        )
        for n, quantity in enumerate(quantities)
    ]
    off = c.ApplyDiscount(discount_id="off", amount=min(7, price))
    sent = given().having(opened, *items, off, c.PlaceOrder()).settled()
    (parcel,) = sent.order.shipments
    there = sent.having(c.DispatchShipment(shipment_id=parcel)).settled()
    there = there.having(c.ConfirmDelivery(shipment_id=parcel))
    paid = ledger.captured(there.order)
    assert paid == there.order.total
    for n, quantity in enumerate(quantities):
        for piece in range(quantity):
            name, lines = f"{n}-{piece}", [c.LineQuantity(line_id=str(n), quantity=1)]
            there = there.having(
                c.RequestReturn(return_id=name, lines=lines),
                c.ApproveReturn(return_id=name),
                c.ReceiveReturn(receipt_id=name, return_id=name, lines=lines, condition="damaged"),
            ).settled()
    assert ledger.refunded(there.order) == paid
    assert ledger.net_captured(there.order) == 0
