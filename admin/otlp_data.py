"""Metrics in OpenTelemetry's data model, from the families that Prometheus gets.

A counter is a monotonic sum, and has no suffix `_total`, which Prometheus adds to such a sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from time import time_ns

from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.samples import Sample

Labels = Mapping[str, str]

UNITS = {"_seconds": "s", "_bytes": "By"}
_SCOPE = InstrumentationScope("orderly")
_CUMULATIVE = AggregationTemporality.CUMULATIVE
_STARTED_NS = time_ns()
_UNKNOWN_NS = 0


def data_of(resource: Resource, counted: Iterable[Family], read: Iterable[Family]) -> MetricsData:
    """The metrics that this process has counted since its start, and those that it has read."""
    now = time_ns()
    metrics = [
        *(_metric_of(family, _STARTED_NS, now) for family in counted),
        *(_metric_of(family, _UNKNOWN_NS, now) for family in read),
    ]
    return MetricsData([ResourceMetrics(resource, [ScopeMetrics(_SCOPE, metrics, "")], "")])


def _metric_of(family: Family, since_ns: int, now_ns: int) -> Metric:
    unit = next((unit for suffix, unit in UNITS.items() if family.name.endswith(suffix)), "")
    return Metric(family.name, family.documentation, unit, _points_of(family, since_ns, now_ns))


def _points_of(family: Family, since_ns: int, now_ns: int) -> Sum | Histogram | Gauge:
    if family.type == "histogram":
        return Histogram(_distributions(family.samples, since_ns, now_ns), _CUMULATIVE)
    if family.type == "counter":
        return Sum(_numbers(family.samples, since_ns, now_ns), _CUMULATIVE, is_monotonic=True)
    return Gauge(_numbers(family.samples, _UNKNOWN_NS, now_ns))


def _numbers(samples: Iterable[Sample], since_ns: int, now_ns: int) -> list[NumberDataPoint]:
    return [NumberDataPoint(one.labels, since_ns, now_ns, float(one.value)) for one in samples]


def _distributions(
    samples: Iterable[Sample], since_ns: int, now_ns: int
) -> list[HistogramDataPoint]:
    buckets: dict[tuple[tuple[str, str], ...], list[Sample]] = {}
    sums: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in samples:
        labels = tuple((name, value) for name, value in sample.labels.items() if name != "le")
        if sample.name.endswith("_bucket"):
            buckets.setdefault(labels, []).append(sample)
        elif sample.name.endswith("_sum"):
            sums[labels] = sample.value
    return [
        _distribution(dict(labels), of_labels, sums.get(labels), since_ns, now_ns)
        for labels, of_labels in buckets.items()
    ]


def _distribution(
    labels: Labels, buckets: Sequence[Sample], total: float | None, since_ns: int, now_ns: int
) -> HistogramDataPoint:
    """From buckets that count all values up to their bound, the last one without a bound."""
    upto = [0, *(int(bucket.value) for bucket in buckets)]
    unknown: float = None  # type: ignore[assignment]  # Optional in the protocol, and left out.
    return HistogramDataPoint(
        attributes=labels,
        start_time_unix_nano=since_ns,
        time_unix_nano=now_ns,
        count=upto[-1],
        sum=unknown if total is None else total,
        bucket_counts=[after - before for before, after in pairwise(upto)],
        explicit_bounds=[float(bucket.labels["le"]) for bucket in buckets[:-1]],
        min=unknown,
        max=unknown,
        exemplars=[found for bucket in buckets for found in _exemplars(bucket)],
    )


def _exemplars(bucket: Sample) -> list[Exemplar]:
    found = bucket.exemplar
    if found is None or found.timestamp is None:
        return []
    trace_id, span_id = (int(found.labels[name], 16) for name in ("trace_id", "span_id"))
    at_ns = int(float(found.timestamp) * 1e9)
    return [Exemplar({}, found.value, at_ns, span_id, trace_id)]
