"""Payment, fulfilment and return status: what each stage of an order's life reads as."""

from __future__ import annotations

import pytest

from orders import commands as c
from orders.statuses import (
    FulfilmentStatus,
    PaymentStatus,
    ReturnStatus,
    cancelled_pieces,
    fulfilment_status,
    payment_status,
    return_status,
)
from orders.steps import StepDone
from tests.support.given import Given, but
from tests.support.order_fixtures import (
    BAGELS,
    TUNA,
    a_booked_order,
    a_cancelled_order,
    a_declined_order,
    a_delivered_order,
    a_half_sent_order,
    a_placed_order,
    a_return_agreed,
    a_return_asked_for,
    a_sent_order,
    a_short_order,
    bagels,
    bagels_arrive,
    bagels_leave,
    tuna,
)

it_came_back = c.ReceiveReturn(
    receipt_id="parcel", return_id="stale", lines=bagels(1), condition="sellable"
)
everything = [*bagels(2), *tuna()]
all_returned = a_delivered_order.having(
    c.RequestReturn(return_id="stale", lines=everything),
    c.ApproveReturn(return_id="stale"),
    but(it_came_back, lines=[part.model_dump() for part in everything]),
).settled()
lost = c.ReportDeliveryFailure(shipment_id=BAGELS)


@pytest.mark.parametrize(
    ("scene", "status"),
    [
        (a_placed_order, PaymentStatus.NONE),
        (a_short_order, PaymentStatus.NONE),
        (a_declined_order, PaymentStatus.DECLINED),
        (a_booked_order, PaymentStatus.AUTHORISED),
        (a_booked_order.having(bagels_leave), PaymentStatus.AUTHORISED),
        (
            a_booked_order.having(bagels_leave, StepDone(step_id="capture-20")),
            PaymentStatus.PARTLY_CAPTURED,
        ),
        (a_sent_order, PaymentStatus.CAPTURED),
        (a_sent_order.having(lost).settled(), PaymentStatus.PARTLY_REFUNDED),
        (
            a_sent_order.having(lost, but(lost, shipment_id=TUNA)).settled(),
            PaymentStatus.REFUNDED,
        ),
        (a_cancelled_order, PaymentStatus.NONE),
    ],
)
def test_payment_status(scene: Given, status: PaymentStatus) -> None:
    assert payment_status(scene.order) is status


@pytest.mark.parametrize(
    ("scene", "status"),
    [
        (a_booked_order, FulfilmentStatus.NONE),
        (a_half_sent_order, FulfilmentStatus.PARTLY_SHIPPED),
        (a_sent_order, FulfilmentStatus.SHIPPED),
        (a_sent_order.having(bagels_arrive), FulfilmentStatus.PARTLY_DELIVERED),
        (a_delivered_order, FulfilmentStatus.DELIVERED),
        (
            a_half_sent_order.having(c.CancelLines(cancellation_id="diet", lines=tuna())).settled(),
            FulfilmentStatus.SHIPPED,
        ),
        (a_cancelled_order, FulfilmentStatus.NONE),
    ],
)
def test_fulfilment_status(scene: Given, status: FulfilmentStatus) -> None:
    assert fulfilment_status(scene.order) is status


@pytest.mark.parametrize(
    ("scene", "status"),
    [
        (a_delivered_order, ReturnStatus.NONE),
        (a_return_asked_for, ReturnStatus.REQUESTED),
        (a_return_agreed, ReturnStatus.REQUESTED),
        (a_return_agreed.having(c.RejectReturn(return_id="stale")), ReturnStatus.NONE),
        (a_return_agreed.having(it_came_back), ReturnStatus.PARTLY_RETURNED),
        (all_returned, ReturnStatus.RETURNED),
    ],
)
def test_return_status(scene: Given, status: ReturnStatus) -> None:
    assert return_status(scene.order) is status


def test_cancelled_pieces_include_those_of_a_cancelled_order() -> None:
    one_off = a_booked_order.having(c.CancelLines(cancellation_id="diet", lines=bagels(1)))
    assert cancelled_pieces(one_off.order, "bagels") == 1
    assert cancelled_pieces(a_cancelled_order.order, "bagels") == 2
    assert cancelled_pieces(a_booked_order.order, "bagels") == 0
