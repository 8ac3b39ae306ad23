"""What the Temporal Web UI shows of an order: readable Markdown, and nobody's secrets."""

from __future__ import annotations

from orders.events import ItemRemoved, OrderEvent
from orders.evolve import fold
from orders.order import Order
from tests.given import (
    bagels_added,
    but,
    cancelled,
    note_added,
    opened,
    placed,
    tuna_added,
    welcome_applied,
)
from workflows.details import LINES_SHOWN, details, summary


def order_of(count: int) -> Order:
    """A draft with so many lines."""
    items: list[OrderEvent] = [but(tuna_added, line_id=f"line-{n}") for n in range(count)]
    return fold([opened, *items])


def rows(markdown: str) -> list[str]:
    return [line for line in markdown.splitlines() if line.startswith("- ")]


def test_an_order_can_be_understood_at_a_glance() -> None:
    order = fold([opened, bagels_added, tuna_added, welcome_applied, placed])
    assert details(order, unpublished=2, troubles=[]) == (
        "### placed, 3.06 USD\n\n"
        "Customer 900, version 5\n\n"
        "2 events not yet in the log\n\n"
        "- 2 × ROLLS: BAGELS (1095275) at 1.79 USD: **3.36 USD**\n"
        "- 1 × TUNA (1053875) at 1.00 USD: **0.20 USD**\n\n"
        "Discounts on the order: 0.50 USD"
    )


def test_an_empty_order_shows_no_lines() -> None:
    order = fold([opened, bagels_added, ItemRemoved(line_id="bagels"), cancelled])
    assert details(order, unpublished=0, troubles=[]) == (
        "### cancelled, 0.00 USD\n\nCustomer 900, version 4"
    )


def test_trouble_is_the_first_thing_said() -> None:
    shown = details(order_of(1), unpublished=1, troubles=["versions 2 to 3 cannot be published"])
    assert shown.index("**Needs attention:** versions 2 to 3") < shown.index("- 1 ×")


def test_an_order_that_nobody_opened_says_so() -> None:
    assert details(Order(), unpublished=0, troubles=[]) == "Nobody has opened this order yet."


def test_only_so_many_lines_are_shown() -> None:
    all_of_them = rows(details(order_of(LINES_SHOWN), 0, []))
    assert len(all_of_them) == LINES_SHOWN
    assert "more lines" not in str(all_of_them)
    too_many = rows(details(order_of(LINES_SHOWN + 7), 0, []))
    assert len(too_many) == LINES_SHOWN + 1
    assert too_many[-1] == "- and 7 more lines"


def test_no_text_is_taken_for_markdown() -> None:
    title = r"**BAGELS** [x](http://x) <b> `a` \ # | ~"
    (shown,) = rows(details(fold([opened, but(bagels_added, title=title)]), 0, []))
    assert r"\*\*BAGELS\*\* \[x\](http://x) \<b\> \`a\` \\ \# \| \~ (1095275)" in shown


def test_notes_and_reasons_are_not_shown() -> None:
    order = fold([opened, bagels_added, note_added, welcome_applied, cancelled])
    shown = details(order, 0, []) + summary(order)
    for secret in ("bell", "knock", "first order", "elsewhere", "basket-31198570044"):
        assert secret not in shown


def test_a_summary_is_one_line() -> None:
    assert summary(order_of(0)) == "customer 900, 0 lines, 0.00 USD"
    assert summary(order_of(1)) == "customer 900, 1 line, 0.20 USD"
    assert summary(order_of(2)) == "customer 900, 2 lines, 0.40 USD"
