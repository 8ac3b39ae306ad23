"""All projections there are: a new one is a file of its own and a line here."""

from __future__ import annotations

from readside import abandoned_drafts, lead_times, order_stats, order_view, removed_items
from readside.projection import Projection

PROJECTIONS: tuple[Projection, ...] = (
    order_view.PROJECTION,
    order_stats.PROJECTION,
    removed_items.PROJECTION,
    abandoned_drafts.PROJECTION,
    lead_times.PROJECTION,
)
