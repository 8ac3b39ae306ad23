"""Calls to external services, and what each kind of response means for the step."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from temporalio.exceptions import ApplicationError

import telemetry
from activities.payments import Payments
from activities.service_client import (
    OUTCOME_UNKNOWN,
    SERVICE_FAILED,
    STEP_REJECTED,
    Service,
    http_client,
)
from activities.shipping import Shipping
from activities.stock import Stock
from orders.steps import (
    AnyStep,
    Authorise,
    Book,
    BookingAccepted,
    Capture,
    Held,
    PaymentApproved,
    PaymentRefused,
    Piece,
    Refund,
    Release,
    Reserve,
    Restock,
    ShipmentDeparted,
    StepDone,
    StepRequest,
    StockHeld,
    Stop,
    Void,
    Withdraw,
)
from tests.support.servers import SERVICE_TIMEOUT_SECONDS, serving
from tests.support.service_calls import ledger

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = f"00-{TRACE}-00f067aa0ba902b7-01"
MILK = Piece(line_id="1", sku="MILK", quantity=2)
ADDRESS = {"name": "Ada Lovelace", "line1": "12 St James's Square", "postal_code": "SW1Y 4JH"}


class Activities:
    """The activities over the three services, as a worker would run them."""

    def __init__(self, http: httpx.AsyncClient, url: str | None) -> None:
        def service(name: str) -> Service:
            path = None if url is None else f"{url.rstrip('/')}/{name}"
            return Service(http, f"the {name} service", f"ORDERLY_{name.upper()}_URL", path)

        self.addresses: dict[str, dict[str, Any]] = {"sealed.1": ADDRESS}
        self.payments = Payments(service("payments"))
        self.stock = Stock(service("stock"))
        self.shipping = Shipping(service("shipping"), self._unseal)

    async def _unseal(self, customer_id: str, token: str) -> dict[str, Any] | None:
        assert customer_id == "900"
        return self.addresses.get(token)


@asynccontextmanager
async def activities_at(url: str | None, seconds: float = 30) -> AsyncIterator[Activities]:
    async with http_client(seconds) as http:
        yield Activities(http, url)


@pytest.fixture
async def activities(simulators: httpx.AsyncClient) -> AsyncIterator[Activities]:
    async with activities_at(str(simulators.base_url)) as activities:
        yield activities


def request(step: AnyStep) -> StepRequest:
    return StepRequest(
        order_id="o", customer_id="900", currency="USD", step=step, traceparent=CALLER
    )


def authorise(method: str | None = None, amount: int = 1000) -> StepRequest:
    return request(Authorise(step_id="a1", amount=amount, method=method))


def book(revision: int = 1, address: str | None = None) -> StepRequest:
    step = Book(
        step_id=f"b{revision}",
        shipment_id="s",
        revision=revision,
        location="EAST",
        lines=[MILK],
        address=address,
    )
    return request(step)


# Done, or rejected with a code that settles the step


async def test_payment_is_authorised_captured_refunded_and_voided(
    activities: Activities, simulators: httpx.AsyncClient
) -> None:
    approved = await activities.payments.authorise_payment(authorise())
    assert isinstance(approved, PaymentApproved)
    assert approved.step_id == "a1"
    of = {"authorisation_id": "a1", "reference": approved.reference}
    pay = activities.payments
    for step_id in ("c1", "c1"):
        capture = request(Capture(step_id=step_id, amount=600, **of))
        assert await pay.capture_payment(capture) == StepDone(step_id="c1")
    refund = request(Refund(step_id="f1", amount=100, **of))
    assert await pay.refund_payment(refund) == StepDone(step_id="f1")
    assert await pay.void_payment(request(Void(step_id="v1", **of))) == StepDone(step_id="v1")
    too_late = await pay.capture_payment(request(Capture(step_id="c2", amount=1, **of)))
    assert too_late == PaymentRefused(
        step_id="c2", reason="1 cannot be captured: 0 is left of this authorisation"
    )
    found = await ledger(simulators, "payments", "o")
    assert (found["authorised"], found["captured"], found["refunded"]) == (0, 600, 100)


async def test_declined_payment_is_a_result(activities: Activities) -> None:
    declined = await activities.payments.authorise_payment(authorise("pm_declined"))
    assert declined == PaymentRefused(step_id="a1", reason="the card was declined")


async def test_stock_is_reserved_as_far_as_available(
    activities: Activities, simulators: httpx.AsyncClient
) -> None:
    short = Piece(line_id="2", sku="SHORT-1-TUNA", quantity=3)
    step = Reserve(step_id="r1", lines=[MILK, short])
    found = await activities.stock.reserve_stock(request(step))
    assert isinstance(found, StockHeld)
    assert [(part.sku, part.quantity) for part in found.held] == [("MILK", 2), ("SHORT-1-TUNA", 1)]

    milk, tuna = found.held
    one = milk.model_copy(update={"quantity": 1})
    stock = activities.stock
    release, withdraw = Release(step_id="l1", held=[tuna]), Withdraw(step_id="w1", held=[milk])
    assert await stock.release_stock(request(release)) == StepDone(step_id="l1")
    assert await stock.withdraw_stock(request(withdraw)) == StepDone(step_id="w1")
    restock = request(Restock(step_id="t1", held=[one]))
    assert await stock.restock(restock) == StepDone(step_id="t1")
    assert await ledger(simulators, "stock", "o") == {
        "held": {},
        "withdrawn": {"MILK": 2},
        "returned": {"MILK": 1},
        "lost": {},
    }


async def test_shipment_is_booked_stopped_or_has_departed(
    activities: Activities, simulators: httpx.AsyncClient
) -> None:
    shipping = activities.shipping
    booked = await shipping.book_shipment(book(address="sealed.1"))
    assert isinstance(booked, BookingAccepted)
    assert booked.tracking is not None
    assert (await ledger(simulators, "shipping", "o"))["s"]["has_address"]

    await simulators.post("/shipping/control/shipments/o/s/leave")
    departed = ShipmentDeparted(shipment_id="s", tracking=booked.tracking, lines=[MILK])
    stop = request(Stop(step_id="x1", shipment_id="s"))
    assert await shipping.stop_shipment(stop) == departed
    assert await shipping.book_shipment(book(revision=2)) == departed

    other = request(Stop(step_id="x2", shipment_id="unheard-of"))
    assert await shipping.stop_shipment(other) == StepDone(step_id="x2")


# Failures: retried under the same key


async def failure(call: Awaitable[object]) -> ApplicationError:
    with pytest.raises(ApplicationError) as raised:
        await call
    return raised.value


async def test_failure_is_one_sentence_and_a_retry_under_the_same_key_settles_it(
    activities: Activities, simulators: httpx.AsyncClient
) -> None:
    flapping = authorise("pm_flapping")
    for _ in range(2):
        error = await failure(activities.payments.authorise_payment(flapping))
        assert (error.type, error.non_retryable) == (SERVICE_FAILED, False)
        assert error.message == "the payments service answered 503: the service is down"
    assert isinstance(await activities.payments.authorise_payment(flapping), PaymentApproved)
    assert (await ledger(simulators, "payments", "o"))["authorised"] == 1000


async def test_retry_after_of_a_service_delays_the_retry(activities: Activities) -> None:
    error = await failure(activities.payments.authorise_payment(authorise("pm_busy")))
    assert (error.type, error.next_retry_delay) == (SERVICE_FAILED, timedelta(seconds=1))


async def test_unknown_outcome_is_settled_under_the_same_key(
    simulators: httpx.AsyncClient, activities: Activities
) -> None:
    charge = authorise("pm_timeout_after_charging")
    async with activities_at(str(simulators.base_url), SERVICE_TIMEOUT_SECONDS) as impatient:
        error = await failure(impatient.payments.authorise_payment(charge))
    assert (error.type, error.non_retryable) == (OUTCOME_UNKNOWN, False)
    assert "did not answer, so the outcome is unknown" in error.message
    async with asyncio.timeout(30):
        while not (row := await ledger(simulators, "payments", "o")):
            await asyncio.sleep(0.02)
    assert row["authorised"] == 1000
    assert isinstance(await activities.payments.authorise_payment(charge), PaymentApproved)
    assert (await ledger(simulators, "payments", "o"))["authorised"] == 1000


async def test_broken_connection_leaves_the_outcome_unknown() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with activities_at(f"http://127.0.0.1:{port}") as activities:
            error = await failure(activities.stock.reserve_stock(request(reserve())))
    assert error.type == OUTCOME_UNKNOWN


async def test_timeout_covers_the_whole_exchange_with_a_trickling_service() -> None:
    async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        try:
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            writer.close()

    async with await asyncio.start_server(trickle, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with activities_at(f"http://127.0.0.1:{port}", seconds=0.3) as activities:
            error = await failure(activities.stock.reserve_stock(request(reserve())))
        await asyncio.sleep(0.2)
    assert error.type == OUTCOME_UNKNOWN


async def test_refused_connection_is_a_failure() -> None:
    with socket.socket() as silent:  # It has the port to itself, and does not listen.
        silent.bind(("127.0.0.1", 0))
        async with activities_at("http://{}:{}".format(*silent.getsockname())) as activities:
            error = await failure(activities.payments.authorise_payment(authorise()))
    assert (error.type, error.non_retryable) == (SERVICE_FAILED, False)
    assert error.message.startswith("the payments service cannot be reached: ")


async def test_missing_url_names_its_setting() -> None:
    async with activities_at(None) as activities:
        error = await failure(activities.payments.authorise_payment(authorise()))
    assert (error.type, error.non_retryable) == (SERVICE_FAILED, False)
    assert error.message == "ORDERLY_PAYMENTS_URL is not set"


# Rejections that a retry would not change: the step is stuck


def step_rejection(error: ApplicationError) -> str:
    assert (error.type, error.non_retryable) == (STEP_REJECTED, True)
    return error.message


async def test_unexpected_rejection_leaves_the_step_stuck(activities: Activities) -> None:
    approved = await activities.payments.authorise_payment(authorise())
    assert isinstance(approved, PaymentApproved)
    refund = Refund(step_id="f1", authorisation_id="a1", reference=approved.reference, amount=1)
    error = await failure(activities.payments.refund_payment(request(refund)))
    assert step_rejection(error) == (
        "the payments service answered 422: 1 cannot be refunded: 0 is captured and not refunded"
    )


async def test_reused_key_leaves_the_step_stuck(activities: Activities) -> None:
    await activities.payments.authorise_payment(authorise(amount=1))
    error = await failure(activities.payments.authorise_payment(authorise(amount=2)))
    assert "came with another request before" in step_rejection(error)


async def test_booking_a_stopped_shipment_leaves_the_step_stuck(activities: Activities) -> None:
    await activities.shipping.stop_shipment(request(Stop(step_id="x", shipment_id="s")))
    error = await failure(activities.shipping.book_shipment(book()))
    assert step_rejection(error) == "the shipping service says that the shipment was stopped before"


async def test_erased_customer_has_no_shipping_address(activities: Activities) -> None:
    error = await failure(activities.shipping.book_shipment(book(address="sealed.erased")))
    message = step_rejection(error)
    assert message == "the customer was erased: there is no address to ship to"


# Services that break the contract


class FixedResponse:
    """A service that gives the response it is set to, and records its requests."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.response = Response()
        self.requests: list[Request] = []
        self.bodies: list[bytes] = []

        @self.app.api_route("/{path:path}", methods=["POST", "PUT"])
        async def respond(request: Request) -> Response:
            self.requests.append(request)
            self.bodies.append(await request.body())
            return self.response


@pytest.fixture
async def fixed() -> AsyncIterator[tuple[FixedResponse, Activities]]:
    service = FixedResponse()
    async with serving(service.app) as http, activities_at(str(http.base_url)) as activities:
        yield service, activities


def reserve() -> Reserve:
    return Reserve(step_id="r1", lines=[MILK])


@pytest.mark.parametrize("content", ["", "<html>", "[]", "{}", '{"reference": null}'])
async def test_unreadable_response_leaves_the_step_stuck(
    fixed: tuple[FixedResponse, Activities], content: str
) -> None:
    service, activities = fixed
    service.response = Response(content, 201)
    error = await failure(activities.payments.authorise_payment(authorise()))
    assert "the payments service gave an answer without a usable " in step_rejection(error)


@pytest.mark.parametrize(
    "part",
    [
        Held(line_id="1", sku="MILK", location="EAST", quantity=3),
        Held(line_id="2", sku="MILK", location="EAST", quantity=1),
        Held(line_id="1", sku="WINE", location="EAST", quantity=1),
        Held(line_id="1", sku="MILK", location="EAST", quantity=-1),
    ],
)
async def test_reservation_beyond_the_request_leaves_the_step_stuck(
    fixed: tuple[FixedResponse, Activities], part: Held
) -> None:
    service, activities = fixed
    service.response = Response(f'{{"held": [{part.model_dump_json()}]}}', 201)
    error = await failure(activities.stock.reserve_stock(request(reserve())))
    assert (
        step_rejection(error) == "the stock service reserved pieces that the order did not request"
    )


@pytest.mark.parametrize("piece", [{"quantity": -3}, {"line_id": ""}])
async def test_departure_with_unusable_pieces_leaves_the_step_stuck(
    fixed: tuple[FixedResponse, Activities], piece: dict[str, Any]
) -> None:
    """A negative count would ship pieces again, beyond those that were ordered."""
    service, activities = fixed
    body = {"code": "gone", "lines": [MILK.model_dump() | piece]}
    service.response = Response(json.dumps(body), 409)
    for call in (
        activities.shipping.book_shipment(book()),
        activities.shipping.stop_shipment(request(Stop(step_id="x", shipment_id="s"))),
    ):
        message = step_rejection(await failure(call))
        assert message.startswith("the shipping service gave an answer without a usable lines.0.")


async def test_blank_tracking_number_is_none(fixed: tuple[FixedResponse, Activities]) -> None:
    """It would erase the one that the order knows."""
    service, activities = fixed
    service.response = Response('{"tracking": ""}')
    assert await activities.shipping.book_shipment(book()) == BookingAccepted(step_id="b1")
    service.response = Response('{"code": "gone", "tracking": " "}', 409)
    stop = request(Stop(step_id="x", shipment_id="s"))
    assert await activities.shipping.stop_shipment(stop) == ShipmentDeparted(shipment_id="s")


TEXTS_AT_LENGTH = {"reference": 256, "tracking": 100, "location": 255}


@pytest.mark.parametrize("name", TEXTS_AT_LENGTH)
@pytest.mark.parametrize("is_too_long", [False, True])
async def test_text_that_no_event_can_have_leaves_the_step_stuck(
    fixed: tuple[FixedResponse, Activities], name: str, is_too_long: bool
) -> None:
    """Postgres stores no NUL in JSON, and finds orders by short texts only."""
    service, activities = fixed
    text = "x" * (TEXTS_AT_LENGTH[name] + 1) if is_too_long else "x\0"
    held = Held(line_id="1", sku="MILK", location=text, quantity=1).model_dump()
    stop = request(Stop(step_id="x", shipment_id="s"))
    pay, stock, shipping = activities.payments, activities.stock, activities.shipping
    calls: dict[str, list[tuple[Callable[[], Awaitable[object]], int, dict[str, Any]]]] = {
        "reference": [(lambda: pay.authorise_payment(authorise()), 201, {name: text})],
        "location": [(lambda: stock.reserve_stock(request(reserve())), 201, {"held": [held]})],
        "tracking": [
            (lambda: shipping.book_shipment(book()), 200, {name: text}),
            (lambda: shipping.book_shipment(book()), 409, {"code": "gone", name: text}),
            (lambda: shipping.stop_shipment(stop), 409, {"code": "gone", name: text}),
        ],
    }
    for call, status, body in calls[name]:
        service.response = Response(json.dumps(body), status)
        message = step_rejection(await failure(call()))
        assert message.endswith(name)


@pytest.mark.parametrize(
    ("status", "content", "reason"),
    [
        (400, "", "Bad Request"),
        (401, "not json", "Unauthorized"),
        (302, "", "Found"),
        (402, '{"code": "other"}', "other"),
        (418, '{"reason": "I\\nam a\\u0000 pot"}', "I am a pot"),
        (422, f'{{"reason": "{"x" * 500}"}}', "x" * 200),
        (499, "", "not a registered HTTP status"),
    ],
)
async def test_any_other_rejection_leaves_the_step_stuck_with_the_words_of_the_service(
    fixed: tuple[FixedResponse, Activities], status: int, content: str, reason: str
) -> None:
    service, activities = fixed
    service.response = Response(content, status)
    error = await failure(activities.payments.authorise_payment(authorise()))
    assert step_rejection(error) == f"the payments service answered {status}: {reason}"


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 504])
async def test_temporary_status_is_retried(
    fixed: tuple[FixedResponse, Activities], status: int
) -> None:
    service, activities = fixed
    service.response = Response(status_code=status)
    error = await failure(activities.payments.authorise_payment(authorise()))
    assert (error.type, error.non_retryable) == (SERVICE_FAILED, False)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        ("0", None),
        ("-1", None),
        ("soon", None),
        ("86400", 60),
        ("9" * 400, 60),
        (timedelta(seconds=40), 40),
        (timedelta(seconds=-200), None),
        (timedelta(seconds=86400), 60),
        ("Fri, 99 Foo 2026 10:00:00 GMT", None),
    ],
)
async def test_retry_after_is_limited(
    fixed: tuple[FixedResponse, Activities], header: str | timedelta, seconds: int | None
) -> None:
    service, activities = fixed
    if isinstance(header, timedelta):
        header = format_datetime(datetime.now(UTC) + header, usegmt=True)
    service.response = Response(status_code=503, headers={"Retry-After": header})
    error = await failure(activities.payments.authorise_payment(authorise()))
    if seconds is None:
        assert error.next_retry_delay is None
    else:
        assert error.next_retry_delay is not None
        assert error.next_retry_delay.total_seconds() == pytest.approx(seconds, abs=15)


async def test_response_that_may_quote_an_address_is_not_repeated(
    fixed: tuple[FixedResponse, Activities],
) -> None:
    service, activities = fixed
    for status in (422, 503):
        body = '{"code": "bad-address", "reason": "Ada Lovelace does not live there"}'
        service.response = Response(body, status)
        error = await failure(activities.shipping.book_shipment(book(address="sealed.1")))
        assert error.message == f"the shipping service answered {status}: bad-address"
    assert b"Lovelace" in service.bodies[0], "the carrier itself receives it"


async def test_path_parts_are_percent_encoded(fixed: tuple[FixedResponse, Activities]) -> None:
    service, activities = fixed
    step = Void(step_id="v", authorisation_id="a1", reference="../a/b?c#d")
    await activities.payments.void_payment(request(step))
    path = service.requests[0].scope["raw_path"].decode()
    assert path == "/payments/authorisations/..%2Fa%2Fb%3Fc%23d/void"


# Idempotency key and trace


async def test_call_carries_idempotency_key_and_trace(
    fixed: tuple[FixedResponse, Activities],
) -> None:
    service, activities = fixed
    await activities.stock.release_stock(request(Release(step_id="l1", held=[])))
    headers = service.requests[0].headers
    assert headers["Idempotency-Key"] == "o:l1"
    assert headers["traceparent"] == CALLER, "without tracing here, it is handed on unchanged"


async def test_call_is_a_span_of_the_trace_that_caused_it(
    fixed: tuple[FixedResponse, Activities], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, activities = fixed
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "TRACER", provider.get_tracer("orderly"))
    service.response = Response(status_code=503)
    await failure(activities.stock.release_stock(request(Release(step_id="l1", held=[]))))

    (span,) = exporter.get_finished_spans()
    assert (span.name, span.kind) == ("release at the stock service", trace.SpanKind.CLIENT)
    assert span.parent is not None
    assert trace.format_span_id(span.parent.span_id) in CALLER
    context = span.get_span_context()
    assert context is not None
    sent = service.requests[0].headers["traceparent"]
    assert sent == f"00-{TRACE}-{trace.format_span_id(context.span_id)}-01"
    assert span.status.status_code is trace.StatusCode.ERROR
    url = str(service.requests[0].url)
    assert dict(span.attributes or {}) == {
        "orderly.order_id": "o",
        "http.request.method": "POST",
        "url.full": url,
        "server.address": "127.0.0.1",
        "server.port": httpx.URL(url).port,
        "http.response.status_code": 503,
        "error.type": "503",
    }
