"""An order as its events describe it: its state, what follows from it, and its changes. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from operator import is_
from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import Field

from orders.entities import (
    Authorisation,
    Chargeback,
    Discount,
    Discrepancy,
    Line,
    PaidTerms,
    Return,
    Shipment,
)
from orders.lifecycle import ENDED, Decision, Status
from orders.line_sums import LineSums
from orders.money import allocate
from orders.policy import Policy
from orders.steps import AnyStep, Book, Held, Stop

__all__ = ["Order", "evolve_fields", "without"]

T = TypeVar("T")

if TYPE_CHECKING:
    from dataclasses import replace as evolve_fields
else:

    def evolve_fields(order, **changes):
        """`dataclasses.replace` without the `__init__` of a frozen class of 32 fields.

        A copy takes 2 µs instead of 13, and every event makes two or more: catching up takes 102
        instead of 136 µs of processor time per event. Measure a copy with
        python -m timeit -p -s "from orders.order import Order, evolve_fields as change"
        -s "order = Order()" "change(order, version=1)", and replace with `dataclasses.replace`.
        """
        copy = object.__new__(Order)
        copy.__dict__.update(order.__dict__, **changes)
        return copy


@dataclass(frozen=True)
class Order:
    """One order. Treat the mappings as frozen: a change makes new ones."""

    version: int = 0
    status: Status = Status.NEW
    customer_id: str = ""
    currency: str = ""
    external_reference: str | None = None
    lines: Mapping[str, Line] = field(default_factory=dict)
    discounts: Mapping[str, Discount] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    """Fingerprints of the texts, by id. Texts that no rule needs are in the log only."""
    # Removed ids stay used: a late duplicate must not bring a line back.
    removed_lines: frozenset[str] = frozenset()
    removed_discounts: frozenset[str] = frozenset()
    policy: Policy | None = None
    """None for an order without fulfilment: it sends no request to other services."""
    shipping_charge: int = 0
    shipping_address: str | None = None
    billing_address: str | None = None
    payment_method: str | None = None
    is_priced: bool = False
    """Each line's share of the discounts is fixed, so that single pieces have a price."""
    confirmed: bool = False
    awaiting: Decision | None = None
    """The decision that the customer has to make."""
    shortfall_accepted: bool = False
    cancel_reason: str | None = None
    # Deadlines, as absolute times: timers end with each run of a workflow.
    expires_at: datetime | None = None
    answer_by: datetime | None = None
    return_by: datetime | None = None
    return_window_closed: bool = False
    # Money, in minor units.
    authorisations: Mapping[str, Authorisation] = field(default_factory=dict)
    prepaid: int = 0
    """The amount to capture in all, even if less has been shipped."""
    goodwill: int = 0
    """Refunds that no return or cancellation requires."""
    unrefunded: int = 0
    """Refunds that failed; they are not requested again by themselves."""
    shipments: Mapping[str, Shipment] = field(default_factory=dict)
    returns: Mapping[str, Return] = field(default_factory=dict)
    client_ids: Mapping[str, str] = field(default_factory=dict)
    """Fingerprints of the commands that added something, by `events.client_key`."""
    steps: Mapping[str, Annotated[AnyStep, Field(discriminator="type")]] = field(
        default_factory=dict
    )
    """Requests to other services that have no result yet, by step id."""
    stuck_steps: Mapping[str, str] = field(default_factory=dict)
    """Why a step is stuck, by step id."""
    discrepancies: Mapping[str, Discrepancy] = field(default_factory=dict)
    """Reports of external services that contradict the order and that no person settled yet."""
    chargebacks: Mapping[str, Chargeback] = field(default_factory=dict)
    """Open ones, by id."""
    unpaid_amendment: PaidTerms | None = None
    """The terms before an amendment of a confirmed order whose increment is not authorised."""

    # What follows from the state

    def remember(self, compute: Callable[[Order], T], *fields: str) -> T:
        """`compute(self)`, which depends on these fields; computed again once one of them changed.

        A change makes a new mapping, so an equal value is the same object. Orders that come from
        one another share what they remember.
        """
        memory = self.__dict__.setdefault("_memory", {})
        inputs = [getattr(self, name) for name in fields]
        known = memory.get(compute)
        if known is None or not all(map(is_, known[0], inputs)):
            known = memory[compute] = inputs, compute(self)
        value: T = known[1]
        return value

    @property
    def sums(self) -> LineSums:
        """Sums over its lines."""
        memory = self.__dict__.setdefault("_memory", {})
        before: Mapping[str, Line]
        sums: LineSums
        before, sums = memory.get("sums", ({}, LineSums()))
        if before is not self.lines:
            sums = sums.after(before, self.lines)
            memory["sums"] = self.lines, sums
        return sums

    @property
    def subtotal(self) -> int:
        return self.sums.total

    @property
    def discounted(self) -> int:
        return sum(discount.amount for discount in self.discounts.values())

    @property
    def total(self) -> int:
        """The price of all pieces that are not cancelled."""
        if not self.is_priced:
            return self.subtotal - self.discounted + self.shipping_charge
        return self.sums.kept_price + self.shipping_charge if self.sums.kept else 0

    def discount_shares(self) -> dict[str, int]:
        """Each line's part of the order's discounts; the parts sum to `discounted`."""
        if not self.lines:
            return {}
        if self.is_priced:
            return {key: line.discount_share for key, line in self.lines.items()}
        totals = [line.total for line in self.lines.values()]
        return dict(zip(self.lines, allocate(self.discounted, totals), strict=True))

    def missing(self) -> dict[str, int]:
        """The pieces still to leave for which no stock is reserved, by line id."""
        if not self.sums.short_lines:
            return {}
        short = {key: line.unshipped - line.reserved_quantity for key, line in self.lines.items()}
        return {key: n for key, n in short.items() if n > 0}

    def planned(self, line_id: str, location: str | None = None) -> int:
        """Pieces of a line in planned shipments, from one stock location or from all."""
        return self.planned_pieces.get((line_id, location), 0)

    @property
    def planned_pieces(self) -> Mapping[tuple[str, str | None], int]:
        """Pieces in planned shipments, by line id and stock location; of all locations by None."""
        return self.remember(_planned_pieces, "shipments")

    def owes(self, *kinds: type[AnyStep]) -> bool:
        """Whether a step of one of these kinds has no result yet."""
        return any(map(self.count_steps, kinds))

    def count_steps(self, kind: type[AnyStep]) -> int:
        """The number of steps of a kind that have no result yet."""
        return self.remember(_step_kinds, "steps")[kind]

    @property
    def may_ship_excess(self) -> bool:
        """Whether a carrier may still take pieces that the order has cancelled."""
        return self.remember(_may_ship_excess, "shipments")

    @property
    def has_shipped(self) -> bool:
        return self.sums.shipped > 0

    @property
    def has_arrived(self) -> bool:
        """Whether something was delivered, and all that is not cancelled was."""
        return self.sums.delivered > 0 and not self.sums.unarrived_lines

    def returnable(self) -> dict[str, int]:
        """The delivered pieces that no return has taken back or may still take, by line id."""
        outstanding: Counter[str] = Counter()
        for back in self.returns.values():
            outstanding.update(back.outstanding)
        return {
            key: line.delivered - line.returned - outstanding[key]
            for key, line in self.lines.items()
        }

    def stock_locations(self) -> list[str]:
        """The locations where stock is reserved for the order."""
        return self.remember(_stock_locations, "lines")

    def next_step_id(self, kind: str, after: int = 0) -> str:
        """A step's id, from the version of the event that adds it: the next, or `after` later."""
        return f"{kind}-{self.version + 1 + after}"

    def unshipped(self) -> dict[str, int]:
        """The pieces still to leave, by line id."""
        if not self.sums.unshipped:
            return {}
        return {key: line.unshipped for key, line in self.lines.items() if line.unshipped}

    # Its status

    def resume(self) -> Order:
        """The status between placing and the end, unless the order is held or ending."""
        if self.status in ENDED or self.status in (Status.CANCELLING, Status.ON_HOLD):
            return self
        return self.release()

    def release(self) -> Order:
        """As `resume`, for an order that was held."""
        if self.awaiting:
            return evolve_fields(self, status=Status.AWAITING_CUSTOMER)
        return evolve_fields(self, status=Status.CONFIRMED if self.confirmed else Status.PLACED)

    def await_decision(self, decision: Decision, answer_by: datetime) -> Order:
        return evolve_fields(self, awaiting=decision, answer_by=answer_by).resume()

    def clear_decision(self) -> Order:
        """After a change that may be the awaited decision: the order tries again."""
        return evolve_fields(self, awaiting=None, answer_by=None).resume()

    # Its lines

    def with_line(self, line: Line) -> Order:
        return evolve_fields(self, lines={**self.lines, line.line_id: line})

    def adjust_lines(self, pieces: Mapping[str, int], **signs: int) -> Order:
        """Adds (+1) the pieces to the named counters of their lines, or subtracts (-1) them."""
        lines = dict(self.lines)
        for line_id, n in pieces.items():
            line = lines[line_id]
            counts = {counter: getattr(line, counter) + sign * n for counter, sign in signs.items()}
            lines[line_id] = replace(line, **counts)
        return evolve_fields(self, lines=lines)

    def adjust_reserved(self, held: list[Held], sign: int) -> Order:
        """Adds (+1) the pieces to the reserved stock of their lines, or subtracts (-1) them."""
        lines = dict(self.lines)
        for part in held:
            line = lines[part.line_id]
            pieces = line.reserved.get(part.location, 0) + sign * part.quantity
            lines[part.line_id] = line.with_reserved(part.location, pieces)
        return evolve_fields(self, lines=lines)

    # Its steps

    def add_step(self, step: AnyStep) -> Order:
        return evolve_fields(self, steps={**self.steps, step.step_id: step})

    def finish_step(self, step_id: str) -> Order:
        return evolve_fields(
            self, steps=without(self.steps, step_id), stuck_steps=without(self.stuck_steps, step_id)
        )

    def shipment_steps(self, shipment_id: str) -> Iterable[str]:
        """The ids of the unfinished steps of a shipment."""
        for step_id, step in self.steps.items():
            if isinstance(step, (Book, Stop)) and step.shipment_id == shipment_id:
                yield step_id

    def drop_shipment_steps(self, shipment_id: str) -> Order:
        order = self
        for step_id in self.shipment_steps(shipment_id):
            order = order.finish_step(step_id)
        return order

    # Its money, shipments and returns

    def with_authorisation(self, authorisation: Authorisation) -> Order:
        key = authorisation.authorisation_id
        return evolve_fields(self, authorisations={**self.authorisations, key: authorisation})

    def adjust_authorisation(self, authorisation_id: str, **amounts: int) -> Order:
        """Adds the amounts to the named amounts of an authorisation."""
        known = self.authorisations[authorisation_id]
        changed = {key: getattr(known, key) + amount for key, amount in amounts.items()}
        return self.with_authorisation(replace(known, **changed))

    def with_shipment(self, shipment: Shipment) -> Order:
        return evolve_fields(self, shipments={**self.shipments, shipment.shipment_id: shipment})

    def origins(self, pieces: Mapping[str, int]) -> list[tuple[Shipment, dict[str, int]]]:
        """The delivered shipments that pieces came from, the latest first, and which of them."""
        left, found = dict(pieces), []
        for shipment in reversed(list(self.shipments.values())):
            if shipment.status != "delivered":
                continue
            back = {
                key: min(left.get(key, 0), n - shipment.returned.get(key, 0))
                for key, n in shipment.lines.items()
            }
            back = {key: n for key, n in back.items() if n > 0}
            left = {key: n - back.get(key, 0) for key, n in left.items()}
            if back:
                found.append((shipment, back))
        return found

    def with_return(self, back: Return) -> Order:
        return evolve_fields(self, returns={**self.returns, back.return_id: back})


def _planned_pieces(order: Order) -> dict[tuple[str, str | None], int]:
    planned: dict[tuple[str, str | None], int] = {}
    for shipment in order.shipments.values():
        if shipment.status != "planned":
            continue
        for line_id, pieces in shipment.lines.items():
            for key in ((line_id, shipment.location), (line_id, None)):
                planned[key] = planned.get(key, 0) + pieces
    return planned


def _step_kinds(order: Order) -> Counter[type[AnyStep]]:
    return Counter(map(type, order.steps.values()))


def _may_ship_excess(order: Order) -> bool:
    return any(shipment.may_ship_excess for shipment in order.shipments.values())


def _stock_locations(order: Order) -> list[str]:
    return sorted({location for line in order.lines.values() for location in line.reserved})


def without(entries: Mapping[str, T], key: str) -> dict[str, T]:
    """The mapping without one key."""
    return {k: entry for k, entry in entries.items() if k != key}
