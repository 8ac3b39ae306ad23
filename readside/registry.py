"""The list of all projections: a new one is a module of its own and a line here."""

from __future__ import annotations

from readside.engine.projection import Projection
from readside.order_view import projection as order_view
from readside.statistics import (
    abandoned_drafts,
    lead_times,
    order_stats,
    removed_items,
    service_results,
)

PROJECTIONS: tuple[Projection, ...] = (
    order_view.PROJECTION,
    order_stats.PROJECTION,
    removed_items.PROJECTION,
    abandoned_drafts.PROJECTION,
    lead_times.PROJECTION,
    service_results.PROJECTION,
)
