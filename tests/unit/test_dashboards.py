"""The dashboards show only metrics that exist, and each panel shows one thing."""

from __future__ import annotations

import json
import re
from collections import Counter

from dev.monitoring.dashboards import DASHBOARDS
from tests.support.dashboards import FOLDER, OF_PROMETHEUS, queries
from tests.support.paths import ROOT

METRICS = (ROOT / "docs" / "metrics.md").read_text()
OF_A_HISTOGRAM = re.compile(r"_(bucket|count|sum)$")


def test_every_metric_of_a_panel_is_described() -> None:
    described = set(re.findall(r"`((?:orderly|temporal)_\w+)`", METRICS)) | OF_PROMETHEUS
    for query in queries():
        assert query.metrics, f"{query.panel}: no metric"
        for metric in query.metrics:
            is_known = {metric, OF_A_HISTOGRAM.sub("", metric)} & described
            assert is_known or metric.startswith("process_"), f"{query.panel}: {metric}"


def test_labels_in_a_legend_are_those_that_the_query_keeps() -> None:
    for query in queries():
        named = set(re.findall(r"\{\{(\w+)\}\}", query.legend))
        kept = {
            label.strip()
            for labels in re.findall(r"\bby \(([^)]*)\)", query.expr)
            for label in labels.split(",")
        }
        assert not kept or named <= kept, query.panel


def test_dashboards_are_of_the_files_and_have_titles_of_their_own() -> None:
    files = {file.name for file in FOLDER.glob("*.json")}
    assert files == {f"{page.uid}.json" for page in DASHBOARDS}
    for page in DASHBOARDS:
        shown = json.loads((FOLDER / f"{page.uid}.json").read_text())
        titles = Counter(panel["title"] for panel in shown["panels"] if panel["type"] != "row")
        assert max(titles.values()) == 1 and shown["uid"] == page.uid
        for panel in shown["panels"]:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24, f"{page.title} / {panel['title']}: too wide"


def test_every_alerting_state_is_on_the_on_call_dashboard() -> None:
    shown = {metric for query in queries() if "on call" in query.panel for metric in query.metrics}
    assert {"orderly_ready", "orderly_dependency_ok", "ALERTS", "up"} <= shown
