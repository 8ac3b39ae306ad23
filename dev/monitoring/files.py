"""Which files are generated, and their contents."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dev.monitoring.dashboards import DASHBOARDS
from dev.monitoring.prometheus_rule import prometheus_rule

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "orderly.rules.yml"
PROMETHEUS_RULE = DEPLOY / "kubernetes" / "components" / "monitoring" / "prometheus-rule.yaml"
GRAFANA = DEPLOY / "grafana"


def generated() -> Mapping[Path, str]:
    """The text of each generated file."""
    dashboards = {GRAFANA / f"{page.uid}.json": page.json() for page in DASHBOARDS}
    return {PROMETHEUS_RULE: prometheus_rule(RULES.read_text()), **dashboards}
