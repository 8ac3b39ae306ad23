"""What a rehearsal found, as it grows: of bounded size, however many orders there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rehearsal.recorded import RecordedOrder

Json = dict[str, Any]

KINDS = ("authorised", "captured", "refunded", "voided")
"""Of money."""
EXAMPLES_MAX = 10
"""Of differing orders, with their first difference in full."""
IDS_MAX = 10_000


@dataclass
class Report:
    """Counts and sums over all orders, and some examples."""

    orders: int = 0
    decisions: int = 0
    differing: int = 0
    order_ids: list[str] = field(default_factory=list)
    """Of the first IDS_MAX orders that differ."""
    first_differences: Counter[str] = field(default_factory=Counter)
    expected_events: frozenset[str] = frozenset()
    """Each order that differs has one of these, in fact or by the other rules; empty for any."""
    strays: list[str] = field(default_factory=list)
    """The first orders that have none of them."""
    stray: int = 0
    recorded: dict[str, Counter[str]] = field(default_factory=dict)
    """By currency and kind, the amounts of all orders that could be rehearsed, in minor units."""
    imagined: dict[str, Counter[str]] = field(default_factory=dict)
    flows: Counter[str] = field(default_factory=Counter)
    """Orders with other statuses, as in "placed → confirmed instead of placed → cancelled"."""
    changes: Counter[str] = field(default_factory=Counter)
    """Commands accepted where they were rejected, or the other way round."""
    changed_commands: dict[str, set[str]] = field(default_factory=dict)
    """By "accepted" and "rejected", the types of commands that are so now."""
    factual_events: int = 0
    imagined_events: int = 0
    matched: Counter[str] = field(default_factory=Counter)
    simulated: Counter[str] = field(default_factory=Counter)
    unclaimed: int = 0
    unreadable: int = 0
    failures: int = 0
    problems: list[str] = field(default_factory=list)
    """Sentences about the first EXAMPLES_MAX orders that could not be rehearsed."""
    without_journal: int = 0
    """Orders with inputs that the journal lacks, which are taken as they happened."""
    damaged: int = 0
    without_worker: int = 0
    """Orders whose deadline has passed by our own rules, too, without an event of it."""
    examples: list[Json] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    def add(self, order: RecordedOrder, outcome: Json) -> None:
        """Counts one order."""
        self.orders += 1
        self.decisions += outcome["decisions"]
        self.damaged += order.damaged
        if "unreadable" in outcome or "failure" in outcome:
            self._add_problem(order.order_id, outcome)
            return
        self.without_journal += order.without_journal > 0
        if "first" in outcome:
            self._add_difference(order, outcome)
        self._add_money(**outcome["money"])

    def _add_problem(self, order_id: str, outcome: Json) -> None:
        self.unreadable += "unreadable" in outcome
        self.failures += "failure" in outcome
        if len(self.problems) < EXAMPLES_MAX:
            what = outcome.get("failure", "")
            what = (
                f"these rules fail: {what}"
                if what
                else f"these rules cannot read {outcome['unreadable']}"
            )
            self.problems.append(f"Order {order_id}: {what.rstrip('.')}.")

    def _add_difference(self, order: RecordedOrder, outcome: Json) -> None:
        """Counts an order that differs."""
        self.differing += 1
        if "events" in outcome:
            self.factual_events += outcome["factual_events"]
            self.imagined_events += len(outcome["events"])
            self.matched.update(outcome["matched"])
            self.simulated.update(outcome["imagined"])
            self.unclaimed += outcome["unclaimed"]
            flow = outcome["flow"]
            if flow["imagined"] != flow["recorded"]:
                now, was = (" → ".join(flow[which]) for which in ("imagined", "recorded"))
                self.flows[f"{now} instead of {was}"] += 1
        for change in outcome.get("changes", []):
            now, was = change["now"], "rejected" if change["now"] == "accepted" else "accepted"
            self.changes[f"{change['commands']}: {now}, was {was} ({change['code']})"] += 1
            self.changed_commands.setdefault(now, set()).update(change["types"])
        types = {type_ for type_, _, _ in [*order.events, *outcome.get("events", [])]}
        if self.expected_events and not types & self.expected_events:
            self.stray += 1
            self.strays += [order.order_id] if len(self.strays) < EXAMPLES_MAX else []
        first = outcome["first"]
        self.first_differences[kind_of(first)] += 1
        if len(self.order_ids) < IDS_MAX:
            self.order_ids.append(order.order_id)
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append({"order_id": order.order_id, **first})

    def _add_money(self, recorded: Json, imagined: Json) -> None:
        """Takes the amounts by kind, by currency."""
        for totals, money in ((self.recorded, recorded), (self.imagined, imagined)):
            for currency, amounts in money.items():
                totals.setdefault(currency, Counter()).update(amounts)

    def money_changes(self) -> Iterator[tuple[str, str, int, int]]:
        """Kind, currency, and the amounts in fact and by the other rules, where they differ."""
        for currency in sorted(self.recorded.keys() | self.imagined.keys()):
            before, after = (
                each.get(currency, Counter[str]()) for each in (self.recorded, self.imagined)
            )
            for kind in KINDS:
                was, now = before[kind], after[kind]
                if was != now:
                    yield kind, currency, was, now

    @property
    def not_rehearsed(self) -> int:
        """The number of orders that these rules cannot read, or on which they fail."""
        return self.unreadable + self.failures

    def as_json(self) -> Json:
        """The report, for programs."""
        known = {name: _plain(value) for name, value in vars(self).items()}
        return known | {"not_rehearsed": self.not_rehearsed}


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return sorted(value) if isinstance(value, frozenset | set) else value


def kind_of(first: Json) -> str:
    """A first difference in words, without what differs from order to order."""
    was, now = first["recorded"], first["imagined"]
    given = ", ".join(part.partition(" ×")[0] for part in first["input"].split(", "))
    if was["code"] or now["code"]:
        return f"{given}: {_came_to(now)} instead of {_came_to(was)}"
    before, after = (Counter(type_ for type_, _, _ in each["events"]) for each in (was, now))
    if before == after:
        return f"{given}: the same events, with other data or in another order"
    parts = [("with", after - before), ("without", before - after)]
    return f"{given}: {' and '.join(f'{word} {_types(c)}' for word, c in parts if c)}"


def _came_to(decided: Json) -> str:
    if decided["code"]:
        return f"rejected ({decided['code']})"
    return _types(Counter(type_ for type_, _, _ in decided["events"])) or "nothing"


def _types(counts: Counter[str]) -> str:
    names = [*counts]
    return ", ".join(names if len(names) <= 4 else [*names[:3], "…"])
