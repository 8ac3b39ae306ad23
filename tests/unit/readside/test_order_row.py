"""The row of an order: the columns beside the document."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from orders.decider import Phase, allowed_commands, commands_in, phase_of
from orders.events import OrderEvent
from orders.lifecycle import Status
from orders.order import Order
from readside.order_view.document import document, needs_attention
from readside.order_view.row import order_row
from readside.order_view.view import OrderView, fold_view
from tests.support.contradictions import contradicted_order
from tests.support.given import published
from tests.support.random_orders import RandomOrder


def test_phase_decides_the_allowed_commands() -> None:
    phases: set[Phase] = set()

    def check(order: Order, _event: OrderEvent) -> None:
        for one in (order, replace(order, policy=None)):
            phase = phase_of(one)
            assert list(commands_in(phase)) == allowed_commands(one)
            phases.add(phase)

    for seed in range(8):
        order = RandomOrder(after_event=check)
        order.start(Random(seed))
        for move in range(60):
            order.move(Random(f"{seed}, {move}"))
        order.finish()
    assert {phase.status for phase in phases} == set(Status) - {Status.NEW}
    assert {phase.awaiting for phase in phases} == {None, "payment", "shortfall"}
    assert {phase.has_stuck_steps for phase in phases} == {False, True}


def test_row_has_the_document_and_the_phase_of_its_order() -> None:
    seen = set()
    for seed in range(20):
        random = contradicted_order(seed, list(range(seed, seed + 60)), lambda order, event: None)
        view = fold_view(OrderView("ord_1"), published(random.events))
        row, shown = order_row(view), document(view)
        assert (row.version, row.phase) == (len(random.events), phase_of(random.order))
        assert row.document == shown.model_dump_json()
        assert needs_attention(random.order) == bool(shown.needs_attention)
        seen |= {entry.kind for entry in shown.needs_attention}
    assert len(seen) > 5
