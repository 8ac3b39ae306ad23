"""Recorded orders by what happens to them."""

from __future__ import annotations

from collections.abc import Callable

from dev.demo.baskets import PACKAGED_BASKETS, read_baskets
from dev.demo.recorded_orders import Shop
from rehearsal.recorded import RecordedOrder

(BASKET,) = read_baskets(PACKAGED_BASKETS, 1)


def order_of(life: Callable[[Shop], None]) -> RecordedOrder:
    """An order of one basket with a life, as it is recorded."""
    shop = Shop(0, BASKET)
    life(shop)
    return shop.recorded()
