"""What a process can serve now, and why not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

OK = "ok"
STARTING = "the process is starting"
SHUTTING_DOWN = "the process is shutting down"

Json = dict[str, Any]
Reasons = Sequence[str]
"""Why something cannot be served, each a phrase; empty if it can be."""


@dataclass(frozen=True)
class Readiness:
    """What a process can serve now."""

    serves: Mapping[str, Reasons]
    """By what it serves, such as commands and reads."""
    states: Mapping[str, Any] = field(default_factory=dict)
    """The state of each dependency in words, and numbers, for people and programs."""
    others: Reasons = ()
    """Why the process is not ready although it serves all of them in part."""

    def is_ready(self, what: str | None = None) -> bool:
        """Whether one of them can be served, or all."""
        return not (self.serves[what] if what else self.reasons())

    def reasons(self) -> list[str]:
        """All reasons, each once."""
        each = [reason for reasons in self.serves.values() for reason in reasons]
        return list(dict.fromkeys([*each, *self.others]))

    @classmethod
    def of_none(cls, serves: Iterable[str], reason: str) -> Readiness:
        """The readiness of a process that serves nothing, for one reason."""
        return cls({what: [reason] for what in serves})

    def body(self, what: str | None = None) -> Json:
        """It as JSON."""
        parts = {
            name: {"ready": not reasons, "reasons": list(reasons)}
            for name, reasons in self.serves.items()
        }
        reasons = list(self.serves[what]) if what else self.reasons()
        return {"ready": not reasons, "reasons": reasons, **parts, **self.states}


def reasons_of(states: Mapping[str, str]) -> list[str]:
    """A reason for each dependency whose state is not "ok"."""
    return [f"{name}: {state}" for name, state in states.items() if state != OK]


class Pulse:
    """Whether a loop of this process turns, as the loop itself says.

    A loop that fails and retries is alive. One that says nothing for a minute hangs: only a restart
    helps.
    """

    SILENT_SECONDS_MAX = 15.0
    HANGING_SECONDS = 60.0

    def __init__(self) -> None:
        self._state = "has not begun"
        self._at = monotonic()

    def beat(self) -> None:
        """The loop has turned without a failure."""
        self._note(OK)

    def fail(self, reason: str) -> None:
        """The loop has failed, and will try again."""
        self._note(reason)

    @property
    def state(self) -> str:
        """ "ok", or what is wrong."""
        silence = self._silence_seconds()
        is_silent = self._state == OK and silence > self.SILENT_SECONDS_MAX
        return f"no progress for {silence:.0f} seconds" if is_silent else self._state

    @property
    def hangs(self) -> bool:
        return self._silence_seconds() > self.HANGING_SECONDS

    def _silence_seconds(self) -> float:
        return monotonic() - self._at

    def _note(self, state: str) -> None:
        self._state, self._at = state, monotonic()
