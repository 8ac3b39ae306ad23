"""The state of what sends events to other systems: webhook endpoints, and relays to brokers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from admin.readiness import OK
from eventlog.postgres import Reader
from outbound.relay import cursors
from outbound.relay.cursors import RelayHealth
from outbound.webhooks import deliveries, endpoints
from outbound.webhooks.deliveries import EndpointHealth
from outbound.webhooks.ownership import count_processes

LAG_SECONDS_MAX = 60


async def read_event_delivery(reader: Reader) -> dict[str, str]:
    """By name, "ok" or what is wrong: "webhooks" if there are endpoints, and each relay."""
    statuses = {one.endpoint_id: one.status for one in await endpoints.find_all(reader)}
    health = (await deliveries.read_health(reader)).values() if statuses else ()
    shown = [one for one in health if statuses.get(one.endpoint_id) in ("active", "gone")]
    gone = sum(statuses[one.endpoint_id] == "gone" for one in shown)
    states = {}
    if shown:
        states["webhooks"] = of_webhooks(await count_processes(reader), shown, gone)
    return states | dict(of_relays(await cursors.read_health(reader), datetime.now(UTC)))


def of_webhooks(deliverers: int, health: Sequence[EndpointHealth], gone: int) -> str:
    """The state of the endpoints that are not paused; `gone` of them want no further events."""
    down = gone + sum(one.next_try_at is not None for one in health)
    parked = sum(one.parked_orders for one in health)
    lag_seconds = max((one.lag_seconds for one in health), default=0)
    if deliverers == 0:
        return "no deliverer runs"
    if down:
        return f"{down} of {len(health)} endpoints do not accept events"
    if parked:
        return f"{parked} orders are parked"
    return _lag(lag_seconds)


def of_relays(relays: Iterable[RelayHealth], now: datetime) -> Iterator[tuple[str, str]]:
    """The state of each relay, by name."""
    for one in relays:
        name = f"relay {one.relay}"
        if not one.is_running:
            yield name, "no relay runs"
        elif one.failing_since is not None:
            seconds = (now - one.failing_since).total_seconds()
            yield name, f"the broker has not accepted events for {seconds:.0f} seconds"
        else:
            yield name, _lag(one.lag_seconds)


def _lag(seconds: float) -> str:
    return OK if seconds <= LAG_SECONDS_MAX else f"{seconds:.0f} seconds behind"
