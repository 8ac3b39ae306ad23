"""The row of an order: the columns beside the document."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from orders.decider import allowed_commands
from orders.events import OrderEvent
from orders.lifecycle import Status
from orders.order import Order
from readside.order_view.row import Phase, commands_in, order_row
from readside.order_view.view import OrderView
from tests.support.random_orders import RandomOrder


def test_phase_decides_the_allowed_commands() -> None:
    phases: set[Phase] = set()

    def check(order: Order, _event: OrderEvent) -> None:
        for one in (order, replace(order, policy=None)):
            phase = order_row(OrderView("ord_1", one)).phase
            assert commands_in(phase) == allowed_commands(one)
            phases.add(phase)

    for seed in range(8):
        order = RandomOrder(after_event=check)
        order.start(Random(seed))
        for move in range(60):
            order.move(Random(f"{seed}, {move}"))
        order.finish()
    assert {phase.status for phase in phases} == set(Status) - {Status.NEW}
    assert {phase.awaiting for phase in phases} == {None, "payment", "shortfall"}
