"""The SQL of order lists: filters and sorts, each combination answered from an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

SORTS = ("opened_at", "placed_at", "updated_at", "total")

Position = tuple[datetime | int, str]
"""The sort value and the id of an order: where a page ends and the next one begins."""

# The range bounds of a sort at which a scan in each direction begins, by sort and `descending`.
_FIRST_BOUNDS = {
    ("placed_at", False): "placed_from",
    ("placed_at", True): "placed_until",
    ("total", False): "total_from",
    ("total", True): "total_until",
}


@dataclass(frozen=True, slots=True)
class OrderFilter:
    """Which orders a list contains; None does not restrict. `from` is inclusive, `until` is not."""

    customer_id: str | None = None
    status: Sequence[str] | None = None
    needs_attention: bool | None = None
    sku: str | None = None
    external_reference: str | None = None
    placed_from: datetime | None = None
    placed_until: datetime | None = None
    total_from: int | None = None
    total_until: int | None = None

    @property
    def sorts(self) -> Sequence[str]:
        """Those of SORTS that an index supports together with the filter, the default first."""
        if self.sku is not None:
            return ("opened_at",)
        ranges = {
            "placed_at": (self.placed_from, self.placed_until),
            "total": (self.total_from, self.total_until),
        }
        return [sort for sort, bounds in ranges.items() if bounds != (None, None)] or SORTS


@dataclass(frozen=True, slots=True)
class ListQuery:
    """One page of a list; `after` is the position of the last order of the page before."""

    filter: OrderFilter
    sort: str
    descending: bool
    after: Position | None
    limit: int

    def sql(self, columns: str) -> tuple[str, list[Any]]:
        """A statement that selects columns of `o`, and the values of its parameters.

        Its last column is `sort_value`.
        """
        if self.sort not in self.filter.sorts:
            raise ValueError(f"these orders cannot be sorted by {self.sort}")
        return _Statement(self, columns).build()


class _Statement:
    """Collects the values of a statement's parameters while its SQL is built."""

    def __init__(self, query: ListQuery, columns: str) -> None:
        self._query = query
        self._values: list[Any] = []
        self._direction = "DESC" if query.descending else "ASC"
        orders, skus = "order_view.orders AS o", "order_view.skus AS s"
        self._source, self._alias = orders, "o"
        if query.filter.sku is not None:
            self._source, self._alias = f"{skus} JOIN {orders} USING (order_id)", "s"
        self._sort_column = f"{self._alias}.{query.sort}"
        self._columns = f"{columns}, {self._sort_column} AS sort_value"

    def build(self) -> tuple[str, list[Any]]:
        clauses, limit = self._clauses(), self._parameter(self._query.limit)
        statuses = self._query.filter.status
        if statuses is None:
            return self._select(clauses, limit), self._values
        # Status by status: an index has the orders of one status in order, not those of several.
        selects = [
            f"({self._select([*clauses, self._equals('status', status)], limit)})"
            for status in dict.fromkeys(statuses)
        ]
        sql = (
            f"SELECT * FROM ({' UNION ALL '.join(selects)}) AS found"
            f" ORDER BY sort_value {self._direction}, order_id {self._direction} LIMIT {limit}"
        )
        return sql, self._values

    def _select(self, clauses: list[str], limit: str) -> str:
        return (
            f"SELECT {self._columns} FROM {self._source} WHERE {' AND '.join(clauses) or 'true'}"
            f" ORDER BY {self._sort_column} {self._direction},"
            f" {self._alias}.order_id {self._direction} LIMIT {limit}"
        )

    def _parameter(self, value: object) -> str:
        self._values.append(value)
        return f"${len(self._values)}"

    def _equals(self, column: str, value: object) -> str:
        return f"{self._alias}.{column} = {self._parameter(value)}"

    def _clauses(self) -> list[str]:
        """Every condition but that on the status."""
        query, filter = self._query, _without_passed_bound(self._query)
        conditions = {
            "s.sku =": filter.sku,
            "o.customer_id =": filter.customer_id,
            "o.external_reference =": filter.external_reference,
            "o.placed_at >=": filter.placed_from,
            "o.placed_at <": filter.placed_until,
            "o.total >=": filter.total_from,
            "o.total <": filter.total_until,
        }
        clauses = [f"{c} {self._parameter(v)}" for c, v in conditions.items() if v is not None]
        # Not as a parameter: the planner needs the literal to use a partial index.
        if filter.needs_attention is not None:
            clauses.append(f"{'' if filter.needs_attention else 'NOT '}o.needs_attention")
        if query.sort == "placed_at":
            clauses.append("o.placed_at IS NOT NULL")
        if query.after is not None:
            sort_value, order_id = map(self._parameter, query.after)
            key, beyond = (
                f"{self._sort_column}, {self._alias}.order_id",
                "<" if query.descending else ">",
            )
            clauses.append(f"({key}) {beyond} ({sort_value}, {order_id})")
        return clauses


def _without_passed_bound(query: ListQuery) -> OrderFilter:
    """The filter without a bound that the position has passed: else a scan would begin there."""
    name = _FIRST_BOUNDS.get((query.sort, query.descending))
    if name is None or query.after is None:
        return query.filter
    bound, sort_value = getattr(query.filter, name), query.after[0]
    if bound is None or not (sort_value < bound if query.descending else sort_value >= bound):
        return query.filter
    return replace(query.filter, **{name: None})
