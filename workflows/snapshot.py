"""The state with which a run of an order's workflow begins, and which version's shapes it has."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import fields
from datetime import datetime
from functools import cache
from typing import Any

from pydantic import (
    Field,
    JsonValue,
    ModelWrapValidatorHandler,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from eventlog.envelope import Envelope, Ineffective
from orders.models import StoredModel
from orders.order import Order
from workflows import continuation
from workflows.continuation import EarlierRuns, HistoryBounds
from workflows.idempotency import StoredRejection, StoredRejections, unpack_rejections
from workflows.messages import CommandBatch, QueuedCommands, as_set
from workflows.stored_results import ResultChunk, StoredResult, StoredResults

KEPT_NOWHERE_ELSE = frozenset({"queued", "unpublished"})
"""The parts of a snapshot that no log can restore: no version may rename them."""

_ORDER = TypeAdapter(Order)
_PROSE = ("description", "title", "examples")


class Snapshot(StoredModel):
    """All that an order needs to continue in a new run of its workflow."""

    schema_version: int = 1
    """Raise it when the same events fold to another state: then no run trusts an older snapshot."""
    made_by: str | None = None
    """The fingerprint of the version that made it; None if it is to be checked by the log."""
    order: Order = Order()
    unpublished: list[Envelope] = Field(default_factory=list)
    ineffective: list[Ineffective] = Field(default_factory=list)
    """No-ops and rejections that the journal does not have yet."""
    results: list[ResultChunk] = Field(default_factory=list)
    """The stored results, oldest first."""
    results_dropped_until: datetime | None = None
    """Until then, a key may count whose result had no room any more: only the log knows it."""
    rejections: str = ""
    """The stored rejections, packed."""
    traces: dict[str, str] = Field(default_factory=dict)
    """By step id, the traceparent of the request that led to the step."""
    reopened: bool = False
    """No run preceded this one directly: it begins by reading what the log has since."""
    queued: list[QueuedCommands] = Field(default_factory=list)
    """Asynchronous commands that no run has executed yet."""
    cancellation_ignored: bool = False
    """Temporal was asked to cancel the workflow; the order continued."""
    earlier_runs: EarlierRuns = EarlierRuns()
    has_lost: bool = Field(False, exclude=True)
    """Reading it dropped a part that another version wrote."""
    is_incomplete: bool = Field(False, exclude=True)
    """It may have commands or events that only that version can read: see KEPT_NOWHERE_ELSE."""

    @property
    def is_own(self) -> bool:
        """Whether it has the shapes of this version: then it can be trusted."""
        return self.made_by == fingerprint()

    def stored_results(self) -> StoredResults:
        """The stored results; those of another version that cannot be read are in the log."""
        stored = StoredResults(self.results)
        if self.is_own:
            return stored
        with suppress(ValidationError):
            stored.all()
            return stored
        return StoredResults()

    def stored_rejections(self) -> StoredRejections:
        """The stored rejections, as far as this version can read them."""
        with suppress(*(() if self.is_own else (ValidationError,))):
            return unpack_rejections(self.rejections)
        return {}

    @model_validator(mode="wrap")
    @classmethod
    def _note_losses(cls, stored: Any, read: ModelWrapValidatorHandler[Snapshot]) -> Snapshot:
        """Notes what is lost by reading another version's; an unreadable order is lost, too."""
        if not isinstance(stored, dict) or stored.get("made_by") in (None, fingerprint()):
            return read(stored)  # Before fingerprints, fields were removed on purpose.
        others = [part for key, part in stored.items() if key not in cls.model_fields]
        is_renamed = not stored.keys() & cls.model_fields.keys() >= KEPT_NOWHERE_ELSE
        if is_renamed and any(isinstance(part, list) and part for part in others):
            return read({"made_by": stored["made_by"], "is_incomplete": True})
        try:
            snapshot = read(stored)
        except ValidationError as error:
            unread = {str(one["loc"][0]) for one in error.errors() if one["loc"]}
            if unread & KEPT_NOWHERE_ELSE:
                return read({"made_by": stored["made_by"], "is_incomplete": True})
            snapshot = read({key: part for key, part in stored.items() if key not in unread})
        order = stored.get("order")
        if isinstance(order, Order):
            return snapshot  # It was made here, and not read.
        kept = snapshot.model_dump(mode="json", exclude={"queued"})
        content = {key: part for key, part in stored.items() if key != "queued"}
        if isinstance(order, dict) and _has(kept, content):
            return snapshot
        return snapshot.model_copy(update={"has_lost": True})


class State(StoredModel):
    """The state that an order decides on, in brief."""

    version: int
    made_by: str
    """The fingerprint of the version that it runs in."""
    digest: str


class SnapshotLost(Exception):
    """The run began in another version, with a part of its state that this version cannot read.

    The workflow task fails until that version is back, or `orderly repair` starts the order again
    from the log. Orders that are pinned to worker versions never get here.
    """

    def __init__(self, made_by: str | None) -> None:
        super().__init__(f"version {made_by} wrote a part of the state that this one cannot read")


class WorkflowInput(StoredModel):
    """The input of a run: a new order, or one that continues from a snapshot."""

    opening: dict[str, JsonValue] | None = None
    """The command that a new order is opened with, for readers of the Temporal Web UI.

    The update or signal that comes with the start carries the command itself.
    """
    snapshot: Snapshot | None = None
    flushes_intents: bool = False
    """Publishes what changed nothing also without events. Runs from before that do not: the history
    of a run must stay as it is."""
    history_bounds: HistoryBounds | None = None
    """Without them, the run continues as new only when Temporal suggests it."""

    @classmethod
    def of_opening(cls, batch: CommandBatch) -> WorkflowInput:
        """The input of an order that `batch` opens with its first command."""
        opening, bounds = as_set(batch.commands[0]), continuation.HISTORY_BOUNDS
        return cls(opening=opening, flushes_intents=True, history_bounds=bounds)

    @classmethod
    def of_snapshot(cls, snapshot: Snapshot) -> WorkflowInput:
        """The input of a run that continues an order."""
        bounds = continuation.HISTORY_BOUNDS
        return cls(snapshot=snapshot, flushes_intents=True, history_bounds=bounds)


@cache
def fingerprint() -> str:
    """A hash of the stored shapes of this version: equal only if it reads all that it wrote."""
    shapes = [
        TypeAdapter(shape).json_schema(mode="serialization")
        for shape in (Order, Envelope, Ineffective, ResultChunk, StoredResult, StoredRejection)
    ]
    parts = {name: str(field.annotation) for name, field in Snapshot.model_fields.items()}
    version = Snapshot.model_fields["schema_version"].default
    text = json.dumps([without_prose(shapes), parts, version], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differences(one: Order, other: Order) -> list[str]:
    """The fields in which two states of an order differ."""
    return [
        field.name
        for field in fields(Order)
        if getattr(one, field.name) != getattr(other, field.name)
    ]


def digest(order: Order) -> str:
    """A hash of an order's state: equal for equal states of the same shapes."""
    text = json.dumps(state_of(order), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def state_of(order: Order) -> dict[str, Any]:
    """An order's state as JSON, with its sets sorted: equal for equal states."""
    state: dict[str, Any] = _ORDER.dump_python(order, mode="json")
    sets = (f.name for f in fields(Order) if isinstance(getattr(order, f.name), frozenset))
    return state | {name: sorted(state[name]) for name in sets}


def without_prose(schema: Any) -> Any:
    """A JSON schema without its docstrings, its examples, and titles, which repeat names."""
    match schema:
        case dict():
            return {
                key: without_prose(part)
                for key, part in schema.items()
                if key not in _PROSE or (isinstance(part, dict) and key != "examples")
            }
        case list():
            return [without_prose(part) for part in schema]
        case _:
            return schema


def _has(kept: Any, stored: Any) -> bool:
    """Whether all fields of stored JSON are in what was kept of it; nulls say nothing."""
    match stored:
        case dict():
            return isinstance(kept, dict) and all(
                part is None or (key in kept and _has(kept[key], part))
                for key, part in stored.items()
            )
        case list():
            return isinstance(kept, list) and (
                len(kept) == len(stored) and all(map(_has, kept, stored))
            )
        case _:
            return True
