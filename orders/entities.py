"""The parts of an order: lines, discounts, authorisations, shipments and returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from operator import not_
from typing import Annotated, Literal

from pydantic import Field

from orders.commands import AddItemToOrder, AddLine
from orders.events import ItemAdded
from orders.money import scale

# Not stored while empty or zero, as for all lines of a draft.
_IF_ANY = Field(exclude_if=not_)
Count = Annotated[int, _IF_ANY]


@dataclass(frozen=True, slots=True)
class Line:
    """A quantity of one SKU. Amounts are minor units of the order's currency."""

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
        """What was agreed, without the counters."""
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
        """Reserved pieces at all stock locations."""
        return sum(self.reserved.values())

    def price_of(self, pieces: int) -> int:
        """The price of some of its pieces, less discounts, rounded half up; of all, the whole."""
        return scale(self.total - self.discount_share, pieces, self.quantity)

    def with_quantity(self, quantity: int) -> Line:
        """The line with another quantity; discount and tax change in proportion, to the cent."""
        return replace(
            self,
            quantity=quantity,
            discount=scale(self.discount, quantity, self.quantity),
            tax=scale(self.tax, quantity, self.quantity),
        )

    def with_reserved(self, location: str, pieces: int) -> Line:
        """The line with this number of pieces reserved at a stock location."""
        reserved = {**self.reserved, location: pieces}
        return replace(self, reserved={key: n for key, n in reserved.items() if n})


@dataclass(frozen=True, slots=True)
class Discount:
    """An amount off the whole order."""

    discount_id: str
    amount: int
    reason_fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class Authorisation:
    """Money that the payment service has promised, and its use so far, in minor units.

    A requested amount is claimed, whether the service has confirmed it yet or not.
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
    disputed: Count = 0
    """Taken back by the customer's bank, until the chargeback is decided."""
    captures: Annotated[Mapping[str, int], _IF_ANY] = field(default_factory=dict)
    """Captured amounts by step id: the bank may reverse one later."""
    refunds: Annotated[Mapping[str, int], _IF_ANY] = field(default_factory=dict)
    """Refunded amounts by step id: one may fail later."""

    @property
    def refundable(self) -> int:
        """What is captured, and neither refunded, about to be, nor disputed."""
        return self.captured - self.refund_requested - self.disputed

    def note_capture(self, step_id: str, amount: int) -> Authorisation:
        """The authorisation with the captured amount of a step; 0: none after all."""
        return replace(self, captures=_noted(self.captures, step_id, amount))

    def note_refund(self, step_id: str, amount: int) -> Authorisation:
        """The authorisation with the refunded amount of a step; 0: none after all."""
        return replace(self, refunds=_noted(self.refunds, step_id, amount))

    @property
    def capturable(self) -> int:
        """What can still be captured."""
        return 0 if self.closed else self.amount - self.capture_requested


ShipmentStatus = Literal["planned", "stopping", "stopped", "dispatched", "delivered", "failed"]
ReturnProgress = Literal["requested", "approved", "rejected", "received"]


@dataclass(frozen=True, slots=True)
class Shipment:
    """Pieces that travel together, from one stock location."""

    shipment_id: str
    location: str
    lines: Mapping[str, int]
    status: ShipmentStatus = "planned"
    confirmed_lines: Mapping[str, int] = field(default_factory=dict)
    """What the carrier may take: what it confirmed last, or the first booking before that."""
    tracking: str | None = None
    needs_rebooking: bool = True
    """The carrier has not been sent the current content."""
    returned: Annotated[Mapping[str, int], _IF_ANY] = field(default_factory=dict)
    """Pieces of it that came back, by line id."""

    def take_back(self, pieces: Mapping[str, int]) -> Shipment:
        """The shipment after some of its pieces came back."""
        counts = {key: self.returned.get(key, 0) + n for key, n in pieces.items()}
        return replace(self, returned={**self.returned, **counts})

    @property
    def can_depart(self) -> bool:
        return self.status in ("planned", "stopping")

    @property
    def may_ship_excess(self) -> bool:
        """Whether the carrier may still take pieces that are not to leave any more."""
        shrinking = self.status == "planned" and self.confirmed_lines not in ({}, self.lines)
        return self.status == "stopping" or shrinking


@dataclass(frozen=True, slots=True)
class PaidTerms:
    """The lines (None: there was none) and shipping charge that are paid for."""

    lines: Mapping[str, Line | None]
    shipping_charge: int


REFUND_FAILED = "refund-failed"
"""The kind of discrepancy whose resolution moves money."""


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """A report of an external service that contradicts the order, for a person to settle."""

    discrepancy_id: str
    kind: str
    service: str
    amount: int | None = None
    authorisation_id: str | None = None


@dataclass(frozen=True, slots=True)
class Chargeback:
    """Money that the customer's bank takes back."""

    chargeback_id: str
    authorisation_id: str
    amount: int


@dataclass(frozen=True, slots=True)
class Return:
    """Pieces that a customer sends back."""

    return_id: str
    lines: Mapping[str, int]
    status: ReturnProgress = "requested"
    received: Mapping[str, int] = field(default_factory=dict)

    @property
    def outstanding(self) -> Mapping[str, int]:
        """The pieces that may still come back, by line id."""
        if self.status in ("rejected", "received"):
            return {}
        return {key: n - self.received.get(key, 0) for key, n in self.lines.items()}

    def receive(self, pieces: Mapping[str, int]) -> Return:
        """The return after these pieces came back."""
        received = dict(self.received)
        for line_id, n in pieces.items():
            received[line_id] = received.get(line_id, 0) + n
        back = replace(self, received=received)
        return back if any(back.outstanding.values()) else replace(back, status="received")


def _noted(amounts: Mapping[str, int], key: str, amount: int) -> dict[str, int]:
    noted = {**amounts, key: amount}
    return {k: n for k, n in noted.items() if n}
