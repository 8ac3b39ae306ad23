"""Properties of every order, over random commands whose ids clash."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import accumulate, chain
from math import prod
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from eventlog.envelope import Envelope, digest
from orders import commands as c
from orders.commands import OrderCommand
from orders.decider import decide, decide_all
from orders.events import OrderEvent, OrderPlaced
from orders.evolve import evolve, fold
from orders.money import AMOUNT_MAX, QUANTITY_MAX, TOTAL_MAX
from orders.order import Order
from orders.rules.checks import CommandRejected
from orders.upcasting import UnreadableEvent, restore, stored_data
from tests.support.given import NOW, but, published
from workflows.snapshot import Snapshot


def every(
    kind: Callable[..., OrderCommand], **values: Sequence[object]
) -> st.SearchStrategy[OrderCommand]:
    """All combinations of the values, drawn as one number: ten times as fast as one by one."""
    counts = [len(choices) for choices in values.values()]

    def combination(number: int) -> OrderCommand:
        fields: dict[str, object] = {}
        for name, choices in values.items():
            number, index = divmod(number, len(choices))
            fields[name] = choices[index]
        return kind(**fields)

    return st.integers(0, prod(counts) - 1).map(combination)


# Few ids and small amounts, so that ids clash and discounts come near the total.
IDS = ["a", "b", "c"]
WORDS = ["x", "| y |", "zoë"]
QUANTITIES = [1, 2, 3, 4, 5, 6, QUANTITY_MAX]
CURRENCIES = [None, None, None, "USD", "JPY"]

OPENINGS = every(c.OpenOrder, customer_id=IDS, currency=["USD"], external_reference=[None, *WORDS])
ITEMS = every(
    c.AddItemToOrder,
    line_id=IDS,
    sku=WORDS,
    title=WORDS,
    quantity=QUANTITIES,
    unit_price=[5, 8, 13, 21, 34, 55, 0, AMOUNT_MAX],
    discount=[0, 0, 1, 10],
    tax=[0, 1, 2],
    currency=CURRENCIES,
)
DISCOUNTS = every(
    c.ApplyDiscount,
    discount_id=IDS,
    amount=[1, 2, 7, 20],
    reason=[None, *WORDS],
    currency=CURRENCIES,
)
EDITS = st.one_of(
    ITEMS,
    DISCOUNTS,
    every(c.ChangeItemQuantity, line_id=IDS, quantity=QUANTITIES),
    every(c.RemoveItemFromOrder, line_id=IDS),
    every(c.RemoveDiscount, discount_id=IDS),
    every(c.AddNote, note_id=IDS, text=WORDS),
)
ENDINGS = st.just(c.PlaceOrder()) | every(c.CancelOrder, reason=[None, *WORDS])
HISTORIES: st.SearchStrategy[list[OrderCommand]] = st.builds(
    lambda opening, *parts: [opening, *chain(*parts)],
    OPENINGS,
    st.lists(ITEMS, min_size=1, max_size=3),
    st.lists(EDITS, min_size=4, max_size=12),
    st.lists(st.one_of(OPENINGS, ENDINGS, ENDINGS, EDITS), max_size=6),
)


class Step(NamedTuple):
    """One command, the order before and after it, and what it caused: None if it was refused."""

    before: Order
    command: OrderCommand
    events: list[OrderEvent] | None
    after: Order


def ask(order: Order, command: OrderCommand) -> Step:
    try:
        events = decide(command, order, NOW)
    except CommandRejected:
        return Step(order, command, None, order)
    return Step(order, command, events, fold(events, order))


def carried_out(commands: list[OrderCommand]) -> list[Step]:
    """Each command sent by itself, so that a refused one stops none of the others."""
    steps: list[Step] = []
    for command in commands:
        steps.append(ask(steps[-1].after if steps else Order(), command))
    return steps


def caused_by(commands: list[OrderCommand]) -> list[OrderEvent]:
    return [event for step in carried_out(commands) for event in step.events or []]


@given(HISTORIES)
def test_fold_of_the_events_is_the_order(commands: list[OrderCommand]) -> None:
    steps = carried_out(commands)
    accepted = [step.command for step in steps if step.events is not None]
    decided, order = decide_all(accepted, Order(), NOW)
    assert order == fold(event for _, event in decided) == steps[-1].after


@given(HISTORIES)
def test_batch_is_rejected_at_its_first_rejected_command(
    commands: list[OrderCommand],
) -> None:
    refused = [index for index, step in enumerate(carried_out(commands)) if step.events is None]
    if not refused:
        decide_all(commands, Order(), NOW)
        return
    with pytest.raises(CommandRejected) as no:
        decide_all(commands, Order(), NOW)
    assert no.value.index == refused[0]


@given(HISTORIES)
def test_version_rises_by_one_per_event(commands: list[OrderCommand]) -> None:
    events = caused_by(commands)
    orders = accumulate(events, evolve, initial=Order())
    assert [order.version for order in orders] == list(range(len(events) + 1))


@given(HISTORIES)
def test_repeated_command_changes_nothing(commands: list[OrderCommand]) -> None:
    for step in carried_out(commands):
        again = ask(step.after, step.command)
        # What was refused stays refused, and what was accepted is then already so.
        assert again.events == (None if step.events is None else [])


@given(HISTORIES)
def test_late_duplicate_changes_nothing(commands: list[OrderCommand]) -> None:
    """Of any accepted command but one: a quantity may be set back to what it was, on purpose."""
    accepted: list[OrderCommand] = []
    for step in carried_out(commands):
        for duplicate in accepted:
            assert not ask(step.after, duplicate).events
        if step.events is not None and not isinstance(step.command, c.ChangeItemQuantity):
            accepted.append(step.command)


@given(HISTORIES)
def test_totals_are_exact_and_never_negative(commands: list[OrderCommand]) -> None:
    steps = carried_out(commands)
    for n, step in enumerate(steps, start=1):
        order = step.after
        assert all(line.total >= 0 for line in order.lines.values())
        assert 0 <= order.total <= TOTAL_MAX
        assert order.total == sum(line.total for line in order.lines.values()) - order.discounted
        assert order.total == reckoned(steps[:n])
        assert all(e.total == order.total for e in step.events or [] if isinstance(e, OrderPlaced))


def reckoned(steps: list[Step]) -> int:
    """The total by another way: from the accepted commands themselves, one after the other."""
    accepted = [step.command for step in steps if step.events]
    void = {k.discount_id for k in accepted if isinstance(k, c.RemoveDiscount)}
    lines: dict[str, tuple[int, int, int, int]] = {}
    total = 0
    for k in accepted:
        match k:
            case c.AddItemToOrder():
                lines[k.line_id] = (k.quantity, k.unit_price, k.discount, k.tax)
            case c.ChangeItemQuantity(quantity=new):
                old, price, *amounts = lines[k.line_id]
                discount, tax = (round_half_up(Fraction(n * new, old)) for n in amounts)
                lines[k.line_id] = (new, price, discount, tax)
            case c.RemoveItemFromOrder():
                del lines[k.line_id]
            case c.ApplyDiscount() if k.discount_id not in void:
                total -= k.amount
            case _:
                pass
    return total + sum(n * price - discount + tax for n, price, discount, tax in lines.values())


def round_half_up(amount: Fraction) -> int:
    return math.floor(amount + Fraction(1, 2))


@given(HISTORIES)
def test_discount_shares_sum_to_the_discounts(commands: list[OrderCommand]) -> None:
    for step in carried_out(commands):
        order, shares = step.after, step.after.discount_shares()
        assert list(shares) == list(order.lines)
        assert sum(shares.values()) == order.discounted
        assert all(0 <= shares[key] <= line.total for key, line in order.lines.items())


_ORDER = TypeAdapter(Order)


def carried_along(order: Order) -> Order:
    """As continue-as-new carries it."""
    return Snapshot.model_validate_json(Snapshot(order=order).model_dump_json()).order


def read_again(order: Order) -> Order:
    """As the read model keeps it."""
    return _ORDER.validate_json(_ORDER.dump_json(order))


@pytest.mark.parametrize("saved", [carried_along, read_again])
@given(commands=HISTORIES, cut=st.integers(0, 25))
def test_saved_order_continues(
    saved: Callable[[Order], Order], commands: list[OrderCommand], cut: int
) -> None:
    events = caused_by(commands)
    at_once, with_a_pause = fold(events), fold(events[cut:], saved(fold(events[:cut])))
    assert with_a_pause == at_once
    assert in_order(with_a_pause) == in_order(at_once)


def in_order(order: Order) -> list[list[Any]]:
    """Equal mappings can still differ in their order, and that decides who gets the odd cent."""
    return [list(order.lines), list(order.discounts), list(order.notes)]


@given(HISTORIES)
def test_stored_events_are_restored(commands: list[OrderCommand]) -> None:
    for event in caused_by(commands):
        data = json.loads(
            json.dumps(stored_data(event), sort_keys=True)
        )  # The log sorts keys, too.
        assert None not in data.values()
        assert "type" not in data
        assert restore(event.type, event.schema_version, data) == event
        assert restore(event.type, event.schema_version, data | {"added_later": [1]}) == event
        with pytest.raises(UnreadableEvent, match="schema version 2, known is 1"):
            restore(event.type, event.schema_version + 1, data)
        with pytest.raises(UnreadableEvent, match="note-added: note_id Field required") as unread:
            restore("note-added", 1, {"text": "a secret"})
        assert "secret" not in str(unread.value), "it goes into logs and onto /readyz"
        with pytest.raises(UnreadableEvent, match="order-teleported"):
            restore("order-teleported", 1, data)


@given(HISTORIES)
def test_digest_differs_exactly_with_the_events(commands: list[OrderCommand]) -> None:
    events = published(caused_by(commands))
    elsewhere = [Envelope.model_validate_json(sorted_keys(event)) for event in events]
    retold = published((event.event() for event in events), command_id="told-again")
    assert digest(events) == digest(elsewhere) == digest(retold)
    others = [
        events[1:],
        [but(events[0], version=9), *events[1:]],
        [but(events[0], type="order-seized"), *events[1:]],
        [but(events[0], schema_version=2), *events[1:]],
        [*events[:-1], but(events[-1], data=events[-1].data | {"odd": 1})],
        [*events[:-1], events[-1], events[-1]],
    ]
    assert len({digest(batch) for batch in [events, *others]}) == len(others) + 1


def sorted_keys(event: Envelope) -> str:
    return json.dumps(json.loads(event.model_dump_json()), sort_keys=True)
