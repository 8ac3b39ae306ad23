"""The rules of a draft. Of each command: what follows, when it says no, when it stays quiet."""

from __future__ import annotations

import pytest

from orders.commands import ApplyDiscount, ChangeItemQuantity, RemoveDiscount, RemoveItemFromOrder
from orders.decider import decide_all
from orders.events import DiscountRemoved, ItemQuantityChanged, ItemRemoved
from orders.evolve import fold
from orders.money import AMOUNT_MAX, QUANTITY_MAX
from orders.order import Order
from orders.rules import draft as drafting
from tests.support.given import (
    NOW,
    add_bagels,
    add_note,
    apply_welcome,
    bagels_added,
    but,
    cancel,
    cancelled,
    given,
    open_order,
    opened,
    place,
    placed,
    tuna_added,
    welcome_applied,
)

three_bagels = ChangeItemQuantity(line_id="bagels", quantity=3)
bagels_tripled = ItemQuantityChanged(line_id="bagels", quantity=3, discount=44, tax=11)
remove_bagels = RemoveItemFromOrder(line_id="bagels")
bagels_removed = ItemRemoved(line_id="bagels")
remove_welcome = RemoveDiscount(discount_id="welcome")
welcome_removed = DiscountRemoved(discount_id="welcome")

a_draft = given(opened, bagels_added)
a_draft_with_a_discount = given(opened, bagels_added, welcome_applied)
a_placed_order = given(opened, bagels_added, placed)

# OpenOrder


def test_order_is_opened() -> None:
    given().when(open_order).then(opened)


@pytest.mark.parametrize(
    "other", [{"customer_id": "901"}, {"currency": "EUR"}, {"external_reference": None}]
)
def test_order_cannot_be_opened_again_with_other_content(other: dict[str, object]) -> None:
    given(opened).when(but(open_order, **other)).then_rejected(
        "open-order is not allowed while the order is draft", code="not-allowed-now"
    )


def test_repeated_open_order_changes_nothing() -> None:
    given(opened).when(open_order).then()
    given(opened, bagels_added, placed, cancelled).when(open_order).then()


# AddItemToOrder


def test_item_is_added_to_a_draft() -> None:
    given(opened).when(add_bagels).then(bagels_added)


def test_item_may_name_the_currency_of_the_order() -> None:
    given(opened).when(but(add_bagels, currency="USD")).then(bagels_added)


def test_item_in_another_currency_is_rejected() -> None:
    given(opened).when(but(add_bagels, currency="EUR")).then_rejected(
        "the order is in USD, not EUR", code="currency-mismatch", field="currency"
    )


def test_item_cannot_be_added_to_a_placed_order() -> None:
    given(opened, tuna_added, placed).when(add_bagels).then_rejected(
        "add-item-to-order is not allowed while the order is placed", code="not-allowed-now"
    )


@pytest.mark.parametrize("field", ["sku", "title", "quantity", "unit_price", "discount", "tax"])
def test_line_id_cannot_be_used_for_another_item(field: str) -> None:
    other = "OTHER" if field in ("sku", "title") else 5
    a_draft.when(but(add_bagels, **{field: other})).then_rejected(
        "bagels already exists, with other content", code="id-already-used", field="line_id"
    )


def test_id_of_a_removed_line_stays_used() -> None:
    given(opened, bagels_added, bagels_removed).when(add_bagels).then_rejected(
        "bagels was removed; an id is used once only", code="id-already-used", field="line_id"
    )


def test_line_price_cannot_be_negative() -> None:
    given(opened).when(but(add_bagels, discount=365)).then(but(bagels_added, discount=365))
    given(opened).when(but(add_bagels, discount=366)).then_rejected(
        "the discount makes the line -0.01 USD; it cannot be negative",
        code="discount-exceeds-price",
        field="discount",
    )


def test_repeated_item_in_another_currency_is_rejected() -> None:
    given(opened, bagels_added).when(but(add_bagels, currency="EUR")).then_rejected(
        "the order is in USD, not EUR", code="currency-mismatch", field="currency"
    )


def test_title_with_control_characters_is_rejected() -> None:
    for character in "\x00\n\x7f\x85\u2028":
        with pytest.raises(ValueError, match="title"):
            but(add_bagels, title=f"a{character}b")


def test_number_of_lines_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafting, "LINES_MAX", 2)
    given(opened, tuna_added).when(add_bagels).then(bagels_added)
    given(opened, tuna_added, bagels_added).when(but(add_bagels, line_id="more")).then_rejected(
        "an order holds at most 2 lines", code="too-many-lines"
    )


def test_total_is_limited() -> None:
    dear = but(add_bagels, quantity=QUANTITY_MAX, unit_price=AMOUNT_MAX)
    given(opened).when(dear).then_rejected(
        "the lines and shipping of an order total at most 9,007,199,254,740,991",
        code="total-too-large",
    )


def test_repeated_item_changes_nothing() -> None:
    a_draft.when(add_bagels).then()
    a_placed_order.when(add_bagels).then()


# ChangeItemQuantity


def test_quantity_of_a_line_is_changed() -> None:
    a_draft.when(three_bagels).then(bagels_tripled)


def test_quantity_of_a_placed_line_cannot_be_changed() -> None:
    a_placed_order.when(three_bagels).then_rejected(
        "change-item-quantity is not allowed while the order is placed", code="not-allowed-now"
    )


def test_quantity_of_an_unknown_line_cannot_be_changed() -> None:
    given(opened, tuna_added).when(three_bagels).then_rejected(
        "the order has no line bagels", code="unknown-id", field="line_id"
    )


def test_smaller_quantity_cannot_be_below_the_line_discount() -> None:
    two_for_one = but(tuna_added, quantity=2, discount=101)
    one = ChangeItemQuantity(line_id="tuna", quantity=1, discount=101)
    given(opened, two_for_one).when(one).then_rejected(
        "the discount makes the line -0.01 USD; it cannot be negative",
        code="discount-exceeds-price",
        field="discount",
    )


def test_discount_and_tax_follow_the_quantity_to_the_cent() -> None:
    four = but(tuna_added, quantity=4, discount=10, tax=760)
    one = ChangeItemQuantity(line_id="tuna", quantity=1)
    draft = given(opened, four)
    draft.when(one).then(ItemQuantityChanged(line_id="tuna", quantity=1, discount=3, tax=190))
    draft.when(one, but(one, quantity=4)).then(
        ItemQuantityChanged(line_id="tuna", quantity=1, discount=3, tax=190),
        ItemQuantityChanged(line_id="tuna", quantity=4, discount=12, tax=760),
    )


def test_discount_and_tax_can_be_given_with_the_quantity() -> None:
    four = but(tuna_added, quantity=4, discount=10, tax=760)
    one = ChangeItemQuantity(line_id="tuna", quantity=1, discount=0, tax=191)
    changed = ItemQuantityChanged(line_id="tuna", quantity=1, discount=0, tax=191)
    given(opened, four).when(one).then(changed)
    given(opened, four, changed).when(one).then()
    given(opened, four, changed).when(but(one, tax=190)).then(
        ItemQuantityChanged(line_id="tuna", quantity=1, tax=190)
    )


def test_smaller_quantity_cannot_be_below_the_order_discounts() -> None:
    half_off = but(welcome_applied, amount=169)
    one_bagel = ChangeItemQuantity(line_id="bagels", quantity=1)
    given(opened, bagels_added, half_off).when(one_bagel).then_rejected(
        "the discounts make the order -0.01 USD; it cannot be negative",
        code="discounts-exceed-total",
    )


def test_repeated_quantity_changes_nothing() -> None:
    given(opened, bagels_added, bagels_tripled).when(three_bagels).then()
    given(opened, bagels_added, bagels_tripled, placed).when(three_bagels).then()


# RemoveItemFromOrder


def test_item_is_removed_from_a_draft() -> None:
    a_draft.when(remove_bagels).then(bagels_removed)


def test_item_cannot_be_removed_from_a_placed_order() -> None:
    a_placed_order.when(remove_bagels).then_rejected(
        "remove-item-from-order is not allowed while the order is placed", code="not-allowed-now"
    )


def test_unknown_item_cannot_be_removed() -> None:
    given(opened, tuna_added).when(remove_bagels).then_rejected(
        "the order has no line bagels", code="unknown-id", field="line_id"
    )


def test_removal_cannot_leave_less_than_the_discounts() -> None:
    given(opened, bagels_added, tuna_added, welcome_applied).when(remove_bagels).then_rejected(
        "the discounts make the order -0.30 USD; it cannot be negative",
        code="discounts-exceed-total",
    )


def test_repeated_removal_changes_nothing() -> None:
    given(opened, bagels_added, bagels_removed).when(remove_bagels).then()


# ApplyDiscount


def test_discount_is_applied_to_a_draft() -> None:
    a_draft.when(apply_welcome).then(welcome_applied)


def test_discount_cannot_be_applied_to_a_placed_order() -> None:
    a_placed_order.when(apply_welcome).then_rejected(
        "apply-discount is not allowed while the order is placed", code="not-allowed-now"
    )


def test_discount_in_another_currency_is_rejected() -> None:
    a_draft.when(but(apply_welcome, currency="JPY")).then_rejected(
        "the order is in USD, not JPY", code="currency-mismatch", field="currency"
    )


@pytest.mark.parametrize("other", [{"amount": 51}, {"reason": "it is Monday"}])
def test_discount_id_cannot_be_used_for_another_discount(other: dict[str, object]) -> None:
    a_draft_with_a_discount.when(but(apply_welcome, **other)).then_rejected(
        "welcome already exists, with other content", code="id-already-used", field="discount_id"
    )


def test_id_of_a_removed_discount_stays_used() -> None:
    given(opened, bagels_added, welcome_applied, welcome_removed).when(apply_welcome).then_rejected(
        "welcome was removed; an id is used once only", code="id-already-used", field="discount_id"
    )


def test_discounts_cannot_exceed_the_total() -> None:
    all_of_it = but(apply_welcome, amount=336)
    a_draft.when(all_of_it).then(but(welcome_applied, amount=336))
    a_draft.when(all_of_it, ApplyDiscount(discount_id="more", amount=1)).then_rejected(
        "the discounts make the order -0.01 USD; it cannot be negative",
        code="discounts-exceed-total",
        field="amount",
        index=1,
    )


def test_number_of_discounts_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafting, "DISCOUNTS_MAX", 1)
    a_draft.when(apply_welcome).then(welcome_applied)
    a_draft_with_a_discount.when(ApplyDiscount(discount_id="more", amount=1)).then_rejected(
        "an order holds at most 1 discounts", code="too-many-discounts"
    )


def test_repeated_discount_changes_nothing() -> None:
    a_draft_with_a_discount.when(apply_welcome).then()
    given(opened, bagels_added, welcome_applied, placed).when(apply_welcome).then()


# RemoveDiscount


def test_discount_is_removed_from_a_draft() -> None:
    a_draft_with_a_discount.when(remove_welcome).then(welcome_removed)


def test_discount_cannot_be_removed_from_a_placed_order() -> None:
    given(opened, bagels_added, welcome_applied, placed).when(remove_welcome).then_rejected(
        "remove-discount is not allowed while the order is placed", code="not-allowed-now"
    )


def test_unknown_discount_cannot_be_removed() -> None:
    a_draft.when(remove_welcome).then_rejected(
        "the order has no discount welcome", code="unknown-id", field="discount_id"
    )


def test_repeated_removal_of_a_discount_changes_nothing() -> None:
    given(opened, bagels_added, welcome_applied, welcome_removed).when(remove_welcome).then()


# Several commands at once


def test_command_is_decided_on_the_order_after_those_before_it() -> None:
    given().when(open_order, add_bagels, place, cancel).then(
        opened, bagels_added, placed, cancelled
    )


def test_events_are_returned_with_their_commands() -> None:
    decided, order = decide_all([open_order, open_order, add_bagels], Order(), NOW)
    assert decided == [(open_order, opened), (add_bagels, bagels_added)]
    assert order == fold([opened, bagels_added])


def test_rejected_command_rejects_the_batch_and_is_named() -> None:
    an_empty_draft = given(opened)
    an_empty_draft.when(add_bagels, add_note, remove_welcome, place).then_rejected(
        "the order has no discount welcome", code="unknown-id", field="discount_id", index=2
    )
    assert an_empty_draft.order == fold([opened])


def test_missing_client_id_is_generated() -> None:
    for command, field in (
        (add_bagels, "line_id"),
        (apply_welcome, "discount_id"),
        (add_note, "note_id"),
    ):
        without = command.model_copy(update={field: ""})
        assert without.with_generated_ids("new") == command.model_copy(update={field: "new"})
        assert command.with_generated_ids("new") == command
    assert place.with_generated_ids("new") == place
