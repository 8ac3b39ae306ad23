"""The activities of an order: their names, timeouts and retries, and their lines in the Web UI."""

from __future__ import annotations

from datetime import timedelta

from temporalio.common import RetryPolicy

from orders import steps as o
from orders.money import format_amount

# Activities are called by name: workflows do not import what implements them.
PUBLISH_EVENTS = "publish_events"
HEAD_OF_LOG = "head_of_log"
LOG_AFTER = "log_after"

# The event log: retried until it succeeds.
LOG_TIMEOUT = timedelta(seconds=5)  # Also how long a batch waits whose worker died.
LOG_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=10)
)
LOG_OUTAGE = timedelta(seconds=10)  # After this time without success, the order says so.
CONFLICT_DELAY = timedelta(minutes=1)  # Before a batch that conflicts with the log is tried again.

# External services: five quick attempts, then the step is stuck. While a service is unavailable,
# Temporal attempts it on, without new events in the order's history: so it continues soon after the
# service's return, in its turn. What a service rejects is tried again after five minutes, because
# only a person can change that. `retry-step` starts over at once.
STEP_TIMEOUT = timedelta(seconds=20)  # Longer than any call's HTTP timeout.
STEP_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=250),
    backoff_coefficient=2,
    maximum_interval=timedelta(seconds=5),
    maximum_attempts=5,
)
REJECTED_STEP_DELAY = timedelta(minutes=5)
STUCK_SECONDS = (8.0, 12.0)
"""Between the attempts of a stuck step: at least and at most, drawn once for all its attempts."""


def service_queue(task_queue: str, service: str) -> str:
    """The task queue of the calls of a service: they take no slot of publishing or other calls."""
    return f"{task_queue}-{service}"


def stuck_queue(task_queue: str, service: str) -> str:
    """The task queue of the calls for stuck steps: after an outage, many are due at once."""
    return f"{service_queue(task_queue, service)}-stuck"


def stuck_retry(seconds: float) -> RetryPolicy:
    """Attempts without end, `seconds` apart: each order its own, so that not all come at once."""
    return RetryPolicy(initial_interval=timedelta(seconds=seconds), backoff_coefficient=1)


STEP_ACTIVITIES: dict[type[o.AnyStep], str] = {
    o.Reserve: "reserve_stock",
    o.Release: "release_stock",
    o.Withdraw: "withdraw_stock",
    o.Restock: "restock",
    o.Authorise: "authorise_payment",
    o.Capture: "capture_payment",
    o.Void: "void_payment",
    o.Refund: "refund_payment",
    o.Book: "book_shipment",
    o.Stop: "stop_shipment",
}
"""By kind of step, the activity that runs it."""


def summary(step: o.AnyStep, currency: str) -> str:
    """One line for the Web UI's timeline, without personal data."""
    match step:
        case o.Reserve(lines=lines):
            return f"reserve {_pieces(lines)}"
        case o.Release(held=held) | o.Withdraw(held=held) | o.Restock(held=held):
            return f"{step.type} {_pieces(held)}"
        case o.Authorise(amount=amount):
            return f"authorise {format_amount(amount, currency)}"
        case o.Capture(amount=amount) | o.Refund(amount=amount):
            what = "of" if isinstance(step, o.Capture) else "from"
            return f"{step.type} {format_amount(amount, currency)} {what} {step.authorisation_id}"
        case o.Void(authorisation_id=key):
            return f"void what is left of {key}"
        case o.Book(shipment_id=key, location=location, lines=lines):
            return f"book {key}: {_pieces(lines)} from {location}"
        case o.Stop(shipment_id=key):
            return f"stop {key}"


def _pieces(parts: list[o.Piece] | list[o.Held]) -> str:
    count = sum(part.quantity for part in parts)
    return f"{count} piece{'s' * (count != 1)}"
