"""The dashboards of deploy/grafana, as Grafana reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.paths import ROOT

FOLDER = ROOT / "deploy" / "grafana"
OF_PROMETHEUS = {"up", "ALERTS"}
"""What Prometheus itself knows of its targets and rules."""


@dataclass(frozen=True)
class Query:
    """One query of one panel."""

    panel: str
    """The dashboard's and its own title."""
    expr: str
    legend: str

    @property
    def metrics(self) -> set[str]:
        """The names of the metrics in it."""
        plain = re.sub(r'"[^"]*"', "", self.expr)
        return set(re.findall(r"\b(?:(?:orderly|temporal|process)_\w+|up|ALERTS)\b", plain))


def queries() -> Iterator[Query]:
    """Those of all panels of all dashboards."""
    for file in sorted(FOLDER.glob("*.json")):
        page = json.loads(file.read_text())
        for panel in page["panels"]:
            for target in panel.get("targets", ()):
                where = f"{page['title']} / {panel['title']}"
                yield Query(where, target["expr"], target["legendFormat"])
