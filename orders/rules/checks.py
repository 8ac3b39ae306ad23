"""The rejection of a command, and the checks that several rules share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeVar

from orders import commands as c
from orders.commands import LineQuantity, OrderCommand
from orders.entities import Line
from orders.lifecycle import Status
from orders.money import TOTAL_MAX, format_amount
from orders.order import Order
from orders.policy import Policy
from orders.text import fingerprint_of

T = TypeVar("T")

# `api/problems/catalog.py` explains each of them to callers.
RejectionCode = Literal[
    "already-shipped",
    "currency-mismatch",
    "discount-exceeds-price",
    "discounts-exceed-total",
    "exceeds-authorised",
    "exceeds-captured",
    "id-already-used",
    "multiple-locations",
    "no-declined-payment",
    "no-lines",
    "no-shortfall",
    "not-allowed-now",
    "outcome-not-possible",
    "payment-pending",
    "return-decided",
    "return-not-approved",
    "return-received",
    "return-window-closed",
    "settlement-incomplete",
    "shipment-changing",
    "shipment-not-dispatched",
    "shipment-stopped",
    "too-many-discounts",
    "too-many-lines",
    "too-many-notes",
    "too-many-pieces",
    "too-many-shipments",
    "total-too-large",
    "unknown-id",
]


class CommandRejected(Exception):
    """A rule rejects a command.

    `code` is stable and meant for programs; `field` is the field to change, if it is a single one;
    `index` is the position of the command in its batch.
    """

    def __init__(self, message: str, code: RejectionCode, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code: RejectionCode = code
        self.field = field
        self.index = 0


def require(key: str, entries: Mapping[str, T], field: str) -> T:
    """The entry of an id; rejects an unknown one."""
    if key not in entries:
        raise CommandRejected(
            f"the order has no {field.removesuffix('_id')} {key}", "unknown-id", field
        )
    return entries[key]


def policy_of(order: Order) -> Policy:
    """The policy of an order with fulfilment; without one, no command or result needs it."""
    assert order.policy is not None
    return order.policy


def check_id_free(
    key: str, entries: Mapping[str, object], removed: frozenset[str], field: str
) -> None:
    if key in entries:
        raise CommandRejected(f"{key} already exists, with other content", "id-already-used", field)
    if key in removed:
        raise CommandRejected(
            f"{key} was removed; an id is used once only", "id-already-used", field
        )


def check_capacity(entries: Mapping[str, object], most: int, code: RejectionCode) -> None:
    if len(entries) >= most:
        things = code.removeprefix("too-many-")
        raise CommandRejected(f"an order holds at most {most:,} {things}", code)


def check_line(line: Line, currency: str, field: str) -> None:
    price = line.total - line.discount_share
    if price < 0:
        raise CommandRejected(
            f"the discount makes the line {format_amount(price, currency)}; it cannot be negative",
            "discount-exceeds-price",
            field,
        )


def check_pieces(
    lines: list[LineQuantity], known: Mapping[str, Line], most: Mapping[str, int], what: str
) -> dict[str, int]:
    """The pieces by line id; rejects more than there are of `what`."""
    wanted: dict[str, int] = {}
    for part in lines:
        require(part.line_id, known, "line_id")
        wanted[part.line_id] = wanted.get(part.line_id, 0) + part.quantity
    for line_id, pieces in wanted.items():
        if pieces > most.get(line_id, 0):
            raise CommandRejected(
                f"line {line_id} has {most.get(line_id, 0)} pieces {what}, not {pieces}",
                "too-many-pieces",
                "lines",
            )
    return wanted


def check_currency(command: OrderCommand, order: Order) -> None:
    match command:
        case (
            c.AddItemToOrder(currency=str(currency))
            | c.ApplyDiscount(currency=str(currency))
            | c.SetShippingCharge(currency=str(currency))
        ):
            if currency != order.currency and order.status is not Status.NEW:
                raise CommandRejected(
                    f"the order is in {order.currency}, not {currency}",
                    "currency-mismatch",
                    "currency",
                )


def check_totals(order: Order, field: str | None) -> None:
    subtotal = order.subtotal
    if subtotal + order.shipping_charge > TOTAL_MAX:
        raise CommandRejected(
            f"the lines and shipping of an order total at most {TOTAL_MAX:,}", "total-too-large"
        )
    total = subtotal - order.discounted
    if total < 0:
        raise CommandRejected(
            f"the discounts make the order {format_amount(total, order.currency)}; "
            "it cannot be negative",
            "discounts-exceed-total",
            field,
        )


def fingerprint(command: OrderCommand) -> str:
    """A hash of the content: tells a repeated command from another one with its client id."""
    return fingerprint_of(command.model_dump_json(exclude={"type", "currency"}))
