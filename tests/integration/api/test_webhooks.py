"""What other services tell unasked: believed only if signed, counted once, and made sense of."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from api.webhooks.payloads import EVENTS, CallbackEvent
from orders.commands import ConfirmDelivery, OrderCommand, ReportDeliveryFailure
from orders.steps import (
    PaymentApproved,
    PaymentRefused,
    Piece,
    ShipmentDeparted,
    StepDone,
    StepResult,
    StockLost,
)
from settings import Settings
from tests.support.api_requests import BAGELS_CENTS, BASKET, problem
from tests.support.servers import Running, run_api
from tests.support.service_calls import ledger
from tests.support.webhook_events import event, tell
from tests.support.webhook_signing import signed_headers

NOT_AN_ORDER = {"order_id": "ord_none", "step_id": "c1"}


# Who may


async def test_what_is_signed_is_believed(orderly: Running) -> None:
    answer = await tell(orderly, "payments", event("payout.sent", {}))
    assert (answer.status_code, answer.json()) == (200, {"outcome": "ignored"})


async def test_one_good_signature_of_several_is_enough(orderly: Running) -> None:
    body = event("payout.sent", {})
    good = signed_headers(orderly.webhook_secret, "m", time.time(), body)
    several = f"v1a,abc v1,AAAA {good['webhook-signature']} v1,é"
    accepted = await tell(
        orderly, "payments", body, "m", signature=several, timestamp=good["webhook-timestamp"]
    )
    assert accepted.status_code == 200


def test_the_tests_sign_as_standard_webhooks_specifies() -> None:
    headers = signed_headers(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    "changes",
    [
        {"signature": "v1,bm90IHRoZSBzaWduYXR1cmU="},
        {"signature": "nonsense"},
        {"signature": "v1,é"},
        {"signature": "v1,A"},
        {"signature": None},
        {"signature": ""},
        {"id": "another"},
        {"id": None},
        {"id": "x" * 300},
        {"timestamp": str(int(time.time()) - 3600)},
        {"timestamp": str(int(time.time()) + 3600)},
        {"timestamp": str(int(time.time()) - 10)},
        {"timestamp": "9" * 400},
        {"timestamp": "yesterday"},
        {"timestamp": None},
    ],
    ids=lambda changes: next(iter(changes)),  # Without the time: each run must name them alike.
)
async def test_what_is_not_signed_is_not_believed(
    orderly: Running, changes: dict[str, str | None]
) -> None:
    refused = await tell(orderly, "payments", event("capture.done", NOT_AN_ORDER), **changes)
    problem(refused, 401, "invalid-signature")


async def test_a_stale_message_is_not_believed_however_well_it_is_signed(orderly: Running) -> None:
    body = event("capture.done", NOT_AN_ORDER)
    recorded = signed_headers(orderly.webhook_secret, "m", time.time() - 301, body)
    recorded["Content-Type"] = "application/json"
    stale = await orderly.http.post("/v1/callbacks/payments", content=body, headers=recorded)
    assert "5 minutes" in problem(stale, 401, "invalid-signature")["detail"]


async def test_a_changed_body_is_not_believed(orderly: Running) -> None:
    headers = signed_headers(orderly.webhook_secret, "m", time.time(), b"{}")
    headers["Content-Type"] = "application/json"
    changed = await orderly.http.post("/v1/callbacks/stock", content=b"{ }", headers=headers)
    problem(changed, 401, "invalid-signature")


async def test_without_a_secret_nothing_is_believed_and_the_setting_is_named(
    orderly: Running,
) -> None:
    settings = Settings(postgres_dsn=orderly.dsn, task_queue=orderly.task_queue)
    async with run_api(orderly.client, settings) as http:
        answer = await tell(replace(orderly, http=http), "payments", b"{}")
    document = problem(answer, 503, "callbacks-not-configured")
    assert "ORDERLY_WEBHOOK_SECRET" in document["detail"]


# What is said


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"", "#"),
        (b"{", "#"),
        (b"[]", "#"),
        (b'{"type": "capture.done", "data": {}}', "#/timestamp"),
        (b'{"type": "x", "timestamp": "2026-01-01T00:00:00", "data": {}}', "#/timestamp"),
        (event("capture.done", {"order_id": "o"}), "#/data/step_id"),
        (event("capture.done", {"order_id": "o/../p", "step_id": "c"}), "#/data/order_id"),
        (event("authorisation.approved", NOT_AN_ORDER | {"reference": ""}), "#/data/reference"),
    ],
    ids=lambda part: part if isinstance(part, str) else "body",
)
async def test_a_mistake_is_pointed_at(orderly: Running, body: bytes, pointer: str) -> None:
    document = problem(await tell(orderly, "payments", body), 422, "malformed-request")
    assert pointer in [error["pointer"] for error in document["errors"]]


async def test_an_unknown_order_is_not_found(orderly: Running) -> None:
    answer = await tell(orderly, "payments", event("capture.done", NOT_AN_ORDER))
    problem(answer, 404, "unknown-order")


async def test_an_event_of_another_party_is_ignored(orderly: Running) -> None:
    answer = await tell(orderly, "stock", event("capture.done", NOT_AN_ORDER))
    assert answer.json() == {"outcome": "ignored"}


MILK = Piece(line_id="1", sku="MILK", quantity=2)
LOSS = {"loss_id": "l1", "line_id": "1", "location": "EAST", "quantity": 2}


@pytest.mark.parametrize(
    ("party", "type_", "data", "message"),
    [
        (
            "payments",
            "authorisation.approved",
            {"authorisation_id": "a1", "reference": "auth/1"},
            PaymentApproved(step_id="a1", reference="auth/1"),
        ),
        (
            "payments",
            "authorisation.declined",
            {"authorisation_id": "a1", "reason": "no\nfunds\x00"},
            PaymentRefused(step_id="a1", reason="no funds"),
        ),
        ("payments", "capture.done", {"step_id": "c1"}, StepDone(step_id="c1")),
        (
            "payments",
            "capture.declined",
            {"step_id": "c1", "reason": "x" * 999},
            PaymentRefused(step_id="c1", reason="x" * 200),
        ),
        ("payments", "refund.done", {"step_id": "f1"}, StepDone(step_id="f1")),
        ("payments", "void.done", {"step_id": "v1"}, StepDone(step_id="v1")),
        ("stock", "stock.lost", LOSS, StockLost.model_validate(LOSS)),
        (
            "shipping",
            "shipment.dispatched",
            {"shipment_id": "s", "tracking": "T1", "lines": [MILK.model_dump()]},
            ShipmentDeparted(shipment_id="s", tracking="T1", lines=[MILK]),
        ),
        (
            "shipping",
            "shipment.dispatched",
            {"shipment_id": "s"},
            ShipmentDeparted(shipment_id="s"),
        ),
        (
            "shipping",
            "shipment.delivered",
            {"shipment_id": "s"},
            ConfirmDelivery(shipment_id="s"),
        ),
        (
            "shipping",
            "shipment.failed",
            {"shipment_id": "s", "reason": "the river rose", "goods": "returned"},
            ReportDeliveryFailure(shipment_id="s", reason="the river rose", goods="returned"),
        ),
        (
            "shipping",
            "shipment.failed",
            {"shipment_id": "s", "reason": " \n"},
            ReportDeliveryFailure(shipment_id="s", goods="lost"),
        ),
    ],
)
def test_each_event_means_one_thing_to_an_order(
    party: str, type_: str, data: dict[str, Any], message: StepResult | OrderCommand
) -> None:
    told = CallbackEvent.model_validate_json(event(type_, {"order_id": "o", "more": 1, **data}))
    understood = EVENTS[party][told.type].model_validate(told.data)
    assert (understood.order_id, understood.message()) == ("o", message)


# What becomes of it


async def shipped(orderly: Running, **terms: Any) -> tuple[str, str]:
    """A new order, confirmed, and its one shipment, which the carrier has taken on."""
    basket = {**BASKET, "lines": BASKET["lines"][:1], "place": True, **terms}
    placed = await orderly.http.post("/v1/orders", json=basket)
    assert placed.status_code == 201, placed.text
    order_id = placed.json()["order_id"]
    ((shipment_id, _),) = (await booked(orderly, order_id)).items()
    return order_id, shipment_id


async def booked(orderly: Running, order_id: str) -> dict[str, Any]:
    """The shipments of an order in the carrier's books, at least one."""
    async with asyncio.timeout(30):
        while not (shipments := await ledger(orderly.simulators, "shipping", order_id)):
            await asyncio.sleep(0.05)
    found: dict[str, Any] = shipments
    return found


async def events_of(orderly: Running, order_id: str, type_: str) -> list[dict[str, Any]]:
    """Of a type, the events in the order's history, at least one."""
    async with asyncio.timeout(30):
        while True:
            history = (await orderly.http.get(f"/v1/orders/{order_id}/history")).json()
            if found := [e for e in history.get("items", []) if e["type"] == type_]:
                return found
            await asyncio.sleep(0.05)


async def test_a_repeated_delivery_counts_once(orderly: Running) -> None:
    order_id, shipment_id = await shipped(orderly)
    gone = event("shipment.dispatched", {"order_id": order_id, "shipment_id": shipment_id})
    for _ in range(3):
        answer = await tell(orderly, "shipping", gone, message_id="msg_gone")
        assert (answer.status_code, answer.json()) == (200, {"outcome": "accepted"})
    (dispatched,) = await events_of(orderly, order_id, "shipment-dispatched")
    assert dispatched["actor"] == "shipping"


async def test_what_overtook_another_event_is_worth_sending_again_while_it_is_young(
    orderly: Running,
) -> None:
    order_id, shipment_id = await shipped(orderly)
    about = {"order_id": order_id, "shipment_id": shipment_id}
    early = event("shipment.delivered", about)
    refused = await tell(orderly, "shipping", early, message_id="msg_early")
    assert refused.status_code == 409, refused.text

    await tell(orderly, "shipping", event("shipment.dispatched", about))
    again = await tell(orderly, "shipping", early, message_id="msg_early")
    assert (again.status_code, again.json()) == (200, {"outcome": "accepted"})
    assert len(await events_of(orderly, order_id, "shipment-delivered")) == 1


async def test_what_is_refused_for_long_need_not_be_sent_again(orderly: Running) -> None:
    order_id, _ = await shipped(orderly)
    about = {"order_id": order_id, "shipment_id": "unheard-of"}
    young = await tell(orderly, "shipping", event("shipment.delivered", about))
    problem(young, 409, "unknown-id")
    old = await tell(
        orderly, "shipping", event("shipment.delivered", about, age=timedelta(minutes=11))
    )
    assert (old.status_code, old.json()) == (200, {"outcome": "rejected", "code": "unknown-id"})


async def test_simulators_send_callbacks_to_orderly(orderly: Running) -> None:
    order_id, shipment_id = await shipped(orderly)
    path = f"/shipping/control/shipments/{order_id}/{shipment_id}"
    for happening in ("leave", "deliver"):
        assert (await orderly.simulators.post(f"{path}/{happening}")).status_code == 204
    (delivered,) = await events_of(orderly, order_id, "shipment-delivered")
    assert delivered["actor"] == "shipping"


async def test_the_carrier_is_told_the_address_that_is_sealed_everywhere_else(
    orderly: Running,
) -> None:
    address = {
        "name": "Ada Lovelace",
        "line1": "12 St James's Square",
        "postal_code": "SW1Y 4JH",
        "city": "London",
        "country": "GB",
    }
    order_id, shipment_id = await shipped(orderly, shipping_address=address)
    assert (await booked(orderly, order_id))[shipment_id]["has_address"]


async def test_a_callback_before_the_answer_is_the_same_payment(orderly: Running) -> None:
    order_id, _ = await shipped(orderly, payment_method="pm_callback_first")
    assert len(await events_of(orderly, order_id, "payment-authorised")) == 1
    assert (await ledger(orderly.simulators, "payments", order_id))["authorised"] == BAGELS_CENTS
