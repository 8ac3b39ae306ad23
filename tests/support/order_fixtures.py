"""One order at every stage, from its opening on: 4.00 USD from two warehouses."""

from __future__ import annotations

from datetime import timedelta

from orders import commands as c
from orders.commands import OrderCommand
from orders.policy import Policy
from orders.rules.deadlines import next_deadline
from orders.steps import (
    DeadlinePassed,
    Held,
    PaymentApproved,
    PaymentRefused,
    StockHeld,
)
from tests.support.given import (
    Given,
    add_bagels,
    but,
    given,
    open_order,
)

ADDRESS = "sealed.1-ELM-STREET"
LATER = timedelta(milliseconds=1)

open_with_policy = but(open_order, policy=Policy())
add_tuna = c.AddItemToOrder(  # 0.20 USD in all.
    line_id="tuna", sku="1053875", title="TUNA", quantity=1, unit_price=100, discount=80
)
place = c.PlaceOrder(payment_method="pm_visa")
cancel = c.CancelOrder(reason="bought elsewhere")
hold = c.HoldOrder(reason="the address looks odd")
address = c.SetShippingAddress(address=ADDRESS)


def bagels(quantity: int) -> list[c.LineQuantity]:
    return [c.LineQuantity(line_id="bagels", quantity=quantity)]


def tuna(quantity: int = 1) -> list[c.LineQuantity]:
    return [c.LineQuantity(line_id="tuna", quantity=quantity)]


def bagels_at(location: str, quantity: int) -> Held:
    return Held(line_id="bagels", sku="1095275", location=location, quantity=quantity)


tuna_in_the_west = Held(line_id="tuna", sku="1053875", location="WEST", quantity=1)


def passed(scene: Given) -> Given:
    """The order after its next deadline."""
    deadline = next_deadline(scene.order)
    assert deadline is not None
    message = DeadlinePassed(deadline=deadline.name, at=deadline.at)
    return scene.having(message, now=deadline.at + LATER)


# The comments are versions: they stand in the ids of steps and shipments.

# 1 to 5: 2 bagels at 3.36 USD, 1 tuna at 0.20 USD, and 0.44 USD for shipping.
a_draft = given().having(
    open_with_policy, add_bagels, add_tuna, c.SetShippingCharge(amount=44), address
)
an_expired_order = passed(a_draft)

# 6 and 7: stock is asked for.
a_placed_order = a_draft.having(place)
all_held = StockHeld(step_id="reserve-7", held=[bagels_at("EAST", 2), tuna_in_the_west])
no_tuna = StockHeld(step_id="reserve-7", held=[bagels_at("EAST", 2)])
a_short_order = a_placed_order.having(no_tuna)

# 8 and 9: all of it is there, and the money is asked for.
a_reserved_order = a_placed_order.having(all_held)
approved = PaymentApproved(step_id="authorise-9", reference="visa-1")
declined = PaymentRefused(step_id="authorise-9", reason="no funds")
a_declined_order = a_reserved_order.having(declined)

# 10 to 15: two shipments are to be booked; 16 and 17: they are.
BAGELS, TUNA = "shipment-12", "shipment-14"
a_confirmed_order = a_reserved_order.having(approved)
a_booked_order = a_confirmed_order.settled()
a_held_order = a_booked_order.having(hold)
a_cancelling_order = a_booked_order.having(cancel)
a_cancelled_order = a_cancelling_order.settled()

# 18 to 20: the bagels leave; 21 and 22: they are taken from stock, and 3.80 USD are captured.
bagels_leave = c.DispatchShipment(shipment_id=BAGELS, tracking="1Z-BAGELS")
tuna_leaves = c.DispatchShipment(shipment_id=TUNA)
a_half_sent_order = a_booked_order.having(bagels_leave).settled()

# 23 to 27: the tuna, too.
a_sent_order = a_half_sent_order.having(tuna_leaves).settled()

# 28 and 29: both arrive.
bagels_arrive = c.ConfirmDelivery(shipment_id=BAGELS)
tuna_arrives = c.ConfirmDelivery(shipment_id=TUNA)
a_delivered_order = a_sent_order.having(bagels_arrive, tuna_arrives)
a_completed_order = passed(a_delivered_order)

# 30: a bagel is to come back; 31: it may.
ask_to_return = c.RequestReturn(return_id="stale", lines=bagels(1), reason="stale")
approve = c.ApproveReturn(return_id="stale")
a_return_asked_for = a_delivered_order.having(ask_to_return)
a_return_agreed = a_return_asked_for.having(approve)

# One of each kind, none of which has been asked in any of the scenes.
NEWS: list[OrderCommand] = [
    c.OpenOrder(customer_id="901", currency="USD"),
    c.AddItemToOrder(line_id="milk", sku="995242", title="MILK", quantity=1, unit_price=100),
    c.ChangeItemQuantity(line_id="bagels", quantity=3),
    c.RemoveItemFromOrder(line_id="tuna"),
    c.ApplyDiscount(discount_id="monday", amount=1),
    c.RemoveDiscount(discount_id="welcome"),
    c.SetShippingCharge(amount=99),
    c.SetShippingAddress(address="sealed.2-OAK-STREET"),
    c.SetBillingAddress(address="sealed.2-OAK-STREET"),
    c.AddNote(note_id="bell", text="The bell is broken, knock."),
    c.PlaceOrder(payment_method="pm_other"),
    c.HoldOrder(),
    c.ReleaseOrder(),
    c.CancelOrder(),
    c.CancelLines(cancellation_id="diet", lines=bagels(1)),
    c.AcceptShortfall(),
    c.RetryPayment(method="pm_other"),
    c.CapturePayment(capture_id="early"),
    c.RefundPayment(refund_id="sorry", amount=1),
    c.CreateShipment(shipment_id="first", lines=tuna()),
    c.DispatchShipment(shipment_id=TUNA),
    c.ConfirmDelivery(shipment_id=BAGELS),
    c.ReportDeliveryFailure(shipment_id=BAGELS),
    c.AmendOrder(amendment_id="call", changes=[c.ChangeShippingCharge(amount=1)]),
    c.RequestReturn(return_id="stale", lines=bagels(1)),
    c.ApproveReturn(return_id="stale"),
    c.RejectReturn(return_id="stale"),
    c.ReceiveReturn(receipt_id="parcel", return_id="stale", lines=bagels(1), condition="damaged"),
    c.RetryStep(step_id="capture-20"),
    c.SettleStep(step_id="capture-20", outcome="done", reason="the bank says so"),
    c.ResolveDiscrepancy(discrepancy_id="unknown-shipment:ghost", reason="another shop's"),
]
