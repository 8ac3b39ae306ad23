"""Who carries out which step, how patiently, and what the Web UI calls it."""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from temporalio.common import RetryPolicy

from orders import steps as o
from orders.money import formatted

# Activities are called by name: the workflow knows what is owed, not who does it.
PUBLISH_EVENTS = "publish_events"
HEAD_OF_LOG = "head_of_log"
LOG_AFTER = "log_after"

# The log: until it is done.
ONE_TRY = timedelta(seconds=5)  # Also how long a batch waits whose worker died.
FOR_EVER = RetryPolicy(
    initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=10)
)
AFTER_A_CONFLICT = timedelta(minutes=1)

# Other services: so often until somebody should know, and from then on at leisure or when asked.
ONE_CALL = timedelta(seconds=20)  # Longer than the HTTP timeout; how long a dead worker is missed.
UNTIL_IT_IS_A_TROUBLE = RetryPolicy(
    initial_interval=timedelta(milliseconds=250),
    backoff_coefficient=2,
    maximum_interval=timedelta(seconds=5),
    maximum_attempts=5,
)
AFTER_A_FAILURE = timedelta(minutes=5)


class Task(NamedTuple):
    """The activity that carries out a kind of step, and the party it asks."""

    activity: str
    party: str


TASKS: dict[type[o.AnyStep], Task] = {
    o.Reserve: Task("reserve_stock", "stock"),
    o.Release: Task("release_stock", "stock"),
    o.Withdraw: Task("withdraw_stock", "stock"),
    o.Restock: Task("restock", "stock"),
    o.Authorise: Task("authorise_payment", "payments"),
    o.Capture: Task("capture_payment", "payments"),
    o.Void: Task("void_payment", "payments"),
    o.Refund: Task("refund_payment", "payments"),
    o.Book: Task("book_shipment", "shipping"),
    o.Stop: Task("stop_shipment", "shipping"),
}


def summary(step: o.AnyStep, currency: str) -> str:
    """One line for a person who looks at the timeline; no personal data."""
    match step:
        case o.Reserve(lines=lines):
            return f"reserve {_pieces(lines)}"
        case o.Release(held=held) | o.Withdraw(held=held) | o.Restock(held=held):
            return f"{step.type} {_pieces(held)}"
        case o.Authorise(amount=amount):
            return f"authorise {formatted(amount, currency)}"
        case o.Capture(amount=amount) | o.Refund(amount=amount):
            what = "of" if isinstance(step, o.Capture) else "from"
            return f"{step.type} {formatted(amount, currency)} {what} {step.authorisation_id}"
        case o.Void(authorisation_id=key):
            return f"void what is left of {key}"
        case o.Book(shipment_id=key, location=location, lines=lines):
            return f"book {key}: {_pieces(lines)} from {location}"
        case o.Stop(shipment_id=key):
            return f"stop {key}"


def _pieces(parts: list[o.Piece] | list[o.Held]) -> str:
    count = sum(part.quantity for part in parts)
    return f"{count} piece{'s' * (count != 1)}"
