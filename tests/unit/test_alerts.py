"""Each alert has a runbook, a test, and a failure that it is for; each failure has an alert."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
import yaml

from tests.support.alerts import FOLDER, all_alerts
from tests.support.drills import CAUSED_BY, DRILLS, NOT_DRILLED, ROUNDS
from tests.support.paths import ROOT
from tests.support.prometheus import WAIT_SECONDS, hurried

ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
ALERTS = all_alerts()
NAMES = {alert.name for alert in ALERTS}


def anchors(text: str) -> list[str]:
    """The anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


def what_can_fail() -> list[list[str]]:
    """The rows of the table in docs/architecture.md: failure, outcome, alert."""
    section = ARCHITECTURE.split("## What can fail", 1)[1].split("\n## ", 1)[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_every_alert_has_a_summary_a_severity_and_a_heading_as_its_runbook() -> None:
    assert len(NAMES) == len(ALERTS) > 20
    for alert in ALERTS:
        assert alert.labels["severity"] in ("page", "ticket"), alert.name
        assert re.fullmatch(r".+\.", alert.annotations["summary"]), alert.name
        page, _, anchor = alert.annotations["runbook_url"].partition("#")
        assert page == "docs/operations.md"
        assert anchors(OPERATIONS).count(anchor) == 1, f"{alert.name}: no heading #{anchor}"


def test_every_alert_is_tested() -> None:
    tests = yaml.safe_load((FOLDER / "orderly.test.yml").read_text())["tests"]
    assert sorted(test["name"] for test in tests) == sorted([*NAMES, "a quiet hour"])


@pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed (Debian: apt install prometheus): rules are not evaluated",
)
def test_rules_fire_as_their_tests_say() -> None:
    command = ["promtool", "test", "rules", "orderly.test.yml"]
    tested = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_every_failure_has_its_alert_or_a_reason_for_none() -> None:
    rows = what_can_fail()
    assert len(rows) > 20
    for failure, _, alert in rows:
        named = set(re.findall(r"`(Orderly\w+)`", alert))
        assert named <= NAMES, f"{failure}: unknown alerts {named - NAMES}"
        assert named or re.match(r"none: \w.{10,}", alert), f"{failure}: neither alert nor reason"


def test_every_failure_is_caused_by_a_drill_or_another_test() -> None:
    assert [failure for failure, *_ in what_can_fail()] == list(CAUSED_BY)
    for failure, causes in CAUSED_BY.items():
        tests = {cause for cause in causes if cause not in DRILLS}
        missing = [test for test in tests if not (ROOT / "tests" / test).is_file()]
        assert causes and not missing, failure


def test_every_alert_is_drilled_or_has_a_reason_for_no_drill() -> None:
    drilled = {name for names in DRILLS.values() for name in names}
    assert drilled | NOT_DRILLED.keys() == NAMES
    assert drilled & NOT_DRILLED.keys() == set()
    assert sorted(drill for drills in ROUNDS for drill in drills) == sorted(DRILLS)


def test_rules_in_a_hurry_differ_only_in_their_times() -> None:
    rules = (FOLDER / "orderly.rules.yml").read_text()
    quick = hurried(rules)
    durations = re.compile(r"for: \d+[ms]|\[\d+[ms]\]")
    assert durations.sub("", quick) == durations.sub("", rules)
    assert not re.search(r"for: \d+m|\[\d+m\]", quick) and f"for: {WAIT_SECONDS}s" in quick
