"""An order as its events say it is: what is stored, and what follows from it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from operator import not_
from typing import Annotated, Literal

from pydantic import Field

from orders.commands import AddItemToOrder, AddLine
from orders.events import ItemAdded
from orders.money import allocate
from orders.policy import Policy
from orders.steps import AnyStep, Book, Stop


class Status(StrEnum):
    """How far an order has come. `new` is the order that nobody has opened yet."""

    NEW = "new"
    DRAFT = "draft"
    PLACED = "placed"
    AWAITING_CUSTOMER = "awaiting_customer"
    CONFIRMED = "confirmed"
    ON_HOLD = "on_hold"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


ENDED = frozenset({Status.COMPLETED, Status.CANCELLED, Status.EXPIRED})


# Not written where there is none: of the many lines of a draft, nothing has come yet.
_IF_ANY = Field(exclude_if=not_)
Count = Annotated[int, _IF_ANY]


@dataclass(frozen=True, slots=True)
class Line:
    """So many pieces of one SKU. Amounts are minor units of the order's currency."""

    line_id: str
    sku: str
    title: str
    quantity: int
    unit_price: int
    discount: int
    tax: int
    discount_share: Count = 0
    """The line's part of the discounts on the whole order, fixed when it was placed."""
    reserved: Annotated[Mapping[str, int], _IF_ANY] = field(default_factory=dict)
    """Reserved pieces that have not left, by stock location."""
    cancelled: Count = 0
    shipped: Count = 0
    delivered: Count = 0
    returned: Count = 0

    @classmethod
    def of(cls, item: AddItemToOrder | AddLine | ItemAdded) -> Line:
        return cls(
            line_id=item.line_id,
            sku=item.sku,
            title=item.title,
            quantity=item.quantity,
            unit_price=item.unit_price,
            discount=item.discount,
            tax=item.tax,
        )

    @property
    def terms(self) -> tuple[str, str, int, int, int, int]:
        """What was agreed, whatever has come of it."""
        return self.sku, self.title, self.quantity, self.unit_price, self.discount, self.tax

    @property
    def total(self) -> int:
        return self.quantity * self.unit_price - self.discount + self.tax

    @property
    def unshipped(self) -> int:
        """Pieces that are still to leave."""
        return self.quantity - self.cancelled - self.shipped

    @property
    def reserved_quantity(self) -> int:
        return sum(self.reserved.values())

    def value(self, pieces: int) -> int:
        """What so many of its pieces cost, discounts off; all of them cost exactly the whole."""
        return allocate(self.total - self.discount_share, [pieces, self.quantity - pieces])[0]


@dataclass(frozen=True, slots=True)
class Discount:
    """An amount off the whole order."""

    discount_id: str
    amount: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class Authorisation:
    """Money that the payment service has promised, and what became of it, in minor units.

    What was asked for is claimed, whether it has happened yet or not.
    """

    authorisation_id: str
    amount: int
    reference: str
    capture_by: datetime
    capture_requested: int = 0
    captured: int = 0
    refund_requested: int = 0
    refunded: int = 0
    closed: bool = False
    """Nothing more can be captured."""

    @property
    def capturable(self) -> int:
        """What can still be captured."""
        return 0 if self.closed else self.amount - self.capture_requested


@dataclass(frozen=True, slots=True)
class Shipment:
    """Pieces that travel together, from one stock location."""

    shipment_id: str
    location: str
    lines: Mapping[str, int]
    status: Literal["planned", "stopping", "stopped", "dispatched", "delivered", "failed"] = (
        "planned"
    )
    confirmed_lines: Mapping[str, int] = field(default_factory=dict)
    """What the carrier may take along: what it agreed to last, or was asked to take at first."""
    tracking: str | None = None
    needs_rebooking: bool = True
    """The carrier has not been told how it is now."""

    @property
    def can_depart(self) -> bool:
        return self.status in ("planned", "stopping")

    @property
    def may_ship_excess(self) -> bool:
        """Whether the carrier may take along what is not to leave any more."""
        shrinking = self.status == "planned" and self.confirmed_lines not in ({}, self.lines)
        return self.status == "stopping" or shrinking


@dataclass(frozen=True, slots=True)
class Return:
    """Pieces that a customer sends back."""

    return_id: str
    lines: Mapping[str, int]
    reason: str | None
    status: Literal["requested", "approved", "rejected", "received"] = "requested"
    received: Mapping[str, int] = field(default_factory=dict)

    @property
    def outstanding(self) -> Mapping[str, int]:
        """By line, the pieces that may still come back under it."""
        if self.status in ("rejected", "received"):
            return {}
        return {key: n - self.received.get(key, 0) for key, n in self.lines.items()}


@dataclass(frozen=True)
class Order:
    """One order, as its events say. Treat the mappings as frozen: `evolve` makes new ones."""

    version: int = 0
    status: Status = Status.NEW
    customer_id: str = ""
    currency: str = ""
    external_reference: str | None = None
    lines: Mapping[str, Line] = field(default_factory=dict)
    discounts: Mapping[str, Discount] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    # Ids stay used after a removal: a late duplicate must not bring a line back.
    removed_lines: frozenset[str] = frozenset()
    removed_discounts: frozenset[str] = frozenset()
    policy: Policy | None = None
    """None for an order that was opened before there was any fulfilment: it asks nobody."""
    shipping_charge: int = 0
    shipping_address: str | None = None
    billing_address: str | None = None
    payment_method: str | None = None
    is_priced: bool = False
    """Each line's share of the discounts is fixed, so that single pieces have a value."""
    confirmed: bool = False
    awaiting: Literal["payment", "shortfall"] | None = None
    """What a customer has to decide on."""
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
    """To be captured in all, whatever has left."""
    goodwill: int = 0
    """Given back for goodwill."""
    shipments: Mapping[str, Shipment] = field(default_factory=dict)
    returns: Mapping[str, Return] = field(default_factory=dict)
    client_ids: Mapping[str, str] = field(default_factory=dict)
    """By their own ids, the fingerprints of the commands that added something."""
    steps: Mapping[str, Annotated[AnyStep, Field(discriminator="type")]] = field(
        default_factory=dict
    )
    """What is owed by other services, by step id."""
    stuck_steps: Mapping[str, str] = field(default_factory=dict)
    """Why steps do not get on, by step id."""

    @property
    def subtotal(self) -> int:
        return sum(line.total for line in self.lines.values())

    @property
    def discounted(self) -> int:
        return sum(discount.amount for discount in self.discounts.values())

    @property
    def total(self) -> int:
        """What the customer is to pay for all that is not called off piece by piece."""
        if not self.is_priced:
            return self.subtotal - self.discounted + self.shipping_charge
        return self.price_of({key: n.quantity - n.cancelled for key, n in self.lines.items()})

    def price_of(self, pieces: Mapping[str, int]) -> int:
        """What so many pieces of each line cost; shipping is charged once there are any."""
        if not any(pieces.values()):
            return 0
        return self.shipping_charge + sum(self.lines[key].value(n) for key, n in pieces.items())

    def discount_shares(self) -> dict[str, int]:
        """By line id, each line's part of the order's discounts; the parts sum to `discounted`."""
        if not self.lines:
            return {}
        if self.is_priced:
            return {key: line.discount_share for key, line in self.lines.items()}
        totals = [line.total for line in self.lines.values()]
        return dict(zip(self.lines, allocate(self.discounted, totals), strict=True))

    def missing(self) -> dict[str, int]:
        """By line id, the pieces still to leave that no stock is held for."""
        short = {key: line.unshipped - line.reserved_quantity for key, line in self.lines.items()}
        return {key: n for key, n in short.items() if n > 0}

    def planned(self, line_id: str, location: str | None = None) -> int:
        """How many pieces, of those at a location or of all, are in shipments that will leave."""
        return sum(
            s.lines.get(line_id, 0)
            for s in self.shipments.values()
            if s.status == "planned" and location in (None, s.location)
        )

    def shipment_steps(self, shipment_id: str) -> Iterable[str]:
        """The ids of the steps that are owed for a shipment."""
        for step_id, step in self.steps.items():
            if isinstance(step, Book | Stop) and step.shipment_id == shipment_id:
                yield step_id


def evolve_fields(order: Order, **changes: object) -> Order:
    """`dataclasses.replace` at a tenth of its price: an order has many fields, and many events."""
    assert changes.keys() <= Order.__dataclass_fields__.keys(), changes
    copy = object.__new__(Order)
    copy.__dict__.update(order.__dict__, **changes)
    return copy
