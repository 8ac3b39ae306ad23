"""The simulators keep their contract: one effect per key, durable, with injectable faults."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from standardwebhooks import Webhook

from dev.simulators import fault_injection, idempotent_service
from dev.stack.ports import free_ports
from tests.support.paths import ROOT
from tests.support.servers import SERVICE_TIMEOUT_SECONDS, run_simulators, serving
from tests.support.service_calls import (
    MILK,
    authorise,
    authorised,
    book,
    ledger,
    move,
    post,
    reserve,
)
from tests.support.webhook_signing import new_secret

SECRET = new_secret()


# One effect for each key


async def test_repeated_key_gets_the_first_response(simulators: httpx.AsyncClient) -> None:
    first = await authorise(simulators, "o")
    again = await authorise(simulators, "o")
    assert (again.status_code, again.text) == (first.status_code, first.text) == (201, first.text)

    path = first.json()["reference"]
    for _ in range(2):
        captured = await move(
            simulators, f"/payments/authorisations/{path}/captures", "o", "c", 400
        )
        assert captured.status_code == 201
    assert await ledger(simulators, "payments", "o") == {
        "currency": "USD",
        "authorised": 600,
        "captured": 400,
        "refunded": 0,
        "captures": 1,
        "refunds": 0,
    }


async def test_rejection_is_repeated_for_its_key(simulators: httpx.AsyncClient) -> None:
    path = await authorised(simulators, "o", amount=100)
    for _ in range(2):
        rejected = await move(simulators, f"{path}/captures", "o", "c1", 101)
        assert (rejected.status_code, rejected.json()["code"]) == (402, "declined")


async def test_key_with_another_body_is_rejected(simulators: httpx.AsyncClient) -> None:
    await authorise(simulators, "o", amount=1)
    other = await authorise(simulators, "o", amount=2)
    assert (other.status_code, other.json()["code"]) == (422, "key-reused")


async def test_key_is_required_and_errors_quote_no_values(
    simulators: httpx.AsyncClient,
) -> None:
    without = await simulators.post("/payments/authorisations", json={"customer_id": "Ada"})
    assert (without.status_code, without.json()["code"]) == (422, "malformed")
    assert "idempotency-key" in without.json()["reason"]
    assert "Ada" not in without.text


async def test_concurrent_requests_with_one_key_have_one_effect(
    simulators: httpx.AsyncClient,
) -> None:
    responses = await asyncio.gather(*(reserve(simulators, "o", MILK) for _ in range(10)))
    assert len({response.text for response in responses}) == 1
    assert (await ledger(simulators, "stock", "o"))["held"] == {"MILK": 2}


# Payments


async def test_captures_and_refunds_are_limited_by_the_authorisation(
    simulators: httpx.AsyncClient,
) -> None:
    path = await authorised(simulators, "o", amount=1000)
    assert (await move(simulators, f"{path}/captures", "o", "c1", 700)).status_code == 201
    assert (await move(simulators, f"{path}/captures", "o", "c2", 301)).status_code == 402
    assert (await move(simulators, f"{path}/refunds", "o", "r1", 701)).status_code == 422
    assert (await move(simulators, f"{path}/refunds", "o", "r2", 700)).status_code == 201
    assert (await move(simulators, f"{path}/refunds", "o", "r3", 1)).status_code == 422
    assert (await move(simulators, f"{path}/void", "o", "v")).status_code == 200
    assert (await move(simulators, f"{path}/captures", "o", "c3", 1)).status_code == 402
    unknown = await move(simulators, "/payments/authorisations/none/void", "o", "v2")
    assert unknown.status_code == 404
    assert await ledger(simulators, "payments", "o") == {
        "currency": "USD",
        "authorised": 0,
        "captured": 700,
        "refunded": 700,
        "captures": 1,
        "refunds": 1,
    }


# Stock


async def test_concurrent_reservations_hold_no_piece_twice(simulators: httpx.AsyncClient) -> None:
    line = {"line_id": "1", "sku": "SHORT-7-MILK", "quantity": 2}
    responses = await asyncio.gather(
        *(reserve(simulators, f"o{n}", line, step_id="r") for n in range(10))
    )
    held = [sum(part["quantity"] for part in response.json()["held"]) for response in responses]
    assert sorted(held, reverse=True) == [2, 2, 2, 1, 0, 0, 0, 0, 0, 0]


async def test_pieces_are_reserved_withdrawn_released_and_returned(
    simulators: httpx.AsyncClient,
) -> None:
    held = (await reserve(simulators, "o", MILK)).json()["held"]

    async def moved(path: str, pieces: int, step_id: str) -> int:
        parts = [held[0] | {"quantity": pieces}]
        body = {"order_id": "o", "step_id": step_id, "held": parts}
        return (await post(simulators, f"/stock/{path}", body, step_id)).status_code

    assert await moved("withdrawals", 1, "w") == 200
    assert await moved("releases", 2, "l1") == 422, "only one is still held"
    assert await moved("releases", 1, "l2") == 200
    assert await moved("returns", 2, "t1") == 422, "only one has left"
    assert await moved("returns", 1, "t2") == 200
    document = (await simulators.get("/stock/control/books")).json()
    assert document["orders"]["o"] == {
        "held": {},
        "withdrawn": {"MILK": 1},
        "returned": {"MILK": 1},
        "lost": {},
    }
    (level,) = document["shelves"]["MILK"].values()
    assert level == {
        "free": fault_injection.DEFAULT_STOCK,
        "on_hand": fault_injection.DEFAULT_STOCK,
    }


async def test_rejected_withdrawal_changes_nothing(simulators: httpx.AsyncClient) -> None:
    held = (await reserve(simulators, "o", MILK)).json()["held"]
    body = {"order_id": "o", "step_id": "w", "held": [*held, held[0]]}
    rejected = await post(simulators, "/stock/withdrawals", body, "w")
    assert (rejected.status_code, rejected.json()["code"]) == (422, "not-held")
    assert (await ledger(simulators, "stock", "o"))["held"] == {"MILK": 2}


async def test_stock_level_of_two_locations_can_be_set(simulators: httpx.AsyncClient) -> None:
    many = [{"line_id": str(n), "sku": f"SKU-{n}", "quantity": 1} for n in range(20)]
    held = (await reserve(simulators, "o1", *many)).json()["held"]
    assert {part["location"] for part in held} == set(fault_injection.LOCATIONS)

    for location in fault_injection.LOCATIONS:
        path = f"/stock/control/shelves/MILK/{location}"
        assert (await simulators.put(path, json={"free": 1})).status_code == 204
    held = (await reserve(simulators, "o2", MILK | {"quantity": 3})).json()["held"]
    assert [(part["location"], part["quantity"]) for part in held] == [("EAST", 1), ("WEST", 1)]


# Shipping


async def test_highest_booking_revision_wins(simulators: httpx.AsyncClient) -> None:
    assert (await book(simulators, "o/s", revision=2)).status_code == 200
    late = await book(simulators, "o/s", revision=1)
    assert late.status_code == 200, "it gets the current booking"
    shipment = (await ledger(simulators, "shipping", "o"))["s"]
    assert (shipment["revision"], shipment["lines"][0]["quantity"]) == (2, 2)
    assert late.json()["tracking"] == shipment["tracking"]


async def test_shipment_leaves_or_is_stopped_but_never_both(
    simulators: httpx.AsyncClient,
) -> None:
    await book(simulators, "o/s")
    stop = {"step_id": "x"}
    responses = await asyncio.gather(
        simulators.post("/shipping/control/shipments/o/s/leave"),
        post(simulators, "/shipping/shipments/o/s/stop", stop),
    )
    assert sorted(r.status_code // 100 for r in responses) == [2, 4]

    await book(simulators, "o/left")
    await simulators.post("/shipping/control/shipments/o/left/leave")
    for response in (
        await post(simulators, "/shipping/shipments/o/left/stop", stop, "k2"),
        await book(simulators, "o/left", revision=2),
    ):
        assert (response.status_code, response.json()["code"]) == (409, "gone")
        assert response.json()["lines"] == [MILK | {"quantity": 1}]
        assert response.json()["tracking"].startswith("TRACK-")


async def test_stop_also_stops_a_later_booking(simulators: httpx.AsyncClient) -> None:
    stopped = await post(simulators, "/shipping/shipments/o/s/stop", {"step_id": "x"})
    assert stopped.status_code == 200
    late = await book(simulators, "o/s")
    assert (late.status_code, late.json()["code"]) == (409, "stopped")


async def test_address_is_not_stored(simulators: httpx.AsyncClient, tmp_path: Path) -> None:
    assert (await book(simulators, "o/s", postal_code="SW1Y 4JH")).status_code == 200
    assert (await ledger(simulators, "shipping", "o"))["s"]["has_address"]
    stored = "".join(sqlite3.connect(tmp_path / "simulators.db").iterdump())
    assert "TRACK-" in stored
    assert "Lovelace" not in stored
    assert "SW1Y" not in stored


# Faults


@pytest.mark.parametrize(
    ("method", "statuses"),
    [
        (None, [201]),
        ("pm_card", [201]),
        ("pm_declined", [402, 402]),
        ("pm_flapping", [503, 503, 201]),
        ("pm_busy", [429, 201]),
        ("pm_down", [503, 503, 503]),
    ],
)
async def test_magic_payment_methods_select_the_response(
    simulators: httpx.AsyncClient, method: str | None, statuses: list[int]
) -> None:
    responses = [await authorise(simulators, "o", method=method) for _ in statuses]
    assert [response.status_code for response in responses] == statuses
    assert all(a.headers["Retry-After"] == "1" for a in responses if a.status_code == 429)


async def test_declined_once_approves_the_second_authorisation(
    simulators: httpx.AsyncClient,
) -> None:
    responses = [await authorise(simulators, "o", method="pm_declined_once", n=n) for n in (1, 2)]
    assert [response.status_code for response in responses] == [402, 201]


@pytest.mark.parametrize(
    ("method", "status", "amount"),
    [("pm_timeout_after_charging", 201, 1000), ("pm_declined_late", 402, 0)],
)
async def test_effect_without_a_response_happens_once(
    simulators: httpx.AsyncClient, method: str, status: int, amount: int
) -> None:
    timeout = simulators.timeout
    simulators.timeout = httpx.Timeout(60, read=SERVICE_TIMEOUT_SECONDS)
    with pytest.raises(httpx.ReadTimeout):
        await authorise(simulators, "o", method=method)
    simulators.timeout = timeout
    async with asyncio.timeout(30):
        while not (row := await ledger(simulators, "payments", "o")):
            await asyncio.sleep(0.02)
    assert row["authorised"] == amount
    assert (await authorise(simulators, "o", method=method)).status_code == status
    assert (await ledger(simulators, "payments", "o"))["authorised"] == amount


@pytest.mark.parametrize("order_id", ["o", None])
async def test_service_recovers_for_one_order_or_all(
    simulators: httpx.AsyncClient, order_id: str | None
) -> None:
    path = await authorised(simulators, "o", method="pm_refund_down")
    assert (await move(simulators, f"{path}/captures", "o", "c", 500)).status_code == 201
    assert (await move(simulators, f"{path}/refunds", "o", "r", 500)).status_code == 503
    assert (await book(simulators, "o/s", postal_code="00000")).status_code == 503
    for service in ("payments", "shipping"):
        await simulators.post(f"/{service}/control/recover", json={"order_id": order_id})
    assert (await move(simulators, f"{path}/refunds", "o", "r", 500)).status_code == 201
    assert (await book(simulators, "o/s", postal_code="00000")).status_code == 200
    expected = 200 if order_id is None else 503
    assert (await book(simulators, "other/s", postal_code="00000")).status_code == expected


async def test_capture_of_an_approved_payment_can_be_declined(
    simulators: httpx.AsyncClient,
) -> None:
    path = await authorised(simulators, "o", method="pm_capture_declined")
    assert (await move(simulators, f"{path}/captures", "o", "c", 1)).status_code == 402


async def test_slow_operation_is_slow_once_per_key(
    simulators: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = time.monotonic()
    slow = {"line_id": "1", "sku": "SLOWSTOCK-MILK", "quantity": 1}
    responses = await asyncio.gather(
        authorise(simulators, "o", method="pm_slow"), reserve(simulators, "o", slow)
    )
    assert all(response.is_success for response in responses)
    assert time.monotonic() - started >= 2
    monkeypatch.setattr(idempotent_service, "SLOW_S", 3600)
    assert (await authorise(simulators, "o", method="pm_slow")).is_success


@pytest.mark.parametrize(
    ("sku", "statuses", "pieces"),
    [
        ("GONE-MILK", [201], 0),
        ("SHORT-3-MILK", [201], 3),
        ("FLAPSTOCK-MILK", [503, 503, 201], 5),
        ("DOWNSTOCK-MILK", [503, 503, 503], None),
    ],
)
async def test_magic_skus_limit_stock(
    simulators: httpx.AsyncClient, sku: str, statuses: list[int], pieces: int | None
) -> None:
    line = {"line_id": "1", "sku": sku, "quantity": 5}
    responses = [await reserve(simulators, "o", line) for _ in statuses]
    assert [response.status_code for response in responses] == statuses
    if pieces is not None:
        assert sum(part["quantity"] for part in responses[-1].json()["held"]) == pieces


async def test_flapping_carrier_fails_twice_then_books(simulators: httpx.AsyncClient) -> None:
    responses = [await book(simulators, "o/s", postal_code="00001") for _ in range(3)]
    assert [response.status_code for response in responses] == [503, 503, 200]


def test_docs_list_the_same_magic_values() -> None:
    document = (ROOT / "docs" / "contracts.md").read_text().partition("## Magic values")[2]
    listed = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", document, re.MULTILINE))
    assert (
        listed
        == fault_injection.PAYMENT_METHODS
        | fault_injection.SKU_PREFIXES
        | fault_injection.POSTAL_CODES
    )


async def test_each_service_has_its_own_openapi_document(simulators: httpx.AsyncClient) -> None:
    for service, paths in {
        "payments": {"/authorisations", "/authorisations/{reference}/captures"},
        "stock": {"/reservations", "/releases", "/withdrawals", "/returns"},
        "shipping": {"/shipments/{order_id}/{shipment_id}"},
    }.items():
        document = (await simulators.get(f"/{service}/openapi.json")).json()
        assert document["openapi"].startswith("3.")
        assert paths <= set(document["paths"])
        text = json.dumps(document)
        for reference in re.findall(r'"\$ref": "#/([^"]+)"', text):
            found: Any = document
            for step in reference.split("/"):
                found = found[step]
        for path, operations in document["paths"].items():
            for operation in operations.values():
                assert (operation.get("tags") == ["control"]) == path.startswith("/control/")


# Durability


async def test_killed_process_loses_nothing(tmp_path: Path) -> None:
    responses = []
    for _ in range(2):
        async with process(tmp_path) as http:
            responses.append(
                [
                    await authorise(http, "o"),
                    await reserve(http, "o", MILK),
                    await book(http, "o/s"),
                    await authorise(http, "flaps", method="pm_flapping"),
                ]
            )
    before, after = ([(a.status_code, a.text) for a in some] for some in responses)
    assert before == after
    async with run_simulators(tmp_path) as http:
        assert (await ledger(http, "payments", "o"))["authorised"] == 1000
        assert (await ledger(http, "stock", "o"))["held"] == {"MILK": 2}
        flapped = await authorise(http, "flaps", method="pm_flapping")
        assert flapped.status_code == 201, "attempts are counted across restarts"


@asynccontextmanager
async def process(folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The simulators in their own process, which is killed at the end."""
    (port,) = free_ports({"--port": 0})
    command = [sys.executable, "-m", "cli", "simulators", "--port", str(port)]
    command += ["--database", str(folder / "simulators.db")]
    running = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            async with asyncio.timeout(60):
                while not await is_healthy(http):
                    await asyncio.sleep(0.05)
            yield http
    finally:
        running.kill()
        await running.wait()


async def is_healthy(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/healthz")).is_success
    except httpx.TransportError:
        return False


# Callbacks


class Listener:
    """Receives callbacks; rejects the first `rejects` of them."""

    def __init__(self, rejects: int = 0) -> None:
        self.app = FastAPI()
        self.received: list[tuple[str, dict[str, Any]]] = []
        self.message_ids: list[str] = []
        self._rejects = rejects

        @self.app.post("/callbacks/{service}")
        async def listen(request: Request, service: str) -> Response:
            body = await request.body()
            headers = dict(request.headers)
            Webhook(SECRET).verify(body, headers, json_parse=False)
            self.message_ids.append(headers["webhook-id"])
            if len(self.message_ids) <= self._rejects:
                return Response(status_code=503)
            self.received.append((service, json.loads(body)))
            return Response(status_code=204)

    async def wait_for(self, count: int) -> list[tuple[str, dict[str, Any]]]:
        async with asyncio.timeout(30):
            while len(self.received) < count:
                await asyncio.sleep(0.02)
        return self.received


@asynccontextmanager
async def simulators_with_callbacks(
    listener: Listener, folder: Path
) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serving(listener.app) as http,
        run_simulators(folder, f"{http.base_url}/callbacks", SECRET) as simulators,
    ):
        yield simulators


async def test_callbacks_report_events_in_order(tmp_path: Path) -> None:
    listener = Listener()
    async with simulators_with_callbacks(listener, tmp_path) as simulators:
        await book(simulators, "o/s")
        for action in ("leave", "deliver"):
            path = f"/shipping/control/shipments/o/s/{action}"
            assert (await simulators.post(path)).status_code == 204
        again = await simulators.post("/shipping/control/shipments/o/s/deliver")
        assert again.status_code == 409
        await book(simulators, "o2/s")
        await simulators.post("/shipping/control/shipments/o2/s/leave")
        failed = {"reason": "the river rose", "goods": "returned"}
        await simulators.post("/shipping/control/shipments/o2/s/fail", json=failed)
        held = (await reserve(simulators, "o", MILK)).json()["held"][0]
        loss = {"order_id": "o", "loss_id": "l1", "line_id": "1", "quantity": 1}
        loss["location"] = held["location"]
        assert (await simulators.post("/stock/control/losses", json=loss)).status_code == 204
        impossible = {**loss, "quantity": 2}
        assert (await simulators.post("/stock/control/losses", json=impossible)).status_code == 422
        await listener.wait_for(5)

    reported = {
        (service, body["type"], body["data"]["order_id"]): body
        for service, body in listener.received
    }
    assert len(reported) == 5
    dispatched = reported["shipping", "shipment.dispatched", "o"]["data"]
    assert dispatched.pop("tracking").startswith("TRACK-")
    assert dispatched == {
        "order_id": "o",
        "shipment_id": "s",
        "lines": [MILK | {"quantity": 1}],
    }
    assert reported["shipping", "shipment.failed", "o2"]["data"] == {
        "order_id": "o2",
        "shipment_id": "s",
        **failed,
    }
    assert reported["stock", "stock.lost", "o"]["data"] == loss
    types = [body["type"] for _, body in listener.received if body["data"]["order_id"] == "o"]
    assert types.index("shipment.dispatched") < types.index("shipment.delivered")


async def test_callback_is_sent_until_accepted_even_after_a_restart(tmp_path: Path) -> None:
    async with run_simulators(tmp_path) as simulators:
        await book(simulators, "o/s")
        await simulators.post("/shipping/control/shipments/o/s/leave")
    listener = Listener(rejects=2)
    async with simulators_with_callbacks(listener, tmp_path) as simulators:
        await simulators.post("/shipping/control/shipments/o/s/deliver")
        await listener.wait_for(2)
    types = [body["type"] for _, body in listener.received]
    assert types == ["shipment.dispatched", "shipment.delivered"]
    *dispatched, delivered = listener.message_ids
    assert len(dispatched) == 3
    assert len(set(dispatched)) == 1, "each attempt must have the same message id"
    assert delivered not in dispatched


async def test_callback_can_precede_the_response(tmp_path: Path) -> None:
    listener = Listener()
    async with simulators_with_callbacks(listener, tmp_path) as simulators:
        path = await authorised(simulators, "o", method="pm_callback_first")
        assert [body["type"] for _, body in listener.received] == ["authorisation.approved"]
        await move(simulators, f"{path}/captures", "o", "c", 400)
        await move(simulators, f"{path}/captures", "o", "c2", 4000)
        await move(simulators, f"{path}/refunds", "o", "r", 400)
        await move(simulators, f"{path}/void", "o", "v")
        await authorised(simulators, "o2", method="pm_card")
    assert [(body["type"], body["data"].get("step_id")) for _, body in listener.received[1:]] == [
        ("capture.done", "c"),
        ("capture.declined", "c2"),
        ("refund.done", "r"),
        ("void.done", "v"),
    ]
