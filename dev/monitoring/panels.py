"""A dashboard as a table of panels, and the JSON that Grafana loads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import prometheus, stat, timeseries
from grafana_foundation_sdk.builders.common import ReduceDataOptions
from grafana_foundation_sdk.builders.dashboard import Dashboard as DashboardBuilder
from grafana_foundation_sdk.builders.dashboard import (
    DatasourceVariable,
    Row,
    ThresholdsConfig,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueColorMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef, Threshold, ThresholdsMode

# The reader chooses among the Prometheus servers of a Grafana; the first is the default.
_PROMETHEUS = DataSourceRef("prometheus", "${datasource}")
_WIDTH = 24


@dataclass(frozen=True)
class Panel:
    """Lines over time, or one number for each series."""

    title: str
    queries: Mapping[str, str]
    """Expressions by legend, which may name labels as in {{status}}."""
    unit: str = "short"
    """By Grafana's names: short, s, reqps, percentunit, bytes …"""
    is_number: bool = False
    has_exemplars: bool = False
    """Whether it shows the traces that its histogram names."""
    red_from: float | None = None
    """A number that is at least this is red."""
    red_below: float | None = None
    """A number below this is red."""


@dataclass(frozen=True)
class Dashboard:
    """One page, for one kind of reader."""

    uid: str
    title: str
    description: str
    rows: Mapping[str, Sequence[Panel]]
    since: str = "now-3h"

    def json(self) -> str:
        """It in Grafana's format."""
        page = DashboardBuilder(self.title).uid(self.uid).description(self.description)
        page.tags(["orderly"]).refresh("30s").time(self.since, "now").timezone("browser").readonly()
        page.with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        for title, panels in self.rows.items():
            page.with_row(Row(title))
            width = _WIDTH // min(len(panels), 3) if not panels[0].is_number else None
            for panel in panels:
                page.with_panel(_built(panel, width or _WIDTH // len(panels)))
        return JSONEncoder(sort_keys=True, indent=2).encode(page.build()) + "\n"


def _built(panel: Panel, width: int) -> stat.Panel | timeseries.Panel:
    built: stat.Panel | timeseries.Panel
    built = _number(panel) if panel.is_number else timeseries.Panel().fill_opacity(10).min(0)
    built.title(panel.title).unit(panel.unit).datasource(_PROMETHEUS)
    built.span(width).height(4 if panel.is_number else 8)
    for place, (legend, expr) in enumerate(panel.queries.items()):
        query = prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(chr(65 + place))
        if panel.has_exemplars:
            query.exemplar(exemplar=True)
        built.with_target(query.instant() if panel.is_number else query.range())
    return built


def _number(panel: Panel) -> stat.Panel:
    colours = [Threshold(color="green")]
    if panel.red_from is not None:
        colours.append(Threshold(panel.red_from, "red"))
    if panel.red_below is not None:
        colours = [Threshold(color="red"), Threshold(panel.red_below, "green")]
    thresholds = ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(colours)
    last = ReduceDataOptions().calcs(["lastNotNull"])
    number = stat.Panel().thresholds(thresholds).color_mode(BigValueColorMode.VALUE)
    return number.reduce_options(last)
