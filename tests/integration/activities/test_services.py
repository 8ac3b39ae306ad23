"""What an order asks of other services, and what it makes of each kind of answer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable
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
from activities.service_client import FAILED, OUTCOME_UNKNOWN, REFUSED_STEP, Service, connected
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


class Outside:
    """The three parties, as a worker would reach them."""

    def __init__(self, http: httpx.AsyncClient, url: str | None) -> None:
        def service(party: str) -> Service:
            path = None if url is None else f"{url.rstrip('/')}/{party}"
            return Service(http, f"the {party} service", f"{party.upper()}_URL", path)

        self.addresses: dict[str, dict[str, Any]] = {"sealed.1": ADDRESS}
        self.payments = Payments(service("payments"))
        self.stock = Stock(service("stock"))
        self.shipping = Shipping(service("shipping"), self._unseal)

    async def _unseal(self, customer_id: str, token: str) -> dict[str, Any] | None:
        assert customer_id == "900"
        return self.addresses.get(token)


@asynccontextmanager
async def reaching(url: str | None, seconds: float = 2) -> AsyncIterator[Outside]:
    async with connected(seconds) as http:
        yield Outside(http, url)


@pytest.fixture
async def outside(simulators: httpx.AsyncClient) -> AsyncIterator[Outside]:
    async with reaching(str(simulators.base_url)) as outside:
        yield outside


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


# Done, or refused for a reason that the order can go on with


async def test_money_is_authorised_captured_refunded_and_given_up(
    outside: Outside, simulators: httpx.AsyncClient
) -> None:
    approved = await outside.payments.authorise_payment(authorise())
    assert isinstance(approved, PaymentApproved)
    assert approved.step_id == "a1"
    of = {"authorisation_id": "a1", "reference": approved.reference}
    pay = outside.payments
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


async def test_a_declined_payment_is_an_answer(outside: Outside) -> None:
    declined = await outside.payments.authorise_payment(authorise("pm_declined"))
    assert declined == PaymentRefused(step_id="a1", reason="the card was declined")


async def test_stock_is_held_as_far_as_there_is_any(
    outside: Outside, simulators: httpx.AsyncClient
) -> None:
    short = Piece(line_id="2", sku="SHORT-1-TUNA", quantity=3)
    step = Reserve(step_id="r1", lines=[MILK, short])
    found = await outside.stock.reserve_stock(request(step))
    assert isinstance(found, StockHeld)
    assert [(part.sku, part.quantity) for part in found.held] == [("MILK", 2), ("SHORT-1-TUNA", 1)]

    milk, tuna = found.held
    one = milk.model_copy(update={"quantity": 1})
    stock = outside.stock
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


async def test_a_shipment_is_booked_stopped_or_gone(
    outside: Outside, simulators: httpx.AsyncClient
) -> None:
    shipping = outside.shipping
    booked = await shipping.book_shipment(book(address="sealed.1"))
    assert isinstance(booked, BookingAccepted)
    assert booked.tracking is not None
    assert (await ledger(simulators, "shipping", "o"))["s"]["has_address"]

    await simulators.post("/shipping/control/shipments/o/s/leave")
    gone = ShipmentDeparted(shipment_id="s", tracking=booked.tracking, lines=[MILK])
    stop = request(Stop(step_id="x1", shipment_id="s"))
    assert await shipping.stop_shipment(stop) == gone
    assert await shipping.book_shipment(book(revision=2)) == gone

    other = request(Stop(step_id="x2", shipment_id="unheard-of"))
    assert await shipping.stop_shipment(other) == StepDone(step_id="x2")


# Not now: asked again under the same key


async def failure(asked: Awaitable[object]) -> ApplicationError:
    with pytest.raises(ApplicationError) as raised:
        await asked
    return raised.value


async def test_a_failure_is_told_in_a_sentence_and_the_same_key_settles_it(
    outside: Outside, simulators: httpx.AsyncClient
) -> None:
    flapping = authorise("pm_flapping")
    for _ in range(2):
        error = await failure(outside.payments.authorise_payment(flapping))
        assert (error.type, error.non_retryable) == (FAILED, False)
        assert error.message == "the payments service answered 503: the service is down"
    assert isinstance(await outside.payments.authorise_payment(flapping), PaymentApproved)
    assert (await ledger(simulators, "payments", "o"))["authorised"] == 1000


async def test_a_service_says_how_long_it_would_be_left_alone(outside: Outside) -> None:
    error = await failure(outside.payments.authorise_payment(authorise("pm_busy")))
    assert (error.type, error.next_retry_delay) == (FAILED, timedelta(seconds=1))


async def test_an_unknown_outcome_is_settled_by_the_same_key(
    simulators: httpx.AsyncClient, outside: Outside
) -> None:
    asked = authorise("pm_timeout_after_charging")
    async with reaching(str(simulators.base_url), SERVICE_TIMEOUT_SECONDS) as impatient:
        error = await failure(impatient.payments.authorise_payment(asked))
    assert (error.type, error.non_retryable) == (OUTCOME_UNKNOWN, False)
    assert "did not answer, so the outcome is unknown" in error.message
    assert (await ledger(simulators, "payments", "o"))["authorised"] == 1000
    assert isinstance(await outside.payments.authorise_payment(asked), PaymentApproved)
    assert (await ledger(simulators, "payments", "o"))["authorised"] == 1000


async def test_a_connection_that_breaks_leaves_the_outcome_unknown() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with reaching(f"http://127.0.0.1:{port}") as outside:
            error = await failure(outside.stock.reserve_stock(request(reserve())))
    assert error.type == OUTCOME_UNKNOWN


async def test_a_service_that_trickles_does_not_keep_us() -> None:
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
        async with reaching(f"http://127.0.0.1:{port}", seconds=0.3) as outside:
            error = await failure(outside.stock.reserve_stock(request(reserve())))
        await asyncio.sleep(0.2)
    assert error.type == OUTCOME_UNKNOWN


async def test_nobody_there_is_a_failure() -> None:
    with socket.socket() as silent:  # It has the port to itself, and does not listen.
        silent.bind(("127.0.0.1", 0))
        async with reaching("http://{}:{}".format(*silent.getsockname())) as outside:
            error = await failure(outside.payments.authorise_payment(authorise()))
    assert (error.type, error.non_retryable) == (FAILED, False)
    assert error.message.startswith("the payments service cannot be reached: ")


async def test_a_url_that_is_not_set_is_named() -> None:
    async with reaching(None) as outside:
        error = await failure(outside.payments.authorise_payment(authorise()))
    assert (error.type, error.non_retryable) == (FAILED, False)
    assert error.message == "ORDERLY_PAYMENTS_URL is not set"


# For a person: asking again will not help


def refuses_the_step(error: ApplicationError) -> str:
    assert (error.type, error.non_retryable) == (REFUSED_STEP, True)
    return error.message


async def test_a_refusal_without_a_meaning_is_for_a_person(outside: Outside) -> None:
    approved = await outside.payments.authorise_payment(authorise())
    assert isinstance(approved, PaymentApproved)
    refund = Refund(step_id="f1", authorisation_id="a1", reference=approved.reference, amount=1)
    error = await failure(outside.payments.refund_payment(request(refund)))
    assert refuses_the_step(error) == (
        "the payments service answered 422: 1 cannot be refunded: 0 is captured and not refunded"
    )


async def test_a_key_used_for_something_else_is_for_a_person(outside: Outside) -> None:
    await outside.payments.authorise_payment(authorise(amount=1))
    error = await failure(outside.payments.authorise_payment(authorise(amount=2)))
    assert "came with another request before" in refuses_the_step(error)


async def test_a_shipment_that_was_stopped_is_not_booked_in_silence(outside: Outside) -> None:
    await outside.shipping.stop_shipment(request(Stop(step_id="x", shipment_id="s")))
    error = await failure(outside.shipping.book_shipment(book()))
    assert (
        refuses_the_step(error) == "the shipping service says that the shipment was stopped before"
    )


async def test_an_erased_customer_has_no_address_to_ship_to(outside: Outside) -> None:
    error = await failure(outside.shipping.book_shipment(book(address="sealed.erased")))
    message = refuses_the_step(error)
    assert message == "the customer was erased: there is no address to ship to"


# Services that keep no contract


class Odd:
    """A service that answers whatever it is told to, and remembers what it was asked."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.answer = Response()
        self.asked: list[Request] = []
        self.bodies: list[bytes] = []

        @self.app.api_route("/{path:path}", methods=["POST", "PUT"])
        async def anything(request: Request) -> Response:
            self.asked.append(request)
            self.bodies.append(await request.body())
            return self.answer


@pytest.fixture
async def odd() -> AsyncIterator[tuple[Odd, Outside]]:
    service = Odd()
    async with serving(service.app) as http, reaching(str(http.base_url)) as outside:
        yield service, outside


def reserve() -> Reserve:
    return Reserve(step_id="r1", lines=[MILK])


@pytest.mark.parametrize("content", ["", "<html>", "[]", "{}", '{"reference": null}'])
async def test_an_answer_that_nobody_understands_is_for_a_person(
    odd: tuple[Odd, Outside], content: str
) -> None:
    service, outside = odd
    service.answer = Response(content, 201)
    error = await failure(outside.payments.authorise_payment(authorise()))
    assert "the payments service gave an answer without a usable " in refuses_the_step(error)


@pytest.mark.parametrize(
    "part",
    [
        Held(line_id="1", sku="MILK", location="EAST", quantity=3),
        Held(line_id="2", sku="MILK", location="EAST", quantity=1),
        Held(line_id="1", sku="WINE", location="EAST", quantity=1),
        Held(line_id="1", sku="MILK", location="EAST", quantity=-1),
    ],
)
async def test_stock_that_nobody_asked_for_is_for_a_person(
    odd: tuple[Odd, Outside], part: Held
) -> None:
    service, outside = odd
    service.answer = Response(f'{{"held": [{part.model_dump_json()}]}}', 201)
    error = await failure(outside.stock.reserve_stock(request(reserve())))
    assert refuses_the_step(error) == "the stock service holds what it was not asked for"


@pytest.mark.parametrize(
    ("status", "content", "said"),
    [
        (400, "", "Bad Request"),
        (401, "not json", "Unauthorized"),
        (302, "", "Found"),
        (402, '{"code": "other"}', "other"),
        (418, '{"reason": "I\\nam a\\u0000 pot"}', "I am a pot"),
        (422, f'{{"reason": "{"x" * 500}"}}', "x" * 200),
        (499, "", "a status that HTTP does not know"),
    ],
)
async def test_any_other_refusal_is_for_a_person_in_the_words_of_the_service(
    odd: tuple[Odd, Outside], status: int, content: str, said: str
) -> None:
    service, outside = odd
    service.answer = Response(content, status)
    error = await failure(outside.payments.authorise_payment(authorise()))
    assert refuses_the_step(error) == f"the payments service answered {status}: {said}"


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 504])
async def test_what_may_pass_is_asked_again(odd: tuple[Odd, Outside], status: int) -> None:
    service, outside = odd
    service.answer = Response(status_code=status)
    error = await failure(outside.payments.authorise_payment(authorise()))
    assert (error.type, error.non_retryable) == (FAILED, False)


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
async def test_retry_after_is_respected_within_reason(
    odd: tuple[Odd, Outside], header: str | timedelta, seconds: int | None
) -> None:
    service, outside = odd
    if isinstance(header, timedelta):
        header = format_datetime(datetime.now(UTC) + header, usegmt=True)
    service.answer = Response(status_code=503, headers={"Retry-After": header})
    error = await failure(outside.payments.authorise_payment(authorise()))
    if seconds is None:
        assert error.next_retry_delay is None
    else:
        assert error.next_retry_delay is not None
        assert error.next_retry_delay.total_seconds() == pytest.approx(seconds, abs=15)


async def test_what_quotes_an_address_is_not_repeated(odd: tuple[Odd, Outside]) -> None:
    service, outside = odd
    for status in (422, 503):
        body = '{"code": "bad-address", "reason": "Ada Lovelace does not live there"}'
        service.answer = Response(body, status)
        error = await failure(outside.shipping.book_shipment(book(address="sealed.1")))
        assert error.message == f"the shipping service answered {status}: bad-address"
    assert b"Lovelace" in service.bodies[0], "the carrier itself is told"


async def test_names_in_a_path_are_quoted(odd: tuple[Odd, Outside]) -> None:
    service, outside = odd
    step = Void(step_id="v", authorisation_id="a1", reference="../a/b?c#d")
    await outside.payments.void_payment(request(step))
    path = service.asked[0].scope["raw_path"].decode()
    assert path == "/payments/authorisations/..%2Fa%2Fb%3Fc%23d/void"


# Key and trace


async def test_key_and_trace_arrive(odd: tuple[Odd, Outside]) -> None:
    service, outside = odd
    await outside.stock.release_stock(request(Release(step_id="l1", held=[])))
    headers = service.asked[0].headers
    assert headers["Idempotency-Key"] == "o:l1"
    assert headers["traceparent"] == CALLER, "nobody traces here: it is handed on as it came"


async def test_a_call_is_a_span_of_the_trace_that_caused_it(
    odd: tuple[Odd, Outside], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, outside = odd
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "TRACER", provider.get_tracer("orderly"))
    service.answer = Response(status_code=503)
    await failure(outside.stock.release_stock(request(Release(step_id="l1", held=[]))))

    (span,) = exporter.get_finished_spans()
    assert (span.name, span.kind) == ("release at the stock service", trace.SpanKind.CLIENT)
    assert span.parent is not None
    assert trace.format_span_id(span.parent.span_id) in CALLER
    context = span.get_span_context()
    assert context is not None
    sent = service.asked[0].headers["traceparent"]
    assert sent == f"00-{TRACE}-{trace.format_span_id(context.span_id)}-01"
    assert span.status.status_code is trace.StatusCode.ERROR
