"""An order in the Temporal Web UI: readable Markdown without personal data."""

from __future__ import annotations

import pytest

from orders.commands import ReceiveReturn
from orders.events import ItemRemoved, OrderEvent
from orders.evolve import fold
from orders.order import Order
from orders.steps import ChargebackReported, ShipmentArrived, StepFailed
from tests.support.given import (
    Given,
    bagels_added,
    but,
    cancelled,
    note_added,
    opened,
    placed,
    tuna_added,
    welcome_applied,
)
from tests.support.order_fixtures import (
    BAGELS,
    TUNA,
    a_cancelling_order,
    a_declined_order,
    a_half_sent_order,
    a_held_order,
    a_placed_order,
    a_return_agreed,
    a_sent_order,
    a_short_order,
    bagels,
)
from workflows.web_ui import CANCELLATION_IGNORED, SHOWN_MAX, details, summary


def order_of(count: int) -> Order:
    """A draft with `count` lines."""
    items: list[OrderEvent] = [but(tuna_added, line_id=f"line-{n}") for n in range(count)]
    return fold([opened, *items])


def rows(markdown: str) -> list[str]:
    return [line for line in markdown.splitlines() if line.startswith("- ")]


def test_details_show_status_total_lines_and_discounts() -> None:
    order = fold([opened, bagels_added, tuna_added, welcome_applied, placed])
    assert details(order, unpublished=2, alerts=[]) == (
        "### placed, 3.06 USD\n\n"
        "Customer 900, version 5\n\n"
        "2 events not yet in the log\n\n"
        "Lines:\n\n"
        "- 2 × ROLLS: BAGELS (1095275) at 1.79 USD: **3.36 USD**\n"
        "- 1 × TUNA (1053875) at 1.00 USD: **0.20 USD**\n\n"
        "Discounts on the order: 0.50 USD"
    )


def test_empty_order_shows_no_lines() -> None:
    order = fold([opened, bagels_added, ItemRemoved(line_id="bagels"), cancelled])
    assert details(order, unpublished=0, alerts=[]) == (
        "### cancelled, 0.00 USD\n\nCustomer 900, version 4"
    )


def test_alerts_come_before_lines() -> None:
    shown = details(order_of(1), unpublished=1, alerts=["versions 2 to 3 cannot be published"])
    assert shown.index("**Needs attention:** versions 2 to 3") < shown.index("- 1 ×")


def test_cancellation_in_temporal_is_answered_until_the_order_is_cancelled() -> None:
    shown = details(order_of(1), unpublished=0, alerts=[], cancellation_ignored=True)
    assert "does not cancel an order" in shown and "send `cancel-order` instead" in shown
    assert CANCELLATION_IGNORED not in details(order_of(1), unpublished=0, alerts=[])
    ended = fold([opened, bagels_added, cancelled])
    for order in (ended, a_cancelling_order.order):
        assert CANCELLATION_IGNORED not in details(order, 0, [], cancellation_ignored=True)


def test_unopened_order_is_shown_as_not_opened() -> None:
    assert details(Order(), unpublished=0, alerts=[]) == "This order has not been opened."


def test_long_order_shows_the_first_lines_and_counts_the_rest() -> None:
    all_of_them = rows(details(order_of(SHOWN_MAX), 0, []))
    assert len(all_of_them) == SHOWN_MAX
    assert "more lines" not in str(all_of_them)
    too_many = rows(details(order_of(SHOWN_MAX + 7), 0, []))
    assert len(too_many) == SHOWN_MAX + 1
    assert too_many[-1] == "- and 7 more lines"


def test_text_is_escaped_for_markdown() -> None:
    title = r"**BAGELS** [x](http://x) <b> `a` \ # | ~"
    (shown,) = rows(details(fold([opened, but(bagels_added, title=title)]), 0, []))
    assert r"\*\*BAGELS\*\* \[x\](http://x) \<b\> \`a\` \\ \# \| \~ (1095275)" in shown


def test_notes_and_reasons_are_not_shown() -> None:
    order = fold([opened, bagels_added, note_added, welcome_applied, cancelled])
    shown = details(order, 0, []) + summary(order)
    for secret in ("bell", "knock", "first order", "elsewhere", "basket-31198570044"):
        assert secret not in shown


def test_summary_is_one_line() -> None:
    assert summary(order_of(0)) == "customer 900, 0 lines, 0.00 USD"
    assert summary(order_of(1)) == "customer 900, 1 line, 0.20 USD"
    assert summary(order_of(2)) == "customer 900, 2 lines, 0.40 USD"


# An order in fulfilment shows its progress, and what it waits for until when.


def parts(order: Order) -> list[str]:
    return details(order, unpublished=0, alerts=[]).split("\n\n")


def test_details_show_payment_shipments_and_next_deadline() -> None:
    assert parts(a_half_sent_order.order) == [
        "### confirmed, 4.00 USD",
        "Customer 900, version 22",
        "Deadline: capture at 2026-03-07 12:00 UTC",
        "Lines:",
        (
            "- 2 × ROLLS: BAGELS (1095275) at 1.79 USD: **3.36 USD**, 2 shipped\n"
            "- 1 × TUNA (1053875) at 1.00 USD: **0.20 USD**, 1 reserved"
        ),
        "Shipping: 0.44 USD",
        "Payment partly_captured: 4.00 USD authorised, 3.80 USD captured, 3.80 USD due by now",
        f"Shipment {BAGELS} from EAST: dispatched, 2 pieces, tracking 1Z-BAGELS",
        f"Shipment {TUNA} from WEST: planned, 1 piece, tracking 1Z",
    ]


def test_cancelling_order_shows_the_steps_that_undo_it() -> None:
    shown = parts(a_cancelling_order.order)
    steps = shown.index("Waits for other services:")
    assert shown[steps + 1 : steps + 3] == [f"- stop {BAGELS}\n- stop {TUNA}", "Lines:"]
    assert f"Shipment {BAGELS} from EAST: stopping, 2 pieces, tracking 1Z" in shown


def test_discrepancies_and_chargebacks_are_shown() -> None:
    contradicted = a_sent_order.having(
        ShipmentArrived(shipment_id="ghost"),
        ChargebackReported(chargeback_id="c", state="opened", amount=100, reason="fraud"),
    )
    how = "`resolve-discrepancy` closes unknown-shipment:ghost"
    assert parts(contradicted.order)[2:4] == [
        f"**Needs attention:** unknown-shipment, reported by shipping ({how})",
        "**Needs attention:** chargeback c of 1.00 USD",
    ]


def test_stuck_step_shows_its_reason_and_how_to_retry_it() -> None:
    stuck = a_placed_order.having(StepFailed(step_id="reserve-7", reason="no answer"))
    assert parts(stuck.order)[2:5] == [
        "**Needs attention:** step reserve-7 is stuck: no answer (`retry-step` tries it again)",
        "Waits for other services:",
        "- reserve 3 pieces",
    ]


@pytest.mark.parametrize(
    ("scene", "question", "deadline"),
    [
        (
            a_short_order,
            "not in stock: 1 × 1053875; `accept-shortfall`, amend, or cancel",
            "Deadline: shortfall-answer at 2026-03-02 12:00 UTC",
        ),
        (
            a_declined_order,
            "the payment was declined; `retry-payment` with another method, amend, or cancel",
            "Deadline: payment-answer at 2026-03-02 12:00 UTC",
        ),
    ],
)
def test_order_awaiting_its_customer_shows_the_question_and_the_deadline(
    scene: Given, question: str, deadline: str
) -> None:
    assert parts(scene.order)[2:4] == [f"**Waits for the customer:** {question}", deadline]


def test_order_on_hold_shows_how_it_is_released() -> None:
    assert parts(a_held_order.order)[2] == (
        "**On hold:** results are applied, but no step begins until `release-order`"
    )


def test_return_shows_outstanding_pieces_until_all_have_come_back() -> None:
    assert parts(a_return_agreed.order)[-1] == ("Return stale: approved, 1 piece, 1 outstanding")
    back = ReceiveReturn(receipt_id="r", return_id="stale", lines=bagels(1), condition="damaged")
    assert parts(a_return_agreed.having(back).order)[-1] == "Return stale: received, 1 piece"
