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
from prometheus_client.exposition import CONTENT_TYPE_LATEST, choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

# Prometheus finds out by itself when a counter began again.
disable_created_metrics()  # type: ignore[no-untyped-call]

OPEN_METRICS = "application/openmetrics-text"

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


def exposition(read: Iterable[Metric], sdk: bytes, accept: str = "") -> tuple[bytes, str]:
    """What this process has counted, what was read for this scrape, and what Temporal's SDK counts.

    In OpenMetrics, with exemplars, if the Accept header names it, else in the text format; returns
    the content type as well.
    """
    if OPEN_METRICS in accept:
        encode, content_type = choose_encoder(accept)
        return encode(_registry([*REGISTRY.collect(), *read, *of_sdk(sdk)])), content_type
    return generate_latest(REGISTRY) + generate_latest(_registry(read)) + sdk, CONTENT_TYPE_LATEST


def of_sdk(text: bytes) -> Iterable[Metric]:
    """The metrics in the text of Temporal's SDK."""
    return text_string_to_metric_families(text.decode())


def _registry(families: Iterable[Metric]) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_Read(families))
    return registry
