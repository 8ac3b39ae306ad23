"""Sums over the lines of an order; after a change of some lines, only those are looked at again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from orders.entities import Line


class LineSums(NamedTuple):
    """Sums over all lines. Prices are in minor units, without the shipping charge."""

    total: int = 0
    """The price of all pieces, before the discounts on the order."""
    kept: int = 0
    """Pieces that are not cancelled."""
    kept_price: int = 0
    unshipped: int = 0
    """Pieces that are still to leave."""
    reserved: int = 0
    shipped: int = 0
    shipped_price: int = 0
    delivered: int = 0
    returned_price: int = 0
    unarrived_lines: int = 0
    """Lines of which pieces are neither delivered nor cancelled."""
    short_lines: int = 0
    """Lines with more pieces to leave than are reserved."""
    excess_lines: int = 0
    """Lines with more reserved pieces than are to leave."""

    def after(self, before: Mapping[str, Line], lines: Mapping[str, Line]) -> LineSums:
        """The sums of `lines`; these are the sums of `before`."""
        sums = self
        for sign, line in _changes(before, lines):
            sums = LineSums(*(n + sign * part for n, part in zip(sums, _of(line), strict=True)))
        return sums


def _changes(before: Mapping[str, Line], lines: Mapping[str, Line]) -> Iterator[tuple[int, Line]]:
    """The lines to add (+1) and to subtract (-1)."""
    added = 0
    for key, line in lines.items():
        known = before.get(key)
        if known is line:
            continue
        yield +1, line
        if known is None:
            added += 1
        else:
            yield -1, known
    if len(before) + added != len(lines):
        for key in before.keys() - lines.keys():
            yield -1, before[key]


def _of(line: Line) -> LineSums:
    """The part of one line."""
    kept, unshipped, reserved = line.quantity - line.cancelled, line.unshipped, 0
    if line.reserved:
        reserved = line.reserved_quantity
    shipped_price = line.price_of(line.shipped) if line.shipped else 0
    return LineSums(
        total=line.total,
        kept=kept,
        kept_price=line.price_of(kept) if kept else 0,
        unshipped=unshipped,
        reserved=reserved,
        shipped=line.shipped,
        shipped_price=shipped_price,
        delivered=line.delivered,
        returned_price=(
            shipped_price - line.price_of(line.shipped - line.returned) if line.returned else 0
        ),
        unarrived_lines=line.delivered + line.cancelled != line.quantity,
        short_lines=unshipped > reserved,
        excess_lines=unshipped < reserved,
    )
