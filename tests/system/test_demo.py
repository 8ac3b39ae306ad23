"""The demo tells the truth: what differs by a cent is found, and a real replay agrees."""

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

from dev import demo
from dev.demo import expected as books
from dev.demo import ledger_totals as ledgers
from dev.demo import reconciliation as aftermath
from dev.demo import replay
from dev.demo import scenarios as lives
from dev.demo.baskets import BasketsError, read_baskets
from dev.demo.expected import Difference, Entry, Item
from dev.demo.http_client import Reason, Rejected, Unanswered, Wire
from dev.demo.reconciliation import Shop
from dev.demo.scenarios import LIVES
from dev.demo.simulator_client import StandIns
from dev.stack.programs import Addresses
from tests.support.servers import Running
from tests.support.simulator_client import MILK, post, reserve

PACKAGED = Path(demo.__file__).parent / "baskets.jsonl"

BAGELS, TUNA = Item("1020156", 1, 150), Item("1053875", 2, 278)
LUNCH = Entry(428, "USD", (BAGELS, TUNA))
EXPECTED = {"lunch": LUNCH, "snack": Entry(150, "USD", (BAGELS,))}
AS_EXPECTED = {basket_id: [entry] for basket_id, entry in EXPECTED.items()}


def differences(lunch: list[Entry]) -> list[tuple[str, str, str]]:
    """What is said of books with another lunch in them, in its row and in the sums."""
    found = books.compare(EXPECTED, AS_EXPECTED | {"lunch": lunch})
    return [(it.where, it.expected, it.found) for it in found]


SUMS = "2 orders, 3 lines, 5.78 USD"


def test_books_that_agree_have_no_differences() -> None:
    assert books.compare(EXPECTED, AS_EXPECTED) == []


def test_a_cent_too_much_is_found() -> None:
    assert differences([replace(LUNCH, total=429)]) == [
        ("lunch", "4.28 USD", "4.29 USD"),
        ("all together", SUMS, "2 orders, 3 lines, 5.79 USD"),
    ]


def test_a_cent_moved_from_one_order_to_another_is_found() -> None:
    found = {
        "lunch": [replace(LUNCH, total=429)],
        "snack": [replace(EXPECTED["snack"], total=149)],
    }
    assert books.compare(EXPECTED, found) == [
        Difference("lunch", "4.28 USD", "4.29 USD"),
        Difference("snack", "1.50 USD", "1.49 USD"),
    ]


def test_a_missing_order_is_found() -> None:
    assert differences([]) == [
        ("lunch", "one order", "0 orders"),
        ("all together", SUMS, "1 order, 1 line, 1.50 USD"),
    ]


def test_a_doubled_order_is_found() -> None:
    assert differences([LUNCH, LUNCH]) == [
        ("lunch", "one order", "2 orders"),
        ("all together", SUMS, "3 orders, 5 lines, 10.06 USD"),
    ]


def test_an_order_that_nobody_asked_for_is_found() -> None:
    found = books.compare({"snack": EXPECTED["snack"]}, AS_EXPECTED)
    assert Difference("lunch", "no order", "placed, 2 lines, 4.28 USD") in found


def test_a_missing_line_is_found() -> None:
    assert differences([replace(LUNCH, items=(BAGELS,))]) == [
        ("lunch", "2 lines", "1 line"),
        ("all together", SUMS, "2 orders, 2 lines, 5.78 USD"),
    ]


def test_lines_that_have_changed_places_are_found() -> None:
    assert differences([replace(LUNCH, items=(TUNA, BAGELS))]) == [
        ("lunch", "line 1: 1 × 1020156 for 1.50 USD", "line 1: 2 × 1053875 for 2.78 USD")
    ]


def test_an_order_that_was_never_placed_is_found() -> None:
    assert differences([replace(LUNCH, status="draft")]) == [("lunch", "placed", "draft")]


def test_a_line_that_should_have_been_refused_is_found() -> None:
    assert books.compare_refusals(Counter(lunch=2, snack=1), Counter(lunch=1, snack=1)) == [
        Difference("lunch", "2 lines refused", "1 line refused")
    ]


# ---- the orders' ledgers beside the services' books ---------------------------------------------

ORDER: dict[str, Any] = {
    "order_id": "ord_1",
    "status": "confirmed",
    "currency": "USD",
    "fulfilment_status": "delivered",
    "return_status": "none",
    "payment": {"authorised": 428, "captured": 150, "refunded": 50, "voided": 0, "due": 100},
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
    services = ledgers.of_services(payments, stock)
    return ledgers.compare(ledgers.of_orders([ORDER]), services)


def test_ledgers_and_books_that_agree_have_no_differences() -> None:
    assert ledger_differences({"ord_1": MONEY}, {"ord_1": STOCK}) == []


@pytest.mark.parametrize(
    ("kind", "amount", "expected", "found"),
    [
        ("captured", 151, "captured 1.50 USD", "captured 1.51 USD"),
        ("refunded", 0, "refunded 0.50 USD", "refunded 0.00 USD"),
        ("authorised", 279, "authorised 2.78 USD", "authorised 2.79 USD"),
    ],
)
def test_a_cent_that_payments_has_otherwise_is_found(
    kind: str, amount: int, expected: str, found: str
) -> None:
    assert ledger_differences({"ord_1": MONEY | {kind: amount}}, {"ord_1": STOCK}) == [
        Difference("ord_1", expected, found),
        Difference("all together", expected, found),
    ]


@pytest.mark.parametrize("kind", ["held", "withdrawn", "returned"])
def test_a_piece_of_another_sku_is_found(kind: str) -> None:
    other = STOCK | {kind: {"rice": 1}}
    found = ledger_differences({"ord_1": MONEY}, {"ord_1": other})
    assert Difference("ord_1", f"{kind} 0 × rice", f"{kind} 1 × rice") in found


def test_what_no_order_knows_of_is_found() -> None:
    found = ledger_differences({"ord_1": MONEY, "ord_2": MONEY}, {"ord_1": STOCK})
    assert Difference("ord_2", "captured 0.00 USD", "captured 1.50 USD") in found
    assert Difference("all together", "captured 1.50 USD", "captured 3.00 USD") in found


def test_an_order_that_ended_otherwise_is_found() -> None:
    as_due = aftermath.Due("delivered", paid=100, promised=278)
    assert aftermath.compare({"ord_1": as_due}, [ORDER]) == []
    assert aftermath.compare({"ord_1": replace(as_due, paid=101)}, [ORDER]) == [
        Difference(
            "ord_1",
            "delivered, 1.01 USD paid, 2.78 USD authorised",
            "delivered, 1.00 USD paid, 2.78 USD authorised",
        )
    ]
    assert aftermath.compare({"ord_1": replace(as_due, ends="cancelled")}, [ORDER])
    owed = ORDER | {"pending": [{"step_id": "capture-9", "reason": None}]}
    (stuck,) = aftermath.compare({"ord_1": as_due}, [owed])
    assert stuck.found.startswith("delivered, which waits for capture-9,")
    assert aftermath.compare({"ord_9": as_due}, []) == [
        Difference("ord_9", "delivered", "no order")
    ]


def test_the_packaged_baskets_live_every_life_and_the_same_ones_again() -> None:
    baskets = read_baskets(PACKAGED)
    plan = lives.plan(baskets)
    assert plan == lives.plan(baskets)
    assert {planned.life.name for planned in plan.values()} == {life.name for life in LIVES}


def test_the_packaged_baskets_are_what_the_readme_says() -> None:
    baskets = read_baskets(PACKAGED)
    sums = books.sums(books.from_file(baskets).values())
    assert (sums.orders, sums.lines, sums.money) == (1_000, 10_449 - 61, {"USD": 3_072_251})
    assert books.expected_refusals(baskets).total() == 61


# ---- over HTTP ----------------------------------------------------------------------------------


def wire_to(answer: Callable[[httpx.Request], httpx.Response], patience_s: float = 60.0) -> Wire:
    transport = httpx.MockTransport(answer)
    return Wire(httpx.AsyncClient(base_url="http://shop", transport=transport), patience_s)


BUSY = {"code": "engine-unavailable", "detail": "Not now."}


async def test_what_may_have_failed_is_repeated_under_the_same_key_when_the_api_says() -> None:
    keys: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) == 1:
            raise httpx.RemoteProtocolError("the server hung up")
        if len(keys) == 2:
            return httpx.Response(503, headers={"Retry-After": "1"}, json=BUSY)
        return httpx.Response(201, json={"order_id": "ord_1"})

    wire, began = wire_to(answer), time.monotonic()
    assert await wire.command("/v1/orders", "my-key", {}) == {"order_id": "ord_1"}
    assert keys == ["my-key"] * 3
    assert (wire.commands, wire.repetitions) == (1, 2)
    assert time.monotonic() - began >= 1.0


async def test_patience_ends() -> None:
    wire = wire_to(lambda _: httpx.Response(503, json=BUSY), patience_s=0.6)
    with pytest.raises(Unanswered, match="engine-unavailable · Not now"):
        await wire.command("/v1/orders", "my-key", {})
    assert wire.repetitions == 1


async def test_a_refusal_names_lines_fields_and_reasons() -> None:
    errors = [
        {"pointer": "#/lines/3/quantity", "code": "greater-than", "detail": "too few"},
        {"pointer": "#/lines/5", "code": "not-allowed-now", "detail": "too late"},
        {"pointer": "#/currency", "code": "unknown", "detail": "not money"},
    ]
    wire = wire_to(lambda _: httpx.Response(422, json={"errors": errors}))
    with pytest.raises(Rejected) as refused:
        await wire.command("/v1/orders", "my-key", {})
    too_few = Reason("quantity", "greater-than", "too few")
    too_late = Reason("the whole line", "not-allowed-now", "too late")
    not_money = Reason("currency", "unknown", "not money")
    assert refused.value.lines == {3: too_few, 5: too_late}
    assert refused.value.reasons == [too_few, too_late, not_money]


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
    rows = PACKAGED.read_text().splitlines()
    return [json.loads(rows[number]) for number in numbers]


def nothing(basket_id: str) -> dict[str, Any]:
    """A basket without any good line."""
    [basket] = packaged(0)
    line = basket["lines"][0] | {"quantity": 0, "unit_price": 0, "discount": 0}
    return basket | {"basket_id": basket_id, "lines": [line], "total": 0}


def file_of(folder: Path, baskets: list[dict[str, Any]]) -> Path:
    file = folder / "baskets.jsonl"
    file.write_text("".join(f"{json.dumps(basket)}\n" for basket in baskets))
    return file


async def test_a_replay_places_what_is_good_and_has_the_rest_refused(
    orderly: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The first is shopped line by line, the next two at once, and so on. Numbers 954 and 391 hold
    # one and two lines of nothing; so does 17, one.
    baskets = [*packaged(954, 391, *range(18)), nothing("none-1"), nothing("none-2")]
    baskets += [*packaged(*range(18, 21)), nothing("none-3")]
    assert await replay.run(stack_of(orderly), read_baskets(file_of(tmp_path, baskets))) == 0
    told = re.sub(r" +", " ", capsys.readouterr().out)
    assert "26 baskets replayed, every cent and piece accounted for" in told
    assert "orders 23 23 ✓" in told
    assert "7 × quantity: Input should be greater than 0 (greater-than)" in told
    history = re.search(r"curl (\S+/history)", told)
    assert history is not None
    events = (await orderly.http.get(history[1])).json()["items"]
    assert events[0]["type"] == "order-opened"
    assert "order-confirmed" in [event["type"] for event in events]


async def test_every_life_is_lived_and_what_is_tampered_with_behind_it_is_found(
    orderly: Running, tmp_path: Path
) -> None:
    stand_ins, quiet = StandIns(orderly.simulators), Console(quiet=True)
    shop = Shop(Wire(orderly.http), stand_ins, quiet)
    baskets = read_baskets(file_of(tmp_path, packaged(*range(21, 42))))
    outcome = await replay.replay(shop, baskets, lives_every=1)
    assert outcome.differences == []
    assert set(outcome.aftermath.lives) == {life.name for life in LIVES}

    order = next(o for o in await shop.orders() if o["fulfilment_status"] == "delivered")
    order_id, path = order["order_id"], "/payments/authorisations"
    history = (await orderly.http.get(f"/v1/orders/{order_id}/history")).json()["items"]
    paid = next(e["data"] for e in history if e["type"] == "payment-authorised")
    refund = {"order_id": order_id, "step_id": "theft", "amount": 1}
    refunds = f"{path}/{paid['reference']}/refunds"
    while (refunded := await post(orderly.simulators, refunds, refund)).status_code == 503:
        pass  # It is the order whose payment service is down twice, for each key.
    assert refunded.status_code == 201
    assert (await reserve(orderly.simulators, order_id, MILK)).status_code == 201

    found = ledgers.compare(ledgers.of_orders(await shop.orders()), await shop.books())
    money = Counter(it.where for it in found if it.found.startswith("refunded"))
    assert money == {order_id: 1, "all together": 1}
    assert Difference(order_id, "held 0 × MILK", "held 2 × MILK") in found
    assert len(found) == 4


async def test_a_file_that_is_a_cent_off_fails_the_replay(
    orderly: Running, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    baskets = packaged(0, 1, 2)
    baskets[1]["total"] += 1
    assert await replay.run(stack_of(orderly), read_baskets(file_of(tmp_path, baskets))) == 1
    told = re.sub(r" +", " ", capsys.readouterr().out)
    assert f"{baskets[1]['basket_id']} 1.00 USD 0.99 USD" in told


GOOD_LINE = PACKAGED.read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "holds no basket"),
        (b"no JSON", "line 1: not JSON"),
        (f"{GOOD_LINE}\n{GOOD_LINE}".encode(), "line 2: basket 31198570044 was there before"),
        (GOOD_LINE.replace('"total"', '"sum"').encode(), "line 1: total is missing"),
        (GOOD_LINE.replace('"quantity":1', '"quantity":"1"').encode(), "line 1: lines.0.quantity"),
        (b"[]", "line 1: it"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_replayed_is_refused_in_a_sentence(
    content: bytes, complaint: str, tmp_path: Path
) -> None:
    file = tmp_path / "baskets.jsonl"
    file.write_bytes(content)
    with pytest.raises(BasketsError) as refused:
        read_baskets(file)
    assert str(refused.value).startswith(str(file))
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)
