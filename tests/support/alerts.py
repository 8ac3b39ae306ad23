"""The alerts of deploy/prometheus, and the metrics that they use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from tests.support.paths import ROOT

FOLDER = ROOT / "deploy" / "prometheus"
# What workflows count by Temporal's SDK, and what it counts itself: test_sdk_metrics.py.
OF_WORKFLOWS = {"orderly_deadlines_total", "orderly_late_deadlines_total"}
OF_THE_SDK = {
    *OF_WORKFLOWS,
    "temporal_workflow_task_schedule_to_start_latency_seconds_bucket",
}


@dataclass(frozen=True)
class Alert:
    """One alerting rule."""

    name: str
    expr: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    @property
    def metrics(self) -> set[str]:
        """The names of the metrics in its expression."""
        return set(re.findall(r"\b(?:orderly|temporal)_\w+", re.sub(r'"[^"]*"', "", self.expr)))


def all_alerts() -> list[Alert]:
    rules = yaml.safe_load((FOLDER / "orderly.rules.yml").read_text())
    return [
        Alert(rule["alert"], rule["expr"], rule["labels"], rule["annotations"])
        for group in rules["groups"]
        for rule in group["rules"]
    ]
