"""Every event reaches the broker, in order within an order, also if relay or broker is killed."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
from nats.js.api import RawStreamMsg
from prometheus_client import REGISTRY

from eventlog.envelope import Envelope
from eventlog.epochs import raise_epoch
from orders.events import ShippingAddressSet
from outbound.relay import cursors
from outbound.relay.broker import Broker, NotPublished
from outbound.relay.cursors import RelayHealth
from outbound.relay.nats import NatsBroker
from outbound.relay.publishing import Pace
from outbound.relay.relay import Relay
from outbound.rendering import RenderedEvent
from privacy.address import Address
from privacy.keys import new_key
from privacy.sealing import seal
from settings import NatsSettings
from tests.support.event_log import ABOUT, AT, append, note
from tests.support.nats_security import write_accounts, write_certificates
from tests.support.nats_server import NatsServer, nats_server
from tests.support.paths import ROOT
from tests.support.processes import environment
from tests.support.webhook_receiver import until

PUBLIC_URL = "https://orders.example"
ORDERS, EVENTS_EACH = 8, 5
QUICK = Pace(
    first_pause_seconds=0.02,
    pause_seconds_max=0.1,
    store_seconds=0.02,
    idle_store_seconds=0.1,
    standby_seconds=0.05,
)


async def write(pool: asyncpg.Pool, first: int = 1) -> list[str]:
    """Appends events of several orders, one after the other; returns their ids."""
    ids = []
    for version in range(first, first + EVENTS_EACH):
        for number in range(ORDERS):
            await append(pool, f"o.{number}", note(version))
            ids.append(f"o.{number}@{version}")
    return ids


def broker_at(url: str, **security: Path) -> NatsBroker:
    files = {name: str(file) for name, file in security.items()}
    settings = {"public_url": PUBLIC_URL, "url": url, **files}
    return NatsBroker(NatsSettings.model_validate(settings))


@asynccontextmanager
async def relaying(dsn: str, broker: Broker) -> AsyncIterator[None]:
    """A relay in this process; at its end it finishes what is under way."""
    stopped = asyncio.Event()
    running = asyncio.create_task(Relay(dsn, broker, PUBLIC_URL, QUICK).run(stopped))
    try:
        yield
    finally:
        stopped.set()
        await running


@asynccontextmanager
async def relay_process(dsn: str, url: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`orderly relay nats`, which is killed in the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", "relay", "nats"),
        cwd=ROOT,
        env=environment(ORDERLY_POSTGRES_DSN=dsn, ORDERLY_PUBLIC_URL=PUBLIC_URL, NATS_URL=url),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def health(pool: asyncpg.Pool, relay: str = "nats") -> RelayHealth:
    for found in await cursors.read_health(pool):
        if found.relay == relay:
            return found
    return RelayHealth(relay, False, 0, 0.0, None, None, None)


def ids_of(messages: Iterable[RawStreamMsg]) -> list[str]:
    return [json.loads(message.data or b"")["id"] for message in messages]


def assert_in_order(event_ids: Iterable[str]) -> None:
    versions: dict[str, list[int]] = {}
    for event_id in event_ids:
        order_id, _, version = event_id.rpartition("@")
        versions.setdefault(order_id, []).append(int(version))
    for found in versions.values():
        assert found == list(range(1, len(found) + 1)), "in order, and each once"


async def test_events_are_published_as_cloudevents(
    pool: asyncpg.Pool, dsn: str, tmp_path: Path
) -> None:
    before = await write(pool)
    async with nats_server(tmp_path) as server, relaying(dsn, broker_at(server.url)):
        await server.until(lambda found: len(found) == len(before))
        after = await write(pool, EVENTS_EACH + 1)
        messages = await server.until(lambda found: len(found) == len(before) + len(after))
        await until(lambda: _has_published(pool, len(messages)))
    assert_in_order(ids_of(messages))
    first = messages[0]
    event = json.loads(first.data or b"")
    assert first.headers == {
        "Nats-Msg-Id": event["id"],
        "Content-Type": "application/cloudevents+json",
    }
    assert first.subject == f"orderly.order.note-added.v1.{event['subject'].replace('.', '%2E')}"
    assert event["type"] == "orderly.order.note-added.v1"
    assert event["dataschema"] == f"{PUBLIC_URL}/v1/schemas/{event['type']}"
    assert event["source"] == f"/orders/{event['subject']}"


async def _has_published(pool: asyncpg.Pool, count: int) -> bool:
    state = await health(pool)
    return state.published >= count and state.lag_seconds == 0 and state.failing_since is None


async def test_killed_nats_server_loses_and_repeats_nothing(
    pool: asyncpg.Pool, dsn: str, tmp_path: Path
) -> None:
    server = NatsServer(tmp_path)
    try:
        async with relaying(dsn, broker_at(server.url)):
            written = await write(pool)
            await until(lambda: _is_failing(pool))
            assert (await health(pool)).lag_seconds > 0
            await server.start()
            await server.until(lambda found: len(found) == len(written))
            await server.kill()
            written += await write(pool, EVENTS_EACH + 1)
            await until(lambda: _is_failing(pool))
            await server.start()
            writing = asyncio.create_task(write(pool, 2 * EVENTS_EACH + 1))
            await server.until(lambda found: len(found) > len(written))
            await server.kill()  # While it publishes.
            await server.start()
            written += await writing
            messages = await server.until(lambda found: len(found) >= len(written))
            await until(lambda: _has_published(pool, len(written)))
    finally:
        await server.kill()
    assert sorted(ids_of(messages)) == sorted(written)
    assert_in_order(ids_of(messages))


async def _is_failing(pool: asyncpg.Pool, why: str = "NATS: ") -> bool:
    state = await health(pool)
    return state.failing_since is not None and why in str(state.last_error)


async def test_killed_relay_loses_and_repeats_nothing(
    pool: asyncpg.Pool, dsn: str, tmp_path: Path
) -> None:
    written = await write(pool)
    async with nats_server(tmp_path) as server:
        async with relay_process(dsn, server.url):
            await server.until(lambda found: len(found) > 0)
        # What a relay leaves that was killed before it stored anything of what it published.
        await pool.execute("UPDATE relay_cursors SET transaction_id = '0', position = 0")
        await until(lambda: _is_stopped(pool))  # Postgres has noticed that it was killed.
        async with relay_process(dsn, server.url) as process:
            messages = await server.until(lambda found: len(found) >= len(written))
            await until(lambda: _has_published(pool, len(written)))
            assert (await health(pool)).is_running
            process.terminate()
            assert await process.wait() == 0
    assert sorted(ids_of(messages)) == sorted(written)
    assert_in_order(ids_of(messages))


async def _is_stopped(pool: asyncpg.Pool) -> bool:
    return not (await health(pool)).is_running


async def test_credentials_and_certificates_are_used(
    pool: asyncpg.Pool, dsn: str, tmp_path: Path
) -> None:
    written = await write(pool)
    authority, certificate, key = write_certificates(tmp_path)
    accounts, credentials = write_accounts(tmp_path)
    files = {"ca": authority, "certificate": certificate, "key": key}
    (tmp_path / "nats.conf").write_text(
        f"{accounts}tls {{ cert_file: {certificate}, key_file: {key}, ca_file: {authority},"
        " verify: true }\n"
    )
    async with nats_server(tmp_path / "data", "-c", tmp_path / "nats.conf", scheme="tls") as server:
        async with relaying(dsn, broker_at(server.url, **files)):
            await until(lambda: _is_failing(pool, "Authorization"))
        async with relaying(dsn, broker_at(server.url, **files, credentials=credentials)):
            await until(lambda: _has_published(pool, len(written)))


class MemoryBroker:
    """Stores what it is sent, after a moment, and fails now and then."""

    name = "memory"

    def __init__(self, failure_share: float = 0.0) -> None:
        self.stored: list[str] = []
        self.bodies: list[bytes] = []
        self.failure_share = failure_share
        self.refused: str | None = None
        self._dice = random.Random(1)

    async def publish(self, event: RenderedEvent) -> None:
        await asyncio.sleep(self._dice.random() * 0.005)
        if event.event_id == self.refused:
            raise NotPublished("it is too large")
        if self._dice.random() < self.failure_share:
            raise NotPublished("no answer")
        self.stored.append(event.event_id)
        self.bodies.append(event.body)

    async def close(self) -> None:
        pass


async def test_addresses_are_not_published_and_alert_nobody(pool: asyncpg.Pool, dsn: str) -> None:
    """The relay has no keys; elsewhere an address that cannot be read is one that is lost."""
    unreadable = REGISTRY.get_sample_value("orderly_unreadable_addresses_total")
    ada = Address.model_construct(name="Ada", line1="1 Main St", country="US")
    sealed = seal(ada, new_key("ada"))
    event = Envelope.of(ShippingAddressSet(address=sealed), 1, AT, ABOUT)
    broker = MemoryBroker()
    async with relaying(dsn, broker):
        await append(pool, "o.1", event)
        await until(lambda: broker.bodies)
    assert json.loads(broker.bodies[0])["data"]["address"] == {"unreadable": True}
    assert REGISTRY.get_sample_value("orderly_unreadable_addresses_total") == unreadable


async def test_failures_do_not_change_the_order(pool: asyncpg.Pool, dsn: str) -> None:
    written, broker = await write(pool), MemoryBroker(0.2)
    async with relaying(dsn, broker):
        await until(lambda: len(broker.stored) == len(written))
    assert_in_order(broker.stored)


async def test_refused_event_is_not_skipped(pool: asyncpg.Pool, dsn: str) -> None:
    broker = MemoryBroker()
    broker.refused = "o.3@2"
    async with relaying(dsn, broker):
        written = await write(pool)
        await until(lambda: len(broker.stored) == len(written) - EVENTS_EACH + 1)
        await until(lambda: _reports(pool, "o.3@2: it is too large"))
        broker.refused = None
        await until(lambda: len(broker.stored) == len(written))
    assert_in_order(broker.stored)


async def _reports(pool: asyncpg.Pool, error: str) -> bool:
    state = await health(pool, "memory")
    return state.last_error == error and state.lag_seconds > 0


async def test_second_relay_takes_over(pool: asyncpg.Pool, dsn: str) -> None:
    first, second = MemoryBroker(), MemoryBroker()
    async with relaying(dsn, first):
        written = await write(pool)
        await until(lambda: len(first.stored) == len(written))
        standby = relaying(dsn, second)
        await standby.__aenter__()
        more = await write(pool, EVENTS_EACH + 1)
        await until(lambda: len(first.stored) == len(written) + len(more))
    try:
        last = await write(pool, 2 * EVENTS_EACH + 1)
        await until(lambda: len(second.stored) >= len(last))
    finally:
        await standby.__aexit__(None, None, None)
    assert sorted(second.stored) == sorted(last), "what was stored is not published again"
    assert_in_order(first.stored + second.stored)


async def test_relay_goes_back_after_a_restore_of_the_log(pool: asyncpg.Pool, dsn: str) -> None:
    written, broker = await write(pool), MemoryBroker()
    async with relaying(dsn, broker):
        await until(lambda: len(broker.stored) == len(written))
    await pool.execute("UPDATE relay_cursors SET transaction_id = '9000000000'")
    async with pool.acquire() as connection:
        await raise_epoch(connection, "a test")
    more = await write(pool, EVENTS_EACH + 1)
    async with relaying(dsn, broker):
        await until(lambda: len(broker.stored) == len(written) + len(more))
    assert_in_order(broker.stored)
