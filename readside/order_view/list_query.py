"""The SQL of order lists: filters and sorts, each combination answered from an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

SORTS = ("opened_at", "placed_at", "updated_at", "total")
DEADLINE_SORT = "deadline_at"
"""The sort of orders whose deadline is in a range, and of no others."""

Position = tuple[datetime | int, str]
"""The sort value and the id of an order: where a page ends and the next one begins."""

# The range bounds of a sort at which a scan in each direction begins, by sort and `descending`.
_FIRST_BOUNDS = {
    ("placed_at", False): "placed_from",
    ("placed_at", True): "placed_until",
    ("total", False): "total_from",
    ("total", True): "total_until",
    ("deadline_at", True): "deadline_until",
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
    payment_status: str | None = None
    fulfilment_status: str | None = None
    return_status: str | None = None
    awaits: str | None = None
    attention_until: datetime | None = None
    """Something has needed attention since before this time."""
    deadline_until: datetime | None = None
    search: str | None = None
    """An id, external reference, customer id, SKU, tracking number or payment reference."""

    @property
    def sorts(self) -> Sequence[str]:
        """Those of SORTS that an index supports together with the filter, the default first."""
        opened = self.sku, self.search, self.payment_status, self.fulfilment_status
        if any(value is not None for value in (*opened, self.return_status, self.awaits)):
            return ("opened_at",)
        ranges = {
            "placed_at": (self.placed_from, self.placed_until),
            "total": (self.total_from, self.total_until),
            DEADLINE_SORT: (None, self.deadline_until),
        }
        return [sort for sort, bounds in ranges.items() if bounds != (None, None)] or SORTS

    @property
    def default_sort(self) -> str:
        """The first of `sorts`, the newest first, but for deadlines the next one."""
        column = self.sorts[0]
        return column if column == DEADLINE_SORT else f"-{column}"


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


@dataclass(frozen=True, slots=True)
class _Source:
    """A table that has the sort column, and the condition that selects its rows."""

    table: str
    condition: str | None = None

    @property
    def sql(self) -> str:
        orders = "order_view.orders AS o"
        if self.table == "o":
            return orders
        return f"order_view.{self.table} AS {self.table} JOIN {orders} USING (order_id)"


class _Statement:
    """Collects the values of a statement's parameters while its SQL is built."""

    def __init__(self, query: ListQuery, columns: str) -> None:
        self._query = query
        self._values: list[Any] = []
        self._direction = "DESC" if query.descending else "ASC"
        self._columns = columns

    def build(self) -> tuple[str, list[Any]]:
        query, clauses = self._query, self._clauses()
        limit = self._parameter(query.limit)
        # Status by status: an index has the orders of one status in order, not those of several.
        # And each kind of term that is searched for has an index of its own.
        statuses = query.filter.status
        by_status = [None] if statuses is None else list(dict.fromkeys(statuses))
        selects = [
            self._select(source, clauses, status, limit)
            for source in self._sources()
            for status in by_status
        ]
        if len(selects) == 1:
            return selects[0], self._values
        order = f"sort_value {self._direction}, order_id {self._direction}"
        # An order may have a term twice, such as a reference that is also its customer's id.
        distinct = "DISTINCT ON (sort_value, order_id) " if query.filter.search is not None else ""
        sql = (
            f"SELECT {distinct}* FROM ({' UNION ALL '.join(f'({one})' for one in selects)})"
            f" AS found ORDER BY {order} LIMIT {limit}"
        )
        return sql, self._values

    def _sources(self) -> list[_Source]:
        """The tables to look in, each with the condition that selects its rows."""
        filter = self._query.filter
        if filter.search is not None:
            term = self._parameter(filter.search)
            return [
                _Source("o", f"o.order_id = {term}"),
                _Source("o", f"o.customer_id = {term}"),
                _Source("skus", f"skus.sku = {term}"),
                _Source("terms", f"terms.term = {term}"),
            ]
        if filter.sku is not None:
            return [_Source("skus", f"skus.sku = {self._parameter(filter.sku)}")]
        return [_Source("o")]

    def _select(self, source: _Source, clauses: list[str], status: str | None, limit: str) -> str:
        table, sort = source.table, f"{source.table}.{self._query.sort}"
        conditions = [source.condition, *clauses] if source.condition else [*clauses]
        if status is not None:
            has_status = "o" if table == "terms" else table
            conditions.append(f"{has_status}.status = {self._parameter(status)}")
        if self._query.after is not None:
            beyond = "<" if self._query.descending else ">"
            position = ", ".join(map(self._parameter, self._query.after))
            conditions.append(f"({sort}, {table}.order_id) {beyond} ({position})")
        return (
            f"SELECT {self._columns}, {sort} AS sort_value FROM {source.sql}"
            f" WHERE {' AND '.join(conditions) or 'true'}"
            f" ORDER BY {sort} {self._direction}, {table}.order_id {self._direction} LIMIT {limit}"
        )

    def _parameter(self, value: object) -> str:
        self._values.append(value)
        return f"${len(self._values)}"

    def _clauses(self) -> list[str]:
        """Every condition on an order itself, but that on its status."""
        query, filter = self._query, _without_passed_bound(self._query)
        conditions = {
            "o.customer_id =": filter.customer_id,
            "o.external_reference =": filter.external_reference,
            "o.placed_at >=": filter.placed_from,
            "o.placed_at <": filter.placed_until,
            "o.total >=": filter.total_from,
            "o.total <": filter.total_until,
            "o.payment_status =": filter.payment_status,
            "o.fulfilment_status =": filter.fulfilment_status,
            "o.return_status =": filter.return_status,
            "o.awaits =": filter.awaits,
            "o.attention_since <": filter.attention_until,
            "o.deadline_at <": filter.deadline_until,
        }
        clauses = [f"{c} {self._parameter(v)}" for c, v in conditions.items() if v is not None]
        # Not as a parameter: the planner needs the literal to use a partial index.
        if filter.needs_attention is not None:
            clauses.append(f"{'' if filter.needs_attention else 'NOT '}o.needs_attention")
        elif filter.attention_until is not None:
            clauses.append("o.needs_attention")
        if query.sort == "placed_at":
            clauses.append("o.placed_at IS NOT NULL")
        if filter.sku is not None and filter.search is not None:
            clauses.append(
                "EXISTS (SELECT FROM order_view.skus AS has"
                f" WHERE has.order_id = o.order_id AND has.sku = {self._parameter(filter.sku)})"
            )
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
