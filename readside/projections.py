"""All projections there are: a new one is a file of its own and a line here."""

from __future__ import annotations

from readside import order_view
from readside.projection import Projection

PROJECTIONS: tuple[Projection, ...] = (order_view.PROJECTION,)
