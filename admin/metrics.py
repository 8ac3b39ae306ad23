"""Metrics for Prometheus: those that a process counts, and those that are read at each scrape."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import version

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Gauge,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

# Prometheus finds out by itself when a counter began again.
disable_created_metrics()  # type: ignore[no-untyped-call]

_BUILD = Gauge(
    "orderly_build_info",
    "1, labelled with the process, and the versions of orderly, its workflows and Python.",
    ["process", "version", "build_id", "python"],
)


def describe_build(process: str, build_id: str | None) -> None:
    """Notes what runs in this process."""
    _BUILD.labels(process, version("orderly"), build_id or "", platform.python_version()).set(1)


class _Read(Collector):
    """The metrics that one scrape has read."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def exposition(read: Iterable[Metric]) -> bytes:
    """What this process has counted, and what was read for this scrape, in the text format."""
    registry = CollectorRegistry()
    registry.register(_Read(read))
    return generate_latest(REGISTRY) + generate_latest(registry)
