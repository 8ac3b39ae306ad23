"""Sends a test webhook to an endpoint, outside of any order."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime, timedelta

from eventlog.postgres import Reader
from outbound.webhooks import cursors
from outbound.webhooks.addresses import AllowedNetworks
from outbound.webhooks.cursors import Attempt
from outbound.webhooks.endpoints import Endpoint
from outbound.webhooks.health import Pace
from outbound.webhooks.poster import Poster
from outbound.webhooks.secrets import SecretBox
from outbound.webhooks.signing import signed_headers, signers

TYPE = "orderly.test.v1"
EVENT_TYPE = "test"
ID_PREFIX = "test-"


async def send_test(
    reader: Reader, endpoint: Endpoint, box: SecretBox, networks: AllowedNetworks
) -> int:
    """Sends one test webhook and records it; returns the id of the delivery.

    It is sent to a paused endpoint, too. Raises SecretUnreadable.
    """
    event_id = f"{ID_PREFIX}{secrets.token_hex(8)}"
    body = json.dumps(_event(endpoint, event_id)).encode()
    headers = signed_headers(signers(endpoint, box), datetime.now(UTC), event_id, body)
    poster = Poster(endpoint.url, networks, 1, Pace.attempt_seconds_max, lambda: datetime.now(UTC))
    try:
        answer = await poster.post(headers, body)
    finally:
        await poster.close()
    began = datetime.now(UTC) - timedelta(milliseconds=answer.latency_ms)
    attempt = Attempt.of(event_id, EVENT_TYPE, began, answer, None)
    [delivery_id] = await cursors.store_attempts(reader, endpoint.endpoint_id, [attempt])
    return delivery_id


def _event(endpoint: Endpoint, event_id: str) -> dict[str, object]:
    """A CloudEvent that is of no order, and that no receiver can take for another."""
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": f"/webhook-endpoints/{endpoint.endpoint_id}",
        "type": TYPE,
        "subject": endpoint.endpoint_id,
        "time": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "data": {"test": True},
    }
