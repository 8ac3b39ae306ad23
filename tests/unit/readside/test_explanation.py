"""Why an order is where it is: the question and its answer, at each stage of its life."""

from __future__ import annotations

import pytest

from orders import steps as o
from orders.steps import StepFailed
from readside.order_view.document import document
from readside.order_view.explanation import (
    NOT_COMPLETED,
    NOT_ENDED,
    NOT_PAID,
    NOT_PLACED,
    NOT_SHIPPED,
    OUTCOME,
    Explanation,
    Urgency,
    explain,
)
from readside.order_view.view import OrderView
from readside.order_view.words import Words
from tests.support import order_fixtures as at
from tests.support.given import NOW, Given
from workflows.step_attempts import Attempts

DOWN = StepFailed(step_id="authorise-9", reason="the payment service answered 503: down.")


class _Texts(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return f"text of {key}"


def explained(scene: Given) -> Explanation:
    view = OrderView(
        "ord_1", scene.order, NOW, NOW, NOW, _Texts(decline="no funds.", hold="odd address.")
    )
    order = document(view)
    return explain(order, Words("USD", {line.line_id: line.title for line in order.lines}))


@pytest.mark.parametrize(
    ("scene", "question", "urgency", "answer"),
    [
        pytest.param(
            at.a_draft,
            NOT_PLACED,
            "rest",
            ["It is a draft, which may still change.", "It expires on 8 March 2026, 12:00 UTC."],
            id="draft",
        ),
        pytest.param(
            at.a_placed_order,
            NOT_SHIPPED,
            "progress",
            ["The stock service has to reserve pieces."],
            id="placed",
        ),
        pytest.param(
            at.a_reserved_order.having(DOWN),
            NOT_PAID,
            "attention",
            [
                (
                    "The payment service has to authorise the payment, and does not:"
                    " the payment service answered 503: down."
                ),
                "It is tried again and again by itself, and at once on `retry-step`.",
            ],
            id="stuck",
        ),
        pytest.param(
            at.a_declined_order,
            NOT_PAID,
            "decision",
            [
                "Its payment failed: no funds.",
                "The customer can pay by another method until 2 March 2026, 12:00 UTC.",
                (
                    "Without an answer, an unpaid amendment is reverted,"
                    " or else what has not left is cancelled."
                ),
            ],
            id="declined",
        ),
        pytest.param(
            at.a_short_order,
            NOT_SHIPPED,
            "decision",
            [
                "Not in stock: 1 × TUNA.",
                "The customer can accept what there is until 2 March 2026, 12:00 UTC.",
                "Without an answer, what has not left is cancelled.",
            ],
            id="short",
        ),
        pytest.param(
            at.a_booked_order,
            NOT_SHIPPED,
            "progress",
            [
                "2 booked shipments wait at EAST and WEST for the carrier.",
                "4.00 USD are authorised, and captured when their goods leave.",
            ],
            id="booked",
        ),
        pytest.param(
            at.a_half_sent_order,
            NOT_SHIPPED,
            "progress",
            [
                "A booked shipment waits at WEST for the carrier.",
                "0.20 USD are authorised, and captured when their goods leave.",
            ],
            id="half sent",
        ),
        pytest.param(
            at.a_sent_order,
            NOT_COMPLETED,
            "progress",
            ["3 pieces are on the way.", "Tracking: 1Z-BAGELS and 1Z."],
            id="sent",
        ),
        pytest.param(
            at.a_delivered_order,
            NOT_COMPLETED,
            "progress",
            [
                "It was delivered, and can be returned until 31 March 2026, 12:00 UTC.",
                "Then it is completed.",
            ],
            id="delivered",
        ),
        pytest.param(
            at.a_return_asked_for,
            NOT_COMPLETED,
            "decision",
            ["A return of 1 piece waits for approval."],
            id="return",
        ),
        pytest.param(
            at.a_return_agreed,
            NOT_COMPLETED,
            "progress",
            ["A return of 1 piece is approved, and on its way."],
            id="return agreed",
        ),
        pytest.param(
            at.a_completed_order,
            OUTCOME,
            "rest",
            ["It is completed, and 4.00 USD were paid."],
            id="completed",
        ),
        pytest.param(
            at.a_cancelling_order,
            NOT_ENDED,
            "rest",
            [
                "It is being cancelled (bought elsewhere).",
                "The shipping service has to stop a shipment; 1 more step runs beside it.",
            ],
            id="cancelling",
        ),
        pytest.param(
            at.a_cancelled_order,
            OUTCOME,
            "rest",
            ["It was cancelled (bought elsewhere).", "Nothing was captured."],
            id="cancelled",
        ),
        pytest.param(
            at.an_expired_order,
            OUTCOME,
            "rest",
            ["The draft was not placed in time."],
            id="expired",
        ),
    ],
)
def test_order_is_explained(
    scene: Given, question: str, urgency: Urgency, answer: list[str]
) -> None:
    assert explained(scene) == (question, urgency, answer)


def test_held_order_says_why() -> None:
    assert explained(at.a_held_order) == (
        NOT_SHIPPED,
        "decision",
        ["It is on hold: odd address.", "`release-order` continues it."],
    )


def test_unpaid_goods_come_before_all_else() -> None:
    sent = at.a_booked_order.having(at.bagels_leave)
    (capture,) = (key for key, step in sent.order.steps.items() if step.type == "capture")
    declined = o.PaymentRefused(step_id=capture, reason="no funds.")
    scene = sent.having(declined)
    scene = scene.having(StepFailed(step_id=next(iter(scene.order.steps)), reason="down"))
    found = explained(scene)
    assert (found.question, found.urgency) == (NOT_PAID, "attention")
    assert found.sentences[0] == "Goods were shipped, and 3.80 USD of their payment is missing."
    assert found.sentences[1] == "The payment service declined: no funds."


@pytest.mark.parametrize(
    ("tries", "said"),
    [
        (Attempts(7, NOW, "503"), "It was tried 7 times. It is tried next at 1 March 2026, 12:00"),
        (Attempts(1, None, "503"), "It was tried 1 time, and a call is under way or due."),
        (None, "It is tried again and again by itself, and at once"),
    ],
)
def test_stuck_step_says_how_often_it_was_tried(tries: Attempts | None, said: str) -> None:
    order = document(OrderView("ord_1", at.a_reserved_order.having(DOWN).order))
    known = {"authorise-9": tries} if tries else {}
    assert explain(order, Words("USD"), known).sentences[1].startswith(said)
