"""Metrics of the relays to message brokers, read from Postgres."""

from __future__ import annotations

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from eventlog.postgres import Reader
from outbound.relay.cursors import read_health


async def read_relays(reader: Reader) -> list[Metric]:
    """The health of every relay that has ever run."""
    running, lag, failing = (
        GaugeMetricFamily(f"orderly_relay_{name}", text, labels=["relay"])
        for name, text in {
            "running": "1 while a process publishes to the broker. Alert at 0.",
            "lag_seconds": "Age of the oldest event that is not published yet. Alert above 60.",
            "failing": "1 while the broker does not accept events. Alert on it.",
        }.items()
    )
    published = CounterMetricFamily(
        "orderly_relay_published_total", "Events that the broker has stored.", labels=["relay"]
    )
    for one in await read_health(reader):
        running.add_metric([one.relay], one.is_running)
        lag.add_metric([one.relay], one.lag_seconds)
        failing.add_metric([one.relay], one.failing_since is not None)
        published.add_metric([one.relay], one.published)
    return [running, lag, failing, published]
