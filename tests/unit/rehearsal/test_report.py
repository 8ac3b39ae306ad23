"""What a rehearsal reports, and how a declared change is held to it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from dev.demo.recorded_orders import ENDED, LIVES, Shop, cancelled, delivered, demo_orders, goodwill
from orders import commands as c
from orders import steps as o
from rehearsal.child import outcome_of
from rehearsal.expectation import ExpectationError, check_types, read_expectation, violations
from rehearsal.known_types import known_types
from rehearsal.recorded import RecordedOrder
from rehearsal.report import IDS_MAX, KINDS, Report
from rehearsal.report_text import sentences
from rehearsal.run import add
from tests.support.order_lives import BASKET, order_of
from tests.support.rule_changes import RULE_CHANGES, RuleChange, applied

TOTAL = BASKET.total
REPORTS = "orders.rules.payment_reports"


def report_of(
    orders: Iterable[RecordedOrder], name: str | None = None, events: frozenset[str] = frozenset()
) -> Report:
    """The report on a change of rules; without a name, on the same rules."""
    report = Report(expected_events=events)

    def add_all() -> None:
        for order in orders:
            report.add(order, json.loads(json.dumps(outcome_of(json.loads(order.line(ENDED))))))

    if name is None:
        add_all()
    else:
        with applied(next(change for change in RULE_CHANGES if change.name == name)):
            add_all()
    return report


def one_of_each() -> list[RecordedOrder]:
    return demo_orders(len(LIVES))


def found(report: Report) -> str:
    return "\n".join(sentences(report, "OTHER"))


def test_report_on_the_same_rules_has_no_difference() -> None:
    text = found(report_of(one_of_each()))

    assert text.startswith("10 orders rehearsed with OTHER: ")
    assert text.splitlines()[1:] == ["0 orders differ, and 10 as before."]


def test_money_is_that_of_the_services() -> None:
    """A delivered order is captured in full; a cancelled one is voided in full."""
    (was_delivered, _, was_cancelled, *_) = (report_of([each]) for each in one_of_each())

    amounts = was_delivered.recorded["USD"]
    assert amounts["authorised"] == amounts["captured"] > 0 == amounts["voided"]
    amounts = was_cancelled.recorded["USD"]
    assert amounts["authorised"] == amounts["voided"] > 0 == amounts["captured"]


def capture_reversed(store: Shop) -> None:
    delivered(store)
    (authorisation,) = store.order.authorisations.values()
    (capture,) = authorisation.captures
    store.tell(o.PaymentRefused(step_id=capture, reason="reversed"))


def refund_reversed(store: Shop) -> None:
    goodwill(store)
    (authorisation,) = store.order.authorisations.values()
    (refund,) = authorisation.refunds
    store.tell(o.RefundFailed(step_id=refund, reason="the account is closed"))


def refund_recorded(store: Shop) -> None:
    delivered(store)
    store.tell(o.StepDone(step_id="by-hand", operation="refund", amount=TOTAL // 4))


def authorisation_reduced(store: Shop) -> None:
    """What is missing is authorised again; then the order is cancelled."""
    store.open("pm_card")
    (key,) = store.order.authorisations
    half = o.AuthorisationChanged(authorisation_id=key, amount=store.order.total // 2, reason="old")
    store.tell(half)
    store.settle()
    assert len(store.order.authorisations) == 2
    store.tell(c.CancelOrder(reason="changed my mind"))
    store.settle()


@pytest.mark.parametrize(
    ("life", "ignored", "amounts", "changes"),
    [
        (
            capture_reversed,
            RuleChange(
                "", REPORTS, "        if key in authorisation.captures:\n", "        if 0:\n"
            ),
            (TOTAL, 0, 0, TOTAL),
            [("captured", 0, TOTAL), ("voided", TOTAL, 0)],
        ),
        (
            refund_reversed,
            RuleChange(
                "", REPORTS, "        if key in authorisation.refunds:\n", "        if 0:\n"
            ),
            (TOTAL, TOTAL, 0, 0),
            [("refunded", 0, TOTAL // 10)],
        ),
        (
            refund_recorded,
            RuleChange("", REPORTS, "        if authorisation is not None:\n", "        if 0:\n"),
            (TOTAL, TOTAL, TOTAL // 4, 0),
            [("refunded", TOTAL // 4, 0)],
        ),
        (
            authorisation_reduced,
            RuleChange("", REPORTS, "    if authorisation.closed or max(", "    if 1 or max("),
            (TOTAL, 0, 0, TOTAL),
            [],
        ),
    ],
    ids=["capture reversed", "refund reversed", "refund recorded", "authorisation reduced"],
)
def test_money_follows_reports_of_the_payment_service(
    life: Callable[[Shop], None],
    ignored: RuleChange,
    amounts: tuple[int, ...],
    changes: list[tuple[str, int, int]],
) -> None:
    """The other rules ignore them."""
    order, report = order_of(life), Report()
    with applied(ignored):
        report.add(order, outcome_of(json.loads(order.line(ENDED))))

    assert report.differing == 1
    assert tuple(report.recorded["USD"][kind] for kind in KINDS) == amounts
    assert [(kind, was, now) for kind, _, was, now in report.money_changes()] == changes


def test_money_of_orders_that_are_no_longer_opened_is_gone() -> None:
    opening = "        case c.OpenOrder(policy=policy):\n"
    closed = '            raise CommandRejected("the shop is closed", "closed")\n'
    order, report = order_of(delivered), Report()
    with applied(RuleChange("no order is opened", "orders.rules.draft", opening, opening + closed)):
        report.add(order, outcome_of(json.loads(order.line(ENDED))))

    assert [*report.money_changes()] == [
        ("authorised", "USD", TOTAL, 0),
        ("captured", "USD", TOTAL, 0),
    ]


def test_report_names_what_changes() -> None:
    report = report_of(one_of_each(), "orders can be cancelled after they have shipped")
    text = found(report)

    assert report.order_ids == ["ord_0005"]
    assert "1 × cancel-order: accepted, was rejected (already-shipped)" in text
    assert "First difference of each order" in text
    assert "  ord_0005 after version " in text
    assert "GET /v1/orders/ID/history?include=intents" in text


def test_report_says_what_is_factual_and_what_is_imagined() -> None:
    report = report_of(one_of_each(), "authorise a tenth more")
    text = found(report)

    assert report.factual_events > 0 < report.imagined_events
    assert "Recorded answers that fitted: " in text
    assert f"Answers by the simulators' rules: {report.simulated.total():,} (" in text
    (authorised, *_) = report.money_changes()
    kind, _, was, now = authorised
    assert kind == "authorised"
    assert 1.09 < now / was < 1.11


def test_order_that_no_worker_runs_is_counted_and_does_not_differ() -> None:
    order, report = order_of(delivered), Report()
    until = datetime.fromisoformat(order.inputs[-1].at) + timedelta(days=40)

    add(report, order, outcome_of(json.loads(order.line(until))), until)

    assert (report.orders, report.differing, report.without_worker) == (1, 0, 1)
    assert not list(report.money_changes()) and not report.flows
    assert "No worker has run 1 order since a deadline passed: taken as they are" in found(report)


def cancelled_too_late(store: Shop) -> None:
    delivered(store)
    store.tell(c.CancelOrder(reason="changed my mind"))


def test_order_that_no_worker_runs_may_differ_before_that() -> None:
    order, report = order_of(cancelled_too_late), Report()
    *before, rejected = order.inputs
    assert rejected.code
    order = order._replace(inputs=[*before, rejected._replace(code="another")])
    until = datetime.fromisoformat(rejected.at) + timedelta(days=40)

    add(report, order, outcome_of(json.loads(order.line(until))), until)

    assert (report.orders, report.differing, report.without_worker) == (1, 1, 0)


def test_decisions_are_counted_once() -> None:
    order = order_of(cancelled)
    (same, first_differs) = (
        report_of([order], name).decisions for name in (None, "lines are a cent dearer")
    )
    assert first_differs == same


def test_report_stays_small() -> None:
    order = one_of_each()[2]
    with applied(next(c for c in RULE_CHANGES if c.name == "cancellations name no reason")):
        outcome = outcome_of(json.loads(order.line(ENDED)))
    report = Report()
    for _ in range(IDS_MAX + 5):
        report.add(order, outcome)

    assert report.differing == IDS_MAX + 5
    assert len(report.order_ids) == IDS_MAX
    assert len(report.examples) == 10
    assert len(json.dumps(report.as_json())) < 250_000


def test_order_that_rules_cannot_read_is_a_sentence() -> None:
    report = Report()
    report.add(one_of_each()[0], {"decisions": 1, "unreadable": "what came at noon: no"})
    report.add(one_of_each()[0], {"decisions": 1, "failure": "KeyError: 'x'"})

    assert report.problems == [
        "Order ord_0000: these rules cannot read what came at noon: no.",
        "Order ord_0000: these rules fail: KeyError: 'x'.",
    ]


def test_order_that_differs_before_what_the_journal_lacks_is_named_and_in_no_sum() -> None:
    """It was cancelled; the imagined one would have been captured."""
    order = order_of(cancelled)
    index = next(i for i, each in enumerate(order.inputs) if "cancel-order" in str(each.intent))
    lacking = [*order.inputs]
    lacking[index] = lacking[index]._replace(intent=None)
    cut = order._replace(inputs=lacking)

    assert [*report_of([order], "lines are a cent dearer").money_changes()]
    report = report_of([cut], "lines are a cent dearer")

    (problem,) = report.problems
    at = f"{datetime.fromisoformat(lacking[index].at):%Y-%m-%d %H:%M:%S}"
    assert problem == (
        f"Order ord_0000: these rules cannot read what came at {at} after the first difference:"
        " the journal lacks it."
    )
    assert (report.not_rehearsed, report.recorded, report.imagined, report.flows) == (1, {}, {}, {})
    assert "taken as they happened" not in found(report)
    assert "taken as they happened, in 1 order." in found(report_of([cut]))


def test_number_of_orders_that_rules_fail_on_is_given() -> None:
    report = report_of(one_of_each())
    for _ in range(139):
        report.add(one_of_each()[0], {"decisions": 1, "failure": "KeyError: 'x'"})
    lines = found(report).splitlines()

    assert lines[1:3] == [
        "0 orders differ, and 10 as before.",
        "139 orders could not be rehearsed, of which these are the first 10:",
    ]
    assert lines[3:] == ["  Order ord_0000: these rules fail: KeyError: 'x'."] * 10
    assert report.as_json()["not_rehearsed"] == 139


# Expectations


def declared(folder: Path, text: str, report: Report) -> list[str]:
    file = folder / "expect.toml"
    file.write_text(text)
    return [*violations(read_expectation(file), report)]


def test_declared_change_passes_and_any_other_does_not(tmp_path: Path) -> None:
    name = "orders can be cancelled after they have shipped"
    events = frozenset({"delivery-failed"})
    report = report_of(one_of_each(), name, events)
    text = """
        because = "a late cancellation is one of the rest"
        statuses = "any"
        [orders]
        with_event = ["delivery-failed"]
        at_most = "10 %"
        [commands]
        accepted = ["cancel-order"]
    """
    money = "".join(
        f'\n[money.{kind}]\nat_least = "-100 %"\nat_most = "100 %"'
        for kind in {kind for kind, *_ in report.money_changes()}
    )

    assert declared(tmp_path, text + money, report) == []
    assert declared(tmp_path, text.replace("10 %", "9 %") + money, report) == [
        "1 order differs of 10, and 9 % may."
    ]
    (not_accepted,) = declared(tmp_path, text.replace("cancel-order", "hold-order") + money, report)
    assert not_accepted == "Commands are accepted that were not: cancel-order."
    if report.flows:
        (other,) = declared(tmp_path, text.replace('"any"', '"same"') + money, report)
        assert other.startswith("Other statuses, which are not declared, in 1 order, such as ")


def test_order_without_the_declared_event_is_named(tmp_path: Path) -> None:
    events = frozenset({"delivery-failed"})
    report = report_of(one_of_each(), "cancellations name no reason", events)

    (sentence,) = declared(
        tmp_path, 'because = "x"\n[orders]\nwith_event = ["delivery-failed"]', report
    )
    assert sentence == "2 orders differ without delivery-failed, such as ord_0002, ord_0008."


def test_money_may_change_as_far_as_declared(tmp_path: Path) -> None:
    report = report_of(one_of_each()[:1], "authorise a tenth more")

    def text(most: str) -> str:
        return f'because = "x"\n[money.authorised]\nat_most = "{most}"'

    assert not [s for s in declared(tmp_path, text("+10.01 %"), report) if "authorised" in s]
    (sentence,) = (s for s in declared(tmp_path, text("9.9 %"), report) if "authorised" in s)
    assert sentence.endswith("% in USD, and may change by 0 % to 9.9 %.")


def test_first_money_of_a_currency_is_declared_as_any(tmp_path: Path) -> None:
    report = Report(
        orders=1,
        recorded={"USD": Counter(authorised=500)},
        imagined={"USD": Counter(authorised=500, refunded=100)},
    )

    def text(bounds: str) -> str:
        return f'because = "x"\n[money.refunded]\n{bounds}'

    assert declared(tmp_path, text('at_most = "any"'), report) == []
    assert declared(tmp_path, text('at_most = "100 %"'), report) == [
        "The money that is refunded changes from nothing in USD, and may change by 0 % to 100 %."
    ]
    less = Report(orders=1, recorded=report.imagined, imagined=report.recorded)
    assert declared(tmp_path, text('at_least = "-3 %"\nat_most = "any"'), less) == [
        "The money that is refunded changes by -100.00 % in USD, and may change by -3 % or more."
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("because", "is not TOML: "),
        ('[orders]\nat_most = "few"\n', "because is required."),
        (
            'because = "x"\n[orders]\nat_most = "few"\n',
            "toml: orders.at_most must be a number of orders",
        ),
        ('because = "x"\n[orders]\nat_most = -1\n', "orders.at_most must be a number of orders"),
        ('because = "x"\n[orders]\nat_most = "-1 %"\n', "orders.at_most must be a number"),
        ('because = "x"\n[orders]\nat_most = true\n', "orders.at_most must be a number"),
        (
            'because = "x"\n[money.refunded]\nat_least = "3 %"\nat_most = "+2.5 %"\n',
            r"money.refunded has an at_least of 3 %, above its at_most of \+2.5 %.$",
        ),
        (
            'because = "x"\n[money.voided]\nat_most = "-1 %"\n',
            "money.voided has an at_least of 0 %, above its at_most of -1 %.$",
        ),
        (
            'because = "x"\n[money.voided]\nat_most = "few"\n',
            'toml: money.voided.at_most must be a percentage such as "\\+0.2 %", or "any".$',
        ),
        (
            'because = "x"\n[money.voided]\nat_least = "any"\n',
            'toml: money.voided.at_least must be a percentage such as "\\+0.2 %".$',
        ),
        (
            'because = "x"\n[money.spent]\nat_most = "1 %"\n',
            "toml: money.spent must be 'authorised', 'captured', 'refunded' or 'voided'.$",
        ),
        ('because = "x"\nmony = 1\n', "mony is not a known field."),
    ],
)
def test_declaration_that_says_nothing_is_one_sentence(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(ExpectationError, match=sentence):
        declared(tmp_path, text, Report())
    with pytest.raises(ExpectationError, match="cannot be read"):
        read_expectation(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[orders]\nwith_event = ["gift-wrapped"]', "orders.with_event has gift-wrapped, "),
        ('[commands]\naccepted = ["order-placed"]', "commands.accepted has order-placed, "),
        ('[commands]\nrejected = ["place-ordr"]', "commands.rejected has place-ordr, "),
    ],
)
def test_declared_type_that_no_rules_have_is_named(
    tmp_path: Path, text: str, sentence: str
) -> None:
    file = tmp_path / "expect.toml"
    file.write_text(f'because = "x"\n{text}\n')
    expected = read_expectation(file)
    with pytest.raises(ExpectationError, match=f"{sentence}but there is no such (event|command).$"):
        check_types(expected, known_types())

    others = '[["gift-wrapped", "order-placed"], ["order-placed", "place-ordr"]]'
    check_types(expected, known_types().with_those_in(others))


def test_nothing_is_as_declared_without_orders(tmp_path: Path) -> None:
    assert declared(tmp_path, 'because = "x"', Report()) == ["No order was rehearsed."]
