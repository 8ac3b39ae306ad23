"""The way to one endpoint, which all its cursors share: connections, secrets, health."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from prometheus_client import Histogram
from standardwebhooks import Webhook as Signer

from outbound.webhooks.addresses import AllowedNetworks
from outbound.webhooks.clock import PostgresClock
from outbound.webhooks.endpoints import Endpoint
from outbound.webhooks.health import Health, Pace
from outbound.webhooks.poster import Answer, Poster, Verdict
from outbound.webhooks.secrets import SecretBox, SecretUnreadable
from outbound.webhooks.signing import signed_headers, signers

_ATTEMPTS = Histogram(
    "orderly_webhook_attempt_duration_seconds",
    "Duration of an attempt to deliver an event to a webhook endpoint, by outcome: delivered,"
    " rejected, unreachable or gone.",
    ["outcome"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)

logger = logging.getLogger("orderly.deliverer")


class Channel:
    """Sends webhooks to one endpoint, as long as its URL and its filter stay the same."""

    def __init__(
        self,
        endpoint: Endpoint,
        health: Health,
        box: SecretBox,
        networks: AllowedNetworks,
        pace: Pace,
        clock: PostgresClock,
    ) -> None:
        self.endpoint = endpoint
        self.health = health
        self.pace = pace
        self.clock = clock
        self.is_gone = False
        """Whether it wants no further events."""
        self.in_flight = 0
        """The attempts that have begun and not ended; deliveries count them."""
        self._box = box
        self._poster = Poster(
            endpoint.url, networks, pace.concurrent_max, pace.attempt_seconds_max, clock.now
        )
        self._signers: Sequence[tuple[Signer, datetime | None]] = []
        self._unreadable: str | None = None
        self._read_secrets()

    def renew(self, endpoint: Endpoint) -> bool:
        """Takes over changes of the endpoint; returns whether an operator has resumed it.

        Also if that was before this channel began: the stored health says which resume it knows.
        """
        is_resumed = endpoint.resumed_at != self.health.resumed_at
        if endpoint.version != self.endpoint.version:
            self.endpoint = endpoint
            self._read_secrets()
        if is_resumed:
            self.is_gone = False
            self.health.resume(endpoint.resumed_at, self.clock.now())
        return is_resumed

    def may_send(self, now: datetime) -> bool:
        """Whether another attempt may begin; to an endpoint that is down, only one at its time."""
        if self.is_gone or self.in_flight >= self.pace.concurrent_max:
            return False
        next_try_at = self.health.next_try_at
        return next_try_at is None or (self.in_flight == 0 and now >= next_try_at)

    async def send(self, webhook_id: str, body: bytes) -> Answer:
        """One attempt."""
        if self._unreadable is not None:
            return Answer(None, self._unreadable, "", 0, Verdict.UNREACHABLE)
        headers = signed_headers(self._signers, self.clock.now(), webhook_id, body)
        answer = await self._poster.post(headers, body)
        _ATTEMPTS.labels(answer.verdict.name.lower()).observe(answer.latency_ms / 1000)
        return answer

    def record(self, answer: Answer, now: datetime) -> None:
        """Judges the endpoint by the answer to an event that was not tried before."""
        was_down = self.health.is_down
        if answer.verdict is Verdict.DELIVERED:
            self.health.record_success(now)
        else:
            self.is_gone = self.is_gone or answer.verdict is Verdict.GONE
            self.health.record_failure(answer, now, self.pace)
        if was_down != self.health.is_down:
            state = "is up again" if was_down else f"is down: {answer.error}"
            logger.warning("webhook endpoint %s %s", self.endpoint.endpoint_id, state)

    async def close(self) -> None:
        await self._poster.close()

    def _read_secrets(self) -> None:
        try:
            self._signers, self._unreadable = signers(self.endpoint, self._box), None
        except SecretUnreadable as error:
            self._unreadable = str(error)
