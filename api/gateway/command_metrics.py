"""Counts command batches by type and outcome, and rejections by code."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import Counter

from api.problems.errors import IdempotencyKeyReused
from workflows.command_handler import Rejected
from workflows.messages import CommandBatch, CommandResult

SEVERAL = "several"
_REUSED = "idempotency-key-reused"

_COMMANDS = Counter(
    "orderly_commands_total",
    "Command batches and callbacks that were sent to orders, by type (`several` if a batch has more"
    " than one) and outcome: accepted, no-op, queued, rejected, failed or abandoned.",
    ["type", "outcome"],
)
_REJECTIONS = Counter(
    "orderly_rejections_total", "Command batches that an order rejected, by code.", ["code"]
)


@contextmanager
def counted(batch: CommandBatch) -> Iterator[Callable[[CommandResult | None], None]]:
    """Counts a batch that is sent inside; it passes the result, or None if the batch is queued."""
    outcome = "failed"

    def settle(result: CommandResult | None) -> None:
        nonlocal outcome
        outcome = "queued" if result is None else "accepted" if result.event_types else "no-op"

    try:
        yield settle
    except CancelledError:
        outcome = "abandoned"
        raise
    except Rejected as error:
        outcome = "rejected"
        _REJECTIONS.labels(error.rejection.code).inc()
        raise
    except IdempotencyKeyReused:
        outcome = "rejected"
        _REJECTIONS.labels(_REUSED).inc()
        raise
    finally:
        _COMMANDS.labels(_type_of(batch), outcome).inc()


def _type_of(batch: CommandBatch) -> str:
    return batch.commands[0].type if len(batch.commands) == 1 else SEVERAL
