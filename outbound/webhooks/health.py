"""How an endpoint answers, and from that when to try again. Pure: the time is passed in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from outbound.backoff import backoff_seconds
from outbound.webhooks.poster import Answer, Verdict

# This many failures without a success in between are about the endpoint, not about single orders.
DOWN_AFTER_FAILURES = 5
REJECTED_PAUSE_SECONDS_MAX = 60.0


@dataclass(frozen=True)
class Pace:
    """How fast an endpoint is sent to, and the pauses after failures."""

    concurrent_max: int = 16
    """Attempts at the same time at one endpoint."""
    attempt_seconds_max: float = 10.0
    first_pause_seconds: float = 1.0
    """Doubles with each failure, up to the maximum."""
    pause_seconds_max: float = 2 * 3600.0
    commit_seconds: float = 0.25
    """How often progress is stored: what was delivered since is delivered again after a crash."""
    reload_seconds: float = 0.5
    """How often changed endpoints are looked for, and shares of other processes."""

    def pause(self, failures: int, answer: Answer) -> timedelta:
        """The pause after a number of failures: with jitter, and not below the answer's own."""
        seconds = backoff_seconds(failures, self.first_pause_seconds, self.pause_seconds_max)
        return max(timedelta(seconds=seconds), answer.retry_after or timedelta(0))

    def probe_pause(self, failures: int, answer: Answer) -> timedelta:
        """The pause until the next probe of an endpoint that is down.

        One that answers may reject only the orders that were tried, so that others are not to wait
        for long.
        """
        pause = self.pause(failures, answer)
        if answer.verdict is Verdict.REJECTED and answer.retry_after is None:
            return min(pause, timedelta(seconds=REJECTED_PAUSE_SECONDS_MAX))
        return pause


@dataclass
class Health:
    """What the last attempts at one endpoint showed."""

    failures: int = 0
    """Since the last success."""
    failing_since: datetime | None = None
    next_try_at: datetime | None = None
    """Set while the endpoint is down: until then nothing is sent, and then one event."""
    probes: int = 0
    """Of which none succeeded since it is down."""
    last_error: str | None = None
    last_success_at: datetime | None = None
    resumed_at: datetime | None = None
    """The endpoint's last resume that is taken into account."""

    @property
    def is_down(self) -> bool:
        return self.next_try_at is not None

    def record_success(self, now: datetime) -> None:
        self.failures, self.failing_since, self.next_try_at = 0, None, None
        self.last_success_at = now

    def record_failure(self, answer: Answer, now: datetime, pace: Pace) -> None:
        """Counts a failure; after enough of them, or one that says so, the endpoint is down."""
        self.last_error = answer.error
        self.failing_since = self.failing_since or now
        if self.next_try_at is not None and now < self.next_try_at:
            # It was under way when the endpoint went down, and is no further failure.
            self.next_try_at = max(self.next_try_at, now + (answer.retry_after or timedelta(0)))
            return
        self.failures += 1
        if self.is_down:
            self.probes += 1
        elif answer.verdict is Verdict.UNREACHABLE or self.failures >= DOWN_AFTER_FAILURES:
            self.probes = 0
        else:
            return
        self.next_try_at = now + pace.probe_pause(self.probes + 1, answer)

    def resume(self, resumed_at: datetime | None, now: datetime) -> None:
        """Takes a resume into account: an operator wants to know whether it answers again."""
        self.resumed_at = resumed_at
        if self.is_down:
            self.next_try_at, self.probes = now, 0
