"""Callbacks of external services: their signature is verified, and each is applied once."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from api.callbacks.payloads import EVENTS, CallbackEvent
from orders.commands import OrderCommand
from orders.steps import (
    PaymentApproved,
    PaymentRefused,
    Piece,
    ShipmentArrived,
    ShipmentDeparted,
    ShipmentLost,
    StepDone,
    StepResult,
    StockLost,
)
from settings import Settings
from tests.support.api_requests import BAGELS_CENTS, BASKET, problem
from tests.support.callback_events import event, send_callback
from tests.support.servers import Running, run_api
from tests.support.service_calls import ledger
from tests.support.webhook_signing import signed_headers

NOT_AN_ORDER = {"order_id": "ord_none", "step_id": "c1"}


# Signatures


async def test_signed_callback_is_accepted(orderly: Running) -> None:
    response = await send_callback(orderly, "payments", event("payout.sent", {}))
    assert (response.status_code, response.json()) == (200, {"outcome": "ignored"})


async def test_one_valid_signature_of_several_is_enough(orderly: Running) -> None:
    body = event("payout.sent", {})
    good = signed_headers(orderly.webhook_secret, "m", time.time(), body)
    several = f"v1a,abc v1,AAAA {good['webhook-signature']} v1,é"
    accepted = await send_callback(
        orderly, "payments", body, "m", signature=several, timestamp=good["webhook-timestamp"]
    )
    assert accepted.status_code == 200


def test_signing_helper_follows_standard_webhooks() -> None:
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
    ids=lambda changes: next(iter(changes)),  # Without the time: ids must be the same in each run.
)
async def test_invalid_signature_is_rejected(
    orderly: Running, changes: dict[str, str | None]
) -> None:
    rejected = await send_callback(
        orderly, "payments", event("capture.done", NOT_AN_ORDER), **changes
    )
    problem(rejected, 401, "invalid-signature")


async def test_stale_callback_is_rejected_despite_a_valid_signature(orderly: Running) -> None:
    body = event("capture.done", NOT_AN_ORDER)
    recorded = signed_headers(orderly.webhook_secret, "m", time.time() - 301, body)
    recorded["Content-Type"] = "application/json"
    stale = await orderly.http.post("/v1/callbacks/payments", content=body, headers=recorded)
    assert "5 minutes" in problem(stale, 401, "invalid-signature")["detail"]


async def test_changed_body_is_rejected(orderly: Running) -> None:
    headers = signed_headers(orderly.webhook_secret, "m", time.time(), b"{}")
    headers["Content-Type"] = "application/json"
    changed = await orderly.http.post("/v1/callbacks/stock", content=b"{ }", headers=headers)
    problem(changed, 401, "invalid-signature")


async def test_without_a_secret_callbacks_are_rejected_with_the_name_of_the_setting(
    orderly: Running,
) -> None:
    settings = Settings(postgres_dsn=orderly.dsn, task_queue=orderly.task_queue)
    async with run_api(orderly.client, settings) as http:
        response = await send_callback(replace(orderly, http=http), "payments", b"{}")
    document = problem(response, 503, "callbacks-not-configured")
    assert "ORDERLY_WEBHOOK_SECRET" in document["detail"]


# Payloads


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
        (event("authorisation.approved", NOT_AN_ORDER | {"reference": "r\0"}), "#/data/reference"),
    ],
    ids=lambda part: part if isinstance(part, str) else "body",
)
async def test_malformed_callback_is_rejected_with_a_pointer(
    orderly: Running, body: bytes, pointer: str
) -> None:
    document = problem(await send_callback(orderly, "payments", body), 422, "malformed-request")
    assert pointer in [error["pointer"] for error in document["errors"]]


async def test_report_of_less_than_one_piece_is_rejected(orderly: Running) -> None:
    lines = [{"line_id": "a", "sku": "s", "quantity": -3}]
    body = event("shipment.dispatched", NOT_AN_ORDER | {"shipment_id": "s", "lines": lines})
    document = problem(await send_callback(orderly, "shipping", body), 422, "malformed-request")
    assert [error["pointer"] for error in document["errors"]] == ["#/data/lines/0/quantity"]


async def test_unknown_order_is_not_found(orderly: Running) -> None:
    response = await send_callback(orderly, "payments", event("capture.done", NOT_AN_ORDER))
    problem(response, 404, "unknown-order")


async def test_event_of_another_service_is_ignored(orderly: Running) -> None:
    response = await send_callback(orderly, "stock", event("capture.done", NOT_AN_ORDER))
    assert response.json() == {"outcome": "ignored"}


MILK = Piece(line_id="1", sku="MILK", quantity=2)
LOSS = {"loss_id": "l1", "line_id": "1", "location": "EAST", "quantity": 2}


@pytest.mark.parametrize(
    ("service", "type_", "data", "message"),
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
        (
            "payments",
            "capture.done",
            {"step_id": "c1"},
            StepDone(step_id="c1", operation="capture"),
        ),
        (
            "payments",
            "capture.declined",
            {"step_id": "c1", "reason": "x" * 999},
            PaymentRefused(step_id="c1", reason="x" * 200),
        ),
        ("payments", "refund.done", {"step_id": "f1"}, StepDone(step_id="f1", operation="refund")),
        ("payments", "void.done", {"step_id": "v1"}, StepDone(step_id="v1", operation="void")),
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
            ShipmentArrived(shipment_id="s"),
        ),
        (
            "shipping",
            "shipment.failed",
            {"shipment_id": "s", "reason": "the river rose", "goods": "returned"},
            ShipmentLost(shipment_id="s", reason="the river rose", goods="returned"),
        ),
        (
            "shipping",
            "shipment.failed",
            {"shipment_id": "s", "reason": " \n"},
            ShipmentLost(shipment_id="s", goods="lost"),
        ),
    ],
)
def test_each_event_becomes_one_message_to_the_order(
    service: str, type_: str, data: dict[str, Any], message: StepResult | OrderCommand
) -> None:
    callback = CallbackEvent.model_validate_json(event(type_, {"order_id": "o", "more": 1, **data}))
    payload = EVENTS[service][callback.type].model_validate(callback.data)
    assert (payload.order_id, payload.message()) == ("o", message)


# Effects


async def shipped(orderly: Running, **terms: Any) -> tuple[str, str]:
    """A new confirmed order and its only shipment, which the carrier has booked."""
    basket = {**BASKET, "lines": BASKET["lines"][:1], "place": True, **terms}
    placed = await orderly.http.post("/v1/orders", json=basket)
    assert placed.status_code == 201, placed.text
    order_id = placed.json()["order_id"]
    ((shipment_id, _),) = (await booked(orderly, order_id)).items()
    return order_id, shipment_id


async def booked(orderly: Running, order_id: str) -> dict[str, Any]:
    """The shipments of an order in the carrier's ledger, once there is one."""
    async with asyncio.timeout(30):
        while not (shipments := await ledger(orderly.simulators, "shipping", order_id)):
            await asyncio.sleep(0.05)
    found: dict[str, Any] = shipments
    return found


async def events_of(orderly: Running, order_id: str, type_: str) -> list[dict[str, Any]]:
    """The events of a type in the order's history, once there is one.

    A note is added then: what was accepted before, also if it is too much, comes before it.
    """
    path = f"/v1/orders/{order_id}"

    async def found(**query: int) -> list[dict[str, Any]]:
        history = (await orderly.http.get(f"{path}/history", params=query)).json()
        return [e for e in history.get("items", []) if e["type"] == type_]

    async with asyncio.timeout(30):
        while not await found():
            await asyncio.sleep(0.05)
    note = await orderly.http.post(f"{path}/commands/add-note", json={"text": "hi"})
    return await found(min_version=note.json()["version"])


async def read(orderly: Running, order_id: str, version: int) -> dict[str, Any]:
    """The order, once its read model has this version."""
    params = {"min_version": version}
    order: dict[str, Any] = (await orderly.http.get(f"/v1/orders/{order_id}", params=params)).json()
    return order


async def test_repeated_callback_is_applied_once(orderly: Running) -> None:
    order_id, shipment_id = await shipped(orderly)
    departure = event("shipment.dispatched", {"order_id": order_id, "shipment_id": shipment_id})
    for _ in range(3):
        response = await send_callback(orderly, "shipping", departure, message_id="msg_gone")
        assert (response.status_code, response.json()) == (200, {"outcome": "accepted"})
    (dispatched,) = await events_of(orderly, order_id, "shipment-dispatched")
    assert dispatched["actor"] == "shipping"


async def test_late_scans_out_of_order_are_both_applied(orderly: Running) -> None:
    order_id, shipment_id = await shipped(orderly)
    about = {"order_id": order_id, "shipment_id": shipment_id}
    for kind, minutes in (("shipment.delivered", 30), ("shipment.dispatched", 60)):
        late = event(kind, about, age=timedelta(minutes=minutes))
        response = await send_callback(orderly, "shipping", late)
        assert (response.status_code, response.json()) == (200, {"outcome": "accepted"})
    for type_ in ("shipment-dispatched", "shipment-delivered"):
        assert len(await events_of(orderly, order_id, type_)) == 1


async def test_report_about_an_unknown_shipment_is_recorded_once(orderly: Running) -> None:
    order_id, _ = await shipped(orderly)
    about = {"order_id": order_id, "shipment_id": "unheard-of"}
    response = await send_callback(orderly, "shipping", event("shipment.delivered", about))
    assert (response.status_code, response.json()) == (200, {"outcome": "recorded"})
    again = await send_callback(orderly, "shipping", event("shipment.delivered", about))
    assert (again.status_code, again.json()) == (200, {"outcome": "accepted"})
    (recorded,) = await events_of(orderly, order_id, "discrepancy-recorded")
    order = await read(orderly, order_id, recorded["version"])
    (attention,) = order["needs_attention"]
    assert attention["discrepancy_id"] == recorded["data"]["discrepancy_id"]

    path = f"/v1/orders/{order_id}/commands/resolve-discrepancy"
    body = {"discrepancy_id": attention["discrepancy_id"], "reason": "another shop's parcel"}
    resolved = (await orderly.http.post(path, json=body)).json()
    order = await read(orderly, order_id, resolved["version"])
    assert order["needs_attention"] == []


async def test_capture_that_is_reversed_later_is_shown_as_unpaid(orderly: Running) -> None:
    order_id, shipment_id = await shipped(orderly)
    about = {"order_id": order_id, "shipment_id": shipment_id}
    await send_callback(orderly, "shipping", event("shipment.dispatched", about))
    (captured,) = await events_of(orderly, order_id, "payment-captured")
    data = {"order_id": order_id, "step_id": captured["data"]["step_id"], "reason": "no cover"}
    response = await send_callback(orderly, "payments", event("capture.declined", data))
    assert (response.status_code, response.json()) == (200, {"outcome": "recorded"})
    (reversed_,) = await events_of(orderly, order_id, "capture-reversed")
    (recorded,) = await events_of(orderly, order_id, "discrepancy-recorded")
    order = await read(orderly, order_id, recorded["version"])
    assert order["payment"]["captured"] == 0
    amounts = {entry["kind"]: entry["amount"] for entry in order["needs_attention"]}
    assert amounts == {
        "unpaid": reversed_["data"]["amount"],
        "capture-reversed": reversed_["data"]["amount"],
    }


async def test_refund_made_at_the_provider_is_recorded(orderly: Running) -> None:
    order_id, shipment_id = await shipped(orderly)
    about = {"order_id": order_id, "shipment_id": shipment_id}
    await send_callback(orderly, "shipping", event("shipment.dispatched", about))
    await events_of(orderly, order_id, "payment-captured")
    data = {"order_id": order_id, "step_id": "made-in-the-dashboard", "amount": 10}
    for _ in range(2):
        response = await send_callback(orderly, "payments", event("refund.done", data))
        assert (response.status_code, response.json()) == (200, {"outcome": "accepted"})
    (recorded,) = await events_of(orderly, order_id, "refund-recorded")
    order = await read(orderly, order_id, recorded["version"])
    assert order["payment"]["refunded"] == 10


async def test_simulators_send_callbacks_to_orderly(orderly: Running) -> None:
    order_id, shipment_id = await shipped(orderly)
    path = f"/shipping/control/shipments/{order_id}/{shipment_id}"
    for operation in ("leave", "deliver"):
        assert (await orderly.simulators.post(f"{path}/{operation}")).status_code == 204
    (delivered,) = await events_of(orderly, order_id, "shipment-delivered")
    assert delivered["actor"] == "shipping"


async def test_carrier_receives_the_unsealed_address(
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


async def test_callback_before_the_response_is_the_same_payment(orderly: Running) -> None:
    order_id, _ = await shipped(orderly, payment_method="pm_callback_first")
    assert len(await events_of(orderly, order_id, "payment-authorised")) == 1
    assert (await ledger(orderly.simulators, "payments", order_id))["authorised"] == BAGELS_CENTS
