"""What an order waits for, at each stage of its life."""

from __future__ import annotations

import pytest

from orders import steps as o
from orders.steps import StepFailed
from readside.order_view import waiting_words
from readside.order_view.document import document
from readside.order_view.view import OrderView
from readside.order_view.waiting_words import waits
from readside.order_view.words import Words
from tests.support import order_fixtures as at
from tests.support.given import NOW, Given

STUCK = at.a_reserved_order.having(
    StepFailed(step_id="authorise-9", reason="the payment service answered 503: down.")
)


def waited_for(scene: Given, orphaned: str | None = None) -> list[str]:
    shown = document(OrderView("ord_1", scene.order, NOW, NOW, NOW, _Texts()))
    return list(waits(shown, Words("USD"), orphaned))


class _Texts(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return f"text of {key}"


@pytest.mark.parametrize(
    ("scene", "expected"),
    [
        pytest.param(
            at.a_draft,
            ["the customer: `place-order` places it", "8 March 2026, 12:00 UTC: then it expires"],
            id="draft",
        ),
        pytest.param(
            at.a_placed_order, ["the stock service: it has to reserve pieces"], id="placed"
        ),
        pytest.param(
            STUCK,
            [
                (
                    "the payment service: it has to authorise the payment; it is stuck:"
                    " the payment service answered 503: down"
                )
            ],
            id="stuck",
        ),
        pytest.param(
            at.a_declined_order,
            [
                "the customer: the payment was declined, and another method is needed",
                "2 March 2026, 12:00 UTC: then the order goes on without the customer's answer",
            ],
            id="declined",
        ),
        pytest.param(
            at.a_short_order,
            [
                "the customer: not all pieces are in stock, and a decision is needed",
                "2 March 2026, 12:00 UTC: then the order goes on without the customer's answer",
            ],
            id="short",
        ),
        pytest.param(
            at.a_booked_order,
            [
                f"shipment {at.BAGELS}: it has to leave",
                f"shipment {at.TUNA}: it has to leave",
                (
                    "7 March 2026, 12:00 UTC: then the authorised money is captured, before the"
                    " authorisation ends"
                ),
            ],
            id="booked",
        ),
        pytest.param(
            at.a_sent_order,
            [f"shipment {at.BAGELS}: it has to arrive", f"shipment {at.TUNA}: it has to arrive"],
            id="sent",
        ),
        pytest.param(
            at.a_delivered_order,
            ["31 March 2026, 12:00 UTC: then the time for returns is over"],
            id="delivered",
        ),
        pytest.param(at.a_completed_order, [], id="completed"),
        pytest.param(at.a_cancelled_order, [], id="cancelled"),
        pytest.param(at.an_expired_order, [], id="expired"),
    ],
)
def test_order_waits_for(scene: Given, expected: list[str]) -> None:
    assert waited_for(scene) == expected


def test_held_order_waits_for_an_operator() -> None:
    hold = "an operator: it is on hold, and `release-order` continues it"
    assert hold in waited_for(at.a_held_order)


def test_orphaned_order_says_so_first() -> None:
    first, *_ = waited_for(at.a_booked_order, "its workflow was terminated")
    assert first.startswith("an operator: no workflow runs it (its workflow was terminated)")


def test_discrepancy_waits_for_a_person() -> None:
    contradicted = at.a_booked_order.having(
        o.StepDone(step_id="unknown-1", operation="capture", amount=100)
    )
    assert any(reason.startswith("a person: text of ") for reason in waited_for(contradicted))


def test_each_step_and_each_deadline_has_its_words() -> None:
    assert waiting_words.STEPS.keys() == o.SERVICE_OF_STEP.keys()
    assert all(waiting_words.service_of(step) for step in waiting_words.STEPS)
    answers = {f"{decision}-answer" for decision in waiting_words.DECISIONS}
    assert waiting_words.DEADLINES.keys() == {"draft", "capture", "return-window", *answers}
