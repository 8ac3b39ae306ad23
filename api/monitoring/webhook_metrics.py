"""Metrics of webhook endpoints, read from Postgres."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from eventlog.postgres import Reader
from outbound.webhooks import deliveries, endpoints
from outbound.webhooks.deliveries import EndpointHealth
from outbound.webhooks.ownership import count_processes

_GAUGES = {
    "orderly_webhook_lag_seconds": "Age of the oldest event that the endpoint was not offered yet;"
    " paused endpoints, too. Alert above 300.",
    "orderly_webhook_parked_orders": "Orders whose next event the endpoint did not accept."
    " Alert above 0.",
    "orderly_webhook_down": "1 while the endpoint does not answer, or wants no further events."
    " Alert on it.",
}


async def read_webhooks(reader: Reader) -> list[Metric]:
    """The number of deliverers, and the health of each endpoint."""
    processes = GaugeMetricFamily(
        "orderly_deliverers",
        "Processes that post events to webhook endpoints. Alert at 0 if there are endpoints.",
        await count_processes(reader),
    )
    health = await deliveries.read_health(reader)
    status = {one.endpoint_id: one.status for one in await endpoints.find_all(reader)}
    return [processes, *_gauges(health, status), _attempts(health)]


def _gauges(health: Mapping[str, EndpointHealth], status: Mapping[str, str]) -> list[Metric]:
    families = [
        GaugeMetricFamily(name, text, labels=["endpoint"]) for name, text in _GAUGES.items()
    ]
    for endpoint_id, one in health.items():
        is_down = status.get(endpoint_id) == "gone" or one.next_try_at is not None
        for family, value in zip(
            families, (one.lag_seconds, one.parked_orders, is_down), strict=True
        ):
            family.add_metric([endpoint_id], value)
    return [*families]


def _attempts(health: Mapping[str, EndpointHealth]) -> Metric:
    family = CounterMetricFamily(
        "orderly_webhook_attempts_total",
        "Attempts to deliver an event to the endpoint.",
        labels=["endpoint", "outcome"],
    )
    for endpoint_id, one in health.items():
        family.add_metric([endpoint_id, "delivered"], one.delivered)
        family.add_metric([endpoint_id, "failed"], one.failed)
    return family
