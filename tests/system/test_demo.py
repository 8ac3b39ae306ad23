"""The demo finds every difference of one cent, and a real replay has none."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from dev.api_client import ApiClient, ApiRejection, ApiUnavailable
from dev.demo import replay, scenarios, webhooks
from dev.demo.baskets import PACKAGED_BASKETS, BasketsError, read_baskets
from dev.demo.checkout import RejectionReason, rejected_lines, rejection_reasons
from dev.demo.expected import (
    Difference,
    Item,
    OrderSummary,
    Totals,
    compare_orders,
    compare_rejections,
    expected_orders,
    expected_rejections,
    totals,
)
from dev.demo.ledger_totals import compare_ledgers, ledgers_of_orders, ledgers_of_services
from dev.demo.reconciliation import Outcome, Reconciler, compare_outcomes
from dev.demo.scenarios import SCENARIOS
from dev.simulator_client import SimulatorClient
from dev.stack.programs import Addresses
from dev.webhook_receiver import Receiver
from orderly_consumer import Feed
from tests.support.api_requests import opened, shown
from tests.support.event_feed import read_on
from tests.support.servers import Running
from tests.support.service_calls import MILK, post, reserve
from tests.support.webhooks import delivering

BAGELS, TUNA = Item("1020156", 1, 150), Item("1053875", 2, 278)
LUNCH = OrderSummary(428, "USD", (BAGELS, TUNA))
EXPECTED = {"lunch": LUNCH, "snack": OrderSummary(150, "USD", (BAGELS,))}
AS_EXPECTED = {basket_id: [order] for basket_id, order in EXPECTED.items()}


def differences(lunch: list[OrderSummary]) -> list[tuple[str, str, str]]:
    """The differences if another lunch is found: of that order, and of the totals."""
    found = compare_orders(EXPECTED, AS_EXPECTED | {"lunch": lunch})
    return [(it.subject, it.expected, it.found) for it in found]


SUMS = "2 orders, 3 lines, 5.78 USD"


def test_equal_orders_have_no_differences() -> None:
    assert compare_orders(EXPECTED, AS_EXPECTED) == []


def test_extra_cent_is_found() -> None:
    assert differences([replace(LUNCH, total=429)]) == [
        ("lunch", "4.28 USD", "4.29 USD"),
        ("all together", SUMS, "2 orders, 3 lines, 5.79 USD"),
    ]


def test_cent_moved_from_one_order_to_another_is_found() -> None:
    found = {
        "lunch": [replace(LUNCH, total=429)],
        "snack": [replace(EXPECTED["snack"], total=149)],
    }
    assert compare_orders(EXPECTED, found) == [
        Difference("lunch", "4.28 USD", "4.29 USD"),
        Difference("snack", "1.50 USD", "1.49 USD"),
    ]


def test_missing_order_is_found() -> None:
    assert differences([]) == [
        ("lunch", "one order", "0 orders"),
        ("all together", SUMS, "1 order, 1 line, 1.50 USD"),
    ]


def test_doubled_order_is_found() -> None:
    assert differences([LUNCH, LUNCH]) == [
        ("lunch", "one order", "2 orders"),
        ("all together", SUMS, "3 orders, 5 lines, 10.06 USD"),
    ]


def test_unexpected_order_is_found() -> None:
    found = compare_orders({"snack": EXPECTED["snack"]}, AS_EXPECTED)
    assert Difference("lunch", "no order", "placed, 2 lines, 4.28 USD") in found


def test_missing_line_is_found() -> None:
    assert differences([replace(LUNCH, items=(BAGELS,))]) == [
        ("lunch", "2 lines", "1 line"),
        ("all together", SUMS, "2 orders, 2 lines, 5.78 USD"),
    ]


def test_swapped_lines_are_found() -> None:
    assert differences([replace(LUNCH, items=(TUNA, BAGELS))]) == [
        ("lunch", "line 1: 1 × 1020156 for 1.50 USD", "line 1: 2 × 1053875 for 2.78 USD")
    ]


def test_unplaced_order_is_found() -> None:
    assert differences([replace(LUNCH, status="draft")]) == [("lunch", "placed", "draft")]


def test_accepted_invalid_line_is_found() -> None:
    assert compare_rejections(Counter(lunch=2, snack=1), Counter(lunch=1, snack=1)) == [
        Difference("lunch", "2 lines rejected", "1 line rejected")
    ]


# ---- the orders' ledgers and the services' ------------------------------------------------------

ORDER: dict[str, Any] = {
    "order_id": "ord_1",
    "status": "confirmed",
    "currency": "USD",
    "fulfilment_status": "delivered",
    "return_status": "none",
    "payment": {"authorised": 428, "captured": 150, "refunded": 50, "voided": 0, "earned": 100},
    "lines": [
        {"sku": "bagels", "reserved": 0, "shipped": 1, "returned": 1},
        {"sku": "tuna", "reserved": 2, "shipped": 0, "returned": 0},
    ],
    "pending": [],
    "needs_attention": [],
}
MONEY = {"currency": "USD", "authorised": 278, "captured": 150, "refunded": 50}
STOCK = {"held": {"tuna": 2}, "withdrawn": {"bagels": 1}, "returned": {"bagels": 1}}


def ledger_differences(payments: dict[str, Any], stock: dict[str, Any]) -> list[Difference]:
    services = ledgers_of_services(payments, stock)
    return compare_ledgers(ledgers_of_orders([ORDER]), services)


def test_equal_ledgers_have_no_differences() -> None:
    assert ledger_differences({"ord_1": MONEY}, {"ord_1": STOCK}) == []


@pytest.mark.parametrize(
    ("kind", "amount", "expected", "found"),
    [
        ("captured", 151, "captured 1.50 USD", "captured 1.51 USD"),
        ("refunded", 0, "refunded 0.50 USD", "refunded 0.00 USD"),
        ("authorised", 279, "authorised 2.78 USD", "authorised 2.79 USD"),
    ],
)
def test_another_cent_in_payments_is_found(
    kind: str, amount: int, expected: str, found: str
) -> None:
    assert ledger_differences({"ord_1": MONEY | {kind: amount}}, {"ord_1": STOCK}) == [
        Difference("ord_1", expected, found),
        Difference("all together", expected, found),
    ]


@pytest.mark.parametrize("kind", ["held", "withdrawn", "returned"])
def test_piece_of_another_sku_is_found(kind: str) -> None:
    other = STOCK | {kind: {"rice": 1}}
    found = ledger_differences({"ord_1": MONEY}, {"ord_1": other})
    assert Difference("ord_1", f"{kind} 0 × rice", f"{kind} 1 × rice") in found


def test_ledger_without_an_order_is_found() -> None:
    found = ledger_differences({"ord_1": MONEY, "ord_2": MONEY}, {"ord_1": STOCK})
    assert Difference("ord_2", "captured 0.00 USD", "captured 1.50 USD") in found
    assert Difference("all together", "captured 1.50 USD", "captured 3.00 USD") in found


def test_unexpected_end_of_an_order_is_found() -> None:
    outcome = Outcome("delivered", paid=100, authorised=278)
    assert compare_outcomes({"ord_1": outcome}, [ORDER]) == []
    assert compare_outcomes({"ord_1": replace(outcome, paid=101)}, [ORDER]) == [
        Difference(
            "ord_1",
            "delivered, 1.01 USD paid, 2.78 USD authorised",
            "delivered, 1.00 USD paid, 2.78 USD authorised",
        )
    ]
    assert compare_outcomes({"ord_1": replace(outcome, status="cancelled")}, [ORDER])
    owed = ORDER | {"pending": [{"step_id": "capture-9", "reason": None}]}
    (stuck,) = compare_outcomes({"ord_1": outcome}, [owed])
    assert stuck.found.startswith("delivered, which waits for capture-9,")
    assert compare_outcomes({"ord_9": outcome}, []) == [
        Difference("ord_9", "delivered", "no order")
    ]


def test_packaged_baskets_get_every_scenario_deterministically() -> None:
    baskets = read_baskets(PACKAGED_BASKETS)
    plans = scenarios.plan(baskets)
    assert plans == scenarios.plan(baskets)
    assert {plan.scenario for plan in plans.values()} == set(SCENARIOS)


def test_packaged_baskets_match_their_readme() -> None:
    baskets = read_baskets(PACKAGED_BASKETS)
    all_orders = totals(expected_orders(baskets).values())
    assert all_orders == Totals(orders=1_000, lines=10_449 - 61, money={"USD": 3_072_251})
    assert expected_rejections(baskets).total() == 61


# ---- over HTTP ----------------------------------------------------------------------------------


def client_of(respond: Callable[[httpx.Request], httpx.Response], retry_s: float) -> ApiClient:
    transport = httpx.MockTransport(respond)
    http = httpx.AsyncClient(base_url="http://orderly", transport=transport)
    return ApiClient(http, retry_s=retry_s)


BUSY = {"code": "temporal-unavailable", "detail": "Not now."}


async def test_failed_request_is_repeated_under_its_key_after_retry_after() -> None:
    keys: list[str] = []

    def respond(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) == 1:
            raise httpx.RemoteProtocolError("the server hung up")
        if len(keys) == 2:
            return httpx.Response(503, headers={"Retry-After": "1"}, json=BUSY)
        return httpx.Response(201, json={"order_id": "ord_1"})

    api, began = client_of(respond, 60.0), time.monotonic()
    assert await api.open_order({}, key="my-key") == {"order_id": "ord_1"}
    assert keys == ["my-key"] * 3
    assert (api.posts, api.retries) == (1, 2)
    assert time.monotonic() - began >= 1.0


async def test_retries_end_at_their_deadline() -> None:
    api = client_of(lambda _: httpx.Response(503, json=BUSY), retry_s=2.0)
    with pytest.raises(ApiUnavailable, match="temporal-unavailable · Not now"):
        await api.open_order({}, key="my-key")
    assert api.retries >= 1


async def test_rejection_names_lines_fields_and_reasons() -> None:
    errors = [
        {"pointer": "#/lines/3/quantity", "code": "too-small", "detail": "too few"},
        {"pointer": "#/lines/5", "code": "not-allowed-now", "detail": "too late"},
        {"pointer": "#/currency", "code": "unknown", "detail": "not money"},
    ]
    api = client_of(lambda _: httpx.Response(422, json={"errors": errors}), retry_s=0)
    with pytest.raises(ApiRejection) as rejected:
        await api.open_order({})
    too_few = RejectionReason("quantity", "too-small", "too few")
    too_late = RejectionReason("the whole line", "not-allowed-now", "too late")
    not_money = RejectionReason("currency", "unknown", "not money")
    assert rejected_lines(rejected.value) == {3: too_few, 5: too_late}
    assert rejection_reasons(rejected.value) == [too_few, too_late, not_money]


# ---- a real replay ------------------------------------------------------------------------------


def stack_of(running: Running) -> Addresses:
    return Addresses(
        api_url=str(running.http.base_url),
        temporal_address="unused",
        temporal_namespace="default",
        task_queue=running.task_queue,
        temporal_ui_url="http://ui",
        postgres_dsn=running.dsn,
        simulators_url=str(running.simulators.base_url),
    )


def packaged(*numbers: int) -> list[dict[str, Any]]:
    rows = PACKAGED_BASKETS.read_text().splitlines()
    return [json.loads(rows[number]) for number in numbers]


def basket_without_pieces(basket_id: str) -> dict[str, Any]:
    """A basket without a valid line."""
    [basket] = packaged(0)
    line = basket["lines"][0] | {"quantity": 0, "unit_price": 0, "discount": 0}
    return basket | {"basket_id": basket_id, "lines": [line], "total": 0}


def file_of(folder: Path, baskets: list[dict[str, Any]]) -> Path:
    file = folder / "baskets.jsonl"
    file.write_text("".join(f"{json.dumps(basket)}\n" for basket in baskets))
    return file


async def test_replay_places_valid_lines_and_has_the_rest_rejected(
    orderly: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Of three baskets, the first is sent line by line, the others in one request each. Numbers 954
    # and 17 have one line without pieces, number 391 has two.
    baskets = [
        *packaged(954, 391, *range(18)),
        basket_without_pieces("none-1"),
        basket_without_pieces("none-2"),
    ]
    baskets += [*packaged(*range(18, 21)), basket_without_pieces("none-3")]
    baskets_read = read_baskets(file_of(tmp_path, baskets))
    async with delivering(orderly.dsn):
        assert await replay.run(stack_of(orderly), baskets_read, is_kept=False) == 0
    printed = re.sub(r" +", " ", capsys.readouterr().out)
    assert "26 baskets replayed, every cent and piece accounted for" in printed
    assert "orders 23 23 ✓" in printed
    [received, in_feed] = re.findall(r"([\d,]+) of the ([\d,]+) events in the feed", printed)[0]
    assert received == in_feed
    digests = re.findall(r"digest (\w{16}), that of the feed is (\w{16})", printed)
    assert len(digests) == 1 and len(set(digests[0])) == 1
    assert "7 × quantity: must be greater than 0 (too-small)" in printed


async def test_event_that_was_not_delivered_is_found(
    orderly: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "ARRIVED_S_MAX", 0.0)
    path = await opened(orderly.http)
    await shown(orderly.http, path, 3)
    held, _ = await read_on(orderly.http)
    lost = f"{path.rpartition('/')[2]}@2"
    receiver = Receiver()
    for event in held:
        if event["id"] != lost:
            receiver.receive(webhooks.PATH, {"webhook-id": event["id"]}, b"")
    async with Feed(str(orderly.http.base_url)) as feed:
        check = await webhooks.Witness(feed, receiver).compare()
    assert lost in check.missing
    assert check.in_feed.count - check.delivered.count == len(check.missing)


async def test_every_scenario_runs_and_a_tampered_ledger_is_found(
    orderly: Running, tmp_path: Path
) -> None:
    simulators, quiet = SimulatorClient(orderly.simulators), Console(quiet=True)
    reconciler = Reconciler(ApiClient(orderly.http), simulators, quiet)
    baskets = read_baskets(file_of(tmp_path, packaged(*range(21, 42))))
    result = await replay.replay(reconciler, baskets, scenario_every=1)
    assert result.differences == []
    assert set(result.reconciliation.scenarios) == {one.name for one in SCENARIOS}

    order = next(o for o in await reconciler.orders() if o["fulfilment_status"] == "delivered")
    order_id, path = order["order_id"], "/payments/authorisations"
    history = (await orderly.http.get(f"/v1/orders/{order_id}/history")).json()["items"]
    paid = next(e["data"] for e in history if e["type"] == "payment-authorised")
    refund = {"order_id": order_id, "step_id": "theft", "amount": 1}
    refunds = f"{path}/{paid['reference']}/refunds"
    while (refunded := await post(orderly.simulators, refunds, refund)).status_code == 503:
        pass  # It may be the order whose payment service is down twice, for each key.
    assert refunded.status_code == 201
    assert (await reserve(orderly.simulators, order_id, MILK)).status_code == 201

    found = compare_ledgers(
        ledgers_of_orders(await reconciler.orders()), await reconciler.service_ledgers()
    )
    money = Counter(it.subject for it in found if it.found.startswith("refunded"))
    assert money == {order_id: 1, "all together": 1}
    assert Difference(order_id, "held 0 × MILK", "held 2 × MILK") in found
    assert len(found) == 4


async def test_wrong_total_in_the_file_fails_the_replay(
    orderly: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baskets = packaged(0, 1, 2)
    baskets[1]["total"] += 1
    baskets_read = read_baskets(file_of(tmp_path, baskets))
    async with delivering(orderly.dsn):
        assert await replay.run(stack_of(orderly), baskets_read, is_kept=False) == 1
    printed = re.sub(r" +", " ", capsys.readouterr().out)
    assert f"{baskets[1]['basket_id']} 1.00 USD 0.99 USD" in printed


GOOD_LINE = PACKAGED_BASKETS.read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "contains no baskets"),
        (b"no JSON", "line 1: not JSON"),
        (f"{GOOD_LINE}\n{GOOD_LINE}".encode(), "line 2: basket_id 31198570044 is a duplicate"),
        (GOOD_LINE.replace('"total"', '"sum"').encode(), "line 1: total is missing"),
        (GOOD_LINE.replace('"quantity":1', '"quantity":"1"').encode(), "line 1: lines.0.quantity"),
        (b"[]", "line 1: a basket must be a JSON object"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_invalid_file_is_rejected_in_one_sentence(
    content: bytes, complaint: str, tmp_path: Path
) -> None:
    file = tmp_path / "baskets.jsonl"
    file.write_bytes(content)
    with pytest.raises(BasketsError) as rejected:
        read_baskets(file)
    assert str(rejected.value).startswith(str(file))
    assert complaint in str(rejected.value)
    assert "\n" not in str(rejected.value)
