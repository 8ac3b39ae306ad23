"""The row of an order: the columns beside the document."""

from __future__ import annotations

from orders.decider import allowed_commands
from readside.order_view.document import document, needs_attention
from readside.order_view.row import order_row
from readside.order_view.view import OrderView, fold_view
from tests.support.contradictions import contradicted_order
from tests.support.given import published


def test_row_has_the_document_and_the_allowed_commands_of_its_order() -> None:
    seen = set()
    for seed in range(20):
        random = contradicted_order(seed, list(range(seed, seed + 60)), lambda order, event: None)
        view = fold_view(OrderView("ord_1"), published(random.events))
        row, shown = order_row(view), document(view)
        assert (row.version, row.status) == (len(random.events), random.order.status)
        assert list(row.allowed_commands) == allowed_commands(random.order)
        assert row.document == shown.model_dump_json()
        assert needs_attention(random.order) == bool(shown.needs_attention)
        seen |= {entry.kind for entry in shown.needs_attention}
    assert len(seen) > 5
