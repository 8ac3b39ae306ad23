"""When a run of an order's workflow continues as new, and which runs came before it."""

from __future__ import annotations

from pydantic import Field
from temporalio import workflow

from orders.models import StoredModel

RUNS_NAMED_MAX = 5  # The first run and the last ones, in a snapshot and in the Temporal Web UI.


class HistoryBounds(StoredModel):
    """From how many events in its history a run continues as new.

    They are part of each run's input, so that other code replays it by the same bounds.
    """

    at_rest: int
    """While nothing is unpublished and no step is left."""
    forced: int
    """At any time."""
    seconds_min: float
    """The age of the run: Temporal would delay what follows a younger one."""


HISTORY_BOUNDS = HistoryBounds(at_rest=250, forced=1_000, seconds_min=1.0)


class Continuation:
    """Whether a run is to continue as new; decided only on what its history records."""

    def __init__(self, bounds: HistoryBounds | None) -> None:
        self._bounds = bounds
        self._at_rest = self._forced = False

    def check(self) -> None:
        """Looks at the history; called only for what history records.

        Its length and Temporal's suggestion are values of the activation. One that brings only a
        rejected update leaves nothing in history, so what it shows must not be acted upon.
        """
        info, bounds = workflow.info(), self._bounds
        is_long, length = info.is_continue_as_new_suggested(), info.get_current_history_length()
        if bounds is not None:
            if (workflow.now() - info.workflow_start_time).total_seconds() < bounds.seconds_min:
                return
            self._at_rest |= length >= bounds.at_rest
            is_long |= length >= bounds.forced
        self._forced |= is_long

    def is_due(self, *, at_rest: bool) -> bool:
        """Whether to continue as new now, when the order is at rest or is not."""
        return self._forced or (self._at_rest and at_rest)


class EarlierRun(StoredModel):
    """A run of an order's workflow that has ended."""

    run_id: str
    version: int
    """Of the order when the run ended."""
    status: str


class EarlierRuns(StoredModel):
    """The runs before a run, as far as it continues from them."""

    count: int = 0
    named: list[EarlierRun] = Field(default_factory=list)
    """The first of them and the last ones."""

    def followed_by(self, run: EarlierRun) -> EarlierRuns:
        """The runs before the next run."""
        first, later = self.named[:1], self.named[1:]
        named = [*first, *[*later, run][1 - RUNS_NAMED_MAX :]] if first else [run]
        return EarlierRuns(count=self.count + 1, named=named)

    def links(self, namespace: str, order_id: str) -> str:
        """A Markdown list; the Temporal Web UI resolves its links from its own root."""
        rows = [
            f"- [to version {run.version}, {run.status}]"
            f"(namespaces/{namespace}/workflows/{order_id}/{run.run_id}/history)"
            for run in self.named
        ]
        if (more := self.count - len(self.named)) > 0:
            rows.insert(1, f"- and {more} more run{'s' * (more != 1)}")
        return "\n".join(rows)
