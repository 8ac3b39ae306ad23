"""Metrics of the business: open orders, and what was sold today; read from the read models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import asyncpg
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from eventlog.postgres import OTHER_TABLES
from readside.order_view.open_orders import count_open
from readside.statistics import order_stats
from readside.statistics.order_stats import DailyOrderStats

_STAGES = ("opened", "placed", "confirmed", "completed", "cancelled", "expired")
_AMOUNTS = ("placed", "captured", "refunded")


async def read_business(pool: asyncpg.Pool) -> list[Metric]:
    """They are missing while the read models are those of another version."""
    today = datetime.now(UTC).date()
    try:
        open_orders = await count_open(pool)
        daily = await order_stats.by_day(pool, today, today)
    except OTHER_TABLES:
        return []
    return [_open(open_orders), _stages(daily), _money(daily)]


def _open(orders: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(
        "orderly_open_orders",
        "Orders that have not ended, by status; 50,000 of each at most.",
        labels=["status"],
    )
    for status, number in orders.items():
        family.add_metric([status], number)
    return family


def _stages(daily: Sequence[DailyOrderStats]) -> Metric:
    family = CounterMetricFamily(
        "orderly_orders_total",
        "Orders that have reached a stage since midnight (UTC).",
        labels=["stage", "currency"],
    )
    for one in daily:
        for stage in _STAGES:
            family.add_metric([stage, one.currency], getattr(one, stage))
    return family


def _money(daily: Sequence[DailyOrderStats]) -> Metric:
    family = CounterMetricFamily(
        "orderly_money_minor_units_total",
        "Money of orders placed, captured and refunded since midnight (UTC), in minor units.",
        labels=["kind", "currency"],
    )
    for one in daily:
        for kind in _AMOUNTS:
            family.add_metric([kind, one.currency], getattr(one, f"{kind}_amount"))
    return family
