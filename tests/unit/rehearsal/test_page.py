"""The example in docs/rehearsal.md is a report of today, on rules that can be changed so today."""

from __future__ import annotations

import json
import re

import pytest

from dev.demo import rule_changes
from dev.demo.recorded_orders import ENDED, LIVES, demo_orders
from dev.demo.rehearse import as_text
from rehearsal.child import outcome_of
from rehearsal.report import Report
from tests.support.paths import ROOT
from tests.support.rule_changes import RuleChange, applied

PAGE = (ROOT / "docs" / "rehearsal.md").read_text()
REPORTS = PAGE.split("```text\n")[-1].split("```")[0].split("=== ")[1:]
CHANGES = {
    change.title: RuleChange(
        change.title,
        change.file.removesuffix(".py").replace("/", "."),
        change.old,
        change.new,
    )
    for change in rule_changes.RULE_CHANGES
}


def test_page_has_a_report_on_the_same_rules_and_on_each_changed_one() -> None:
    assert [report.partition("\n")[0] for report in REPORTS] == ["The same rules", *CHANGES]
    placed = re.search(r"^([\d,]+) orders rehearsed", REPORTS[0], re.MULTILINE)
    assert placed is not None and int(placed[1].replace(",", "")) > 90
    assert f"\n0 orders differ, and {placed[1]} as before.\n" in REPORTS[0]


@pytest.mark.parametrize("title", CHANGES)
def test_page_names_what_a_sample_shows(title: str) -> None:
    orders, report = demo_orders(2 * len(LIVES)), Report()
    with applied(CHANGES[title]):
        for order in orders:
            report.add(order, outcome_of(json.loads(order.line(ENDED))))
    shown = next(each for each in REPORTS if each.startswith(title))

    assert report.differing
    assert any(f" × {kind}\n" in shown for kind in report.first_differences)
    headings = [line for line in as_text(title, report).splitlines() if line[:1].isupper()]
    assert {"First difference of each order"} <= set(headings)
    assert "\nFirst difference of each order\n" in shown
