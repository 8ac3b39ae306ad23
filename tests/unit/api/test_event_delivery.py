"""The state of webhooks and relays, in words."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from api.monitoring.event_delivery import of_relays, of_webhooks
from outbound.relay.cursors import RelayHealth
from outbound.webhooks.deliveries import EndpointHealth

NOW = datetime(2026, 3, 2, tzinfo=UTC)
FINE = EndpointHealth("we_1", 0, None, None, None, None, 5, 0, 0, 0, 0.5)
RELAY = RelayHealth("nats", True, 5, 0.5, None, "an old error", NOW)


@pytest.mark.parametrize(
    ("deliverers", "health", "gone", "state"),
    [
        (1, [FINE], 0, "ok"),
        (0, [FINE], 0, "no deliverer runs"),
        (1, [FINE, replace(FINE, next_try_at=NOW)], 0, "1 of 2 endpoints do not accept events"),
        (1, [FINE], 1, "1 of 1 endpoints do not accept events"),
        (1, [FINE, replace(FINE, parked_orders=3)], 0, "3 orders are parked"),
        (1, [FINE, replace(FINE, lag_seconds=90.4)], 0, "90 seconds behind"),
    ],
)
def test_state_of_webhooks(
    deliverers: int, health: list[EndpointHealth], gone: int, state: str
) -> None:
    assert of_webhooks(deliverers, health, gone) == state


@pytest.mark.parametrize(
    ("relay", "state"),
    [
        (RELAY, "ok"),
        (replace(RELAY, is_running=False), "no relay runs"),
        (replace(RELAY, lag_seconds=90.4), "90 seconds behind"),
        (
            replace(RELAY, failing_since=NOW - timedelta(seconds=7)),
            "the broker has not accepted events for 7 seconds",
        ),
    ],
)
def test_state_of_a_relay(relay: RelayHealth, state: str) -> None:
    assert dict(of_relays([relay], NOW)) == {"relay nats": state}
