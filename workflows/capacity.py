"""The room of an order: what callers may add, so that what settles or ends an order always fits.

A snapshot must stay under Temporal's 2 MiB, of which results and rejections take up to 330 kB.
"""

from __future__ import annotations

from typing import NamedTuple

from pydantic import TypeAdapter

from orders.commands import AddNote, OrderCommand, Role
from orders.entities import Return
from orders.order import Order
from orders.rules.checks import RejectionCode
from workflows.messages import LOG_BEHIND, ORDER_TOO_LARGE, CommandBatch, ShellCode
from workflows.publisher import UNPUBLISHED_BYTES_MAX

# What is ordered, discounted and shipped: operators add it.
GOODS_BYTES_MAX = 500_000
# Notes, returns and cancellations. Customers add them, too, but leave room for operators.
REQUESTS_BYTES_MAX = 300_000
CUSTOMER_REQUESTS_BYTES_MAX = 200_000
CUSTOMER_NOTES_MAX = 500
# Of an order and its unpublished events together.
GROWTH_BYTES_MAX = 1_500_000
SNAPSHOT_BYTES_MAX = 1_700_000
# Of commands that wait for the log to be read, at least one of any size. One task executes them.
WAITING_BYTES_MAX = 500_000

_ORDER = TypeAdapter(Order)
_RETURNS = TypeAdapter(dict[str, Return])
_CLIENT_IDS = TypeAdapter(dict[str, str])
_REQUEST_KEYS = ("return:", "cancellation:")


class Shortage(NamedTuple):
    """Why an order has no room for a command batch."""

    code: RejectionCode | ShellCode
    message: str


def size_of(order: Order) -> int:
    """The bytes of an order in a snapshot."""
    return len(_ORDER.dump_json(order))


def shortage(batch: CommandBatch, order: Order, size: int, unpublished: int) -> Shortage | None:
    """Why the order after a batch has no room; None if it has.

    `size` is an upper bound of its bytes, and exact above GOODS_BYTES_MAX.
    """
    if batch.grows:
        is_full = unpublished > UNPUBLISHED_BYTES_MAX or size + unpublished > GROWTH_BYTES_MAX
        if (full := _room_of_callers(batch, order, size)) is not None:
            return full
    else:
        is_full = size + unpublished > SNAPSHOT_BYTES_MAX
    return (
        Shortage(LOG_BEHIND, "too many events of the order wait for the log") if is_full else None
    )


def shortage_of_waiting(order: Order, unpublished: int, waiting: int) -> Shortage | None:
    """Why no more commands can wait until an order has read the log; None if they can."""
    held = size_of(order) + unpublished + waiting
    is_full = waiting > WAITING_BYTES_MAX or held > SNAPSHOT_BYTES_MAX
    return (
        Shortage(LOG_BEHIND, "too many commands wait until the order has read the log")
        if is_full
        else None
    )


def _room_of_callers(batch: CommandBatch, order: Order, size: int) -> Shortage | None:
    kinds = {type(command) for command in batch.commands if isinstance(command, OrderCommand)}
    is_customer = batch.is_from_customer
    if AddNote in kinds and is_customer and len(order.notes) > CUSTOMER_NOTES_MAX:
        message = f"customers can add notes until an order holds {CUSTOMER_NOTES_MAX:,}"
        return Shortage("too-many-notes", message)
    most = CUSTOMER_REQUESTS_BYTES_MAX if is_customer else REQUESTS_BYTES_MAX
    if size > most and any(map(is_request, kinds)) and _requests_size(order) > most:
        whose = "for customers" if is_customer else "in all"
        message = f"the order has {most // 1000} kB {whose} for notes, returns and cancellations"
        return Shortage(ORDER_TOO_LARGE, message)
    is_large = size > GOODS_BYTES_MAX and any(map(is_goods, kinds))
    if is_large and size - _requests_size(order) > GOODS_BYTES_MAX:
        most = GOODS_BYTES_MAX // 1000
        message = f"the order has {most} kB for lines, discounts and shipments"
        return Shortage(ORDER_TOO_LARGE, message)
    return None


def is_request(kind: type[OrderCommand]) -> bool:
    """Whether a command adds a note, a return or a cancellation."""
    return kind.grows and kind.role is Role.CUSTOMER and kind.client_id_field is not None


def is_goods(kind: type[OrderCommand]) -> bool:
    """Whether a command adds to what is ordered, discounted or shipped."""
    return kind.grows and kind.role is Role.OPERATOR


def _requests_size(order: Order) -> int:
    """The bytes of the notes, returns and cancellations of an order."""
    keys = {k: v for k, v in order.client_ids.items() if k.startswith(_REQUEST_KEYS)}
    ids = _CLIENT_IDS.dump_json({**order.notes, **keys})
    return len(ids) + len(_RETURNS.dump_json(dict(order.returns)))
