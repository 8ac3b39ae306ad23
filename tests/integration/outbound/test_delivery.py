"""Webhooks arrive: all of them, in order within an order, under each fault of a receiver."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import asyncpg
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from dev.stack.ports import LOOPBACK, free_ports
from eventlog.epochs import raise_epoch
from eventlog.log import Checkpoint, settled_head
from eventlog.postgres import HELD_LOCKS
from outbound.webhooks import clock, deliverer, deliveries, delivery, endpoints, replays
from outbound.webhooks.endpoints import Endpoint
from outbound.webhooks.log_reader import Page
from outbound.webhooks.reading import CursorReader
from outbound.webhooks.secrets import SecretBox, new_secret
from tests.support.command_builders import new_order_id
from tests.support.event_log import append, note, opened
from tests.support.webhook_receiver import (
    ERROR,
    OK,
    Received,
    Receiver,
    Reply,
    Respond,
    failing_first,
    receiving,
    until,
)
from tests.support.webhooks import (
    BOX,
    IMPATIENT,
    KEY,
    QUICK,
    attempts,
    delivering,
    health,
    register,
)


async def publish(pool: asyncpg.Pool, orders: int = 3, events: int = 3) -> list[str]:
    """Publishes events of several orders, each order at once; returns the ids of the orders."""
    order_ids = [new_order_id() for _ in range(orders)]
    for order_id in order_ids:
        await append(pool, order_id, *(note(version) for version in range(1, events + 1)))
    return order_ids


def complete(receiver: Receiver, order_ids: list[str], events: int = 3) -> bool:
    """Whether it has accepted all events of these orders; they must be in order."""
    found = receiver.order_versions()
    assert all(versions == list(range(1, len(versions) + 1)) for versions in found.values())
    return all(len(found.get(order_id, [])) == events for order_id in order_ids)


async def test_events_are_delivered_in_order_and_signed(pool: asyncpg.Pool, dsn: str) -> None:
    secret, before = new_secret(), [new_order_id() for _ in range(3)]
    for version in (1, 2, 3):
        for order_id in before:
            await append(pool, order_id, note(version))
    async with receiving() as receiver:
        endpoint = await register(pool, receiver.url, secret)
        async with delivering(dsn):
            await receiver.until(lambda: complete(receiver, before))
            after = await publish(pool)
            await receiver.until(lambda: complete(receiver, after))
        for request in receiver.requests:
            Webhook(secret).verify(request.body, request.headers)
            assert request.headers["content-type"] == "application/cloudevents+json"
            assert request.event_id == request.event["id"]
        assert len(receiver.requests) == 18, "each event is sent once"
        async with delivering(dsn):
            later = await publish(pool, 1, 1)
            await receiver.until(lambda: complete(receiver, later, 1))
        assert len(receiver.requests) == 19, "a restart sends nothing again"
    recorded = await attempts(pool, endpoint)
    assert {one.event_id for one in recorded} == {one.event_id for one in receiver.requests}
    assert {(one.status, one.error, one.next_try_at) for one in recorded} == {(204, None, None)}
    state = await health(pool, endpoint)
    assert (state.delivered, state.failed, state.parked_orders) == (19, 0, 0)


async def test_endpoints_get_only_what_they_ask_for(pool: asyncpg.Pool, dsn: str) -> None:
    async with receiving() as receiver, receiving() as other:
        await register(pool, receiver.url, event_types=("order-opened",))
        await register(pool, other.url, customer_id="ada")
        start = await settled_head(pool)
        order_ids = await publish(pool, 1, 2)
        async with receiving() as late:
            await register(pool, late.url, start=start)
            async with delivering(dsn):
                await late.until(lambda: complete(late, order_ids, 2))
                await append(pool, "o.ada", opened("ada"), note(2))
                await receiver.until(lambda: receiver.requests)
                await other.until(lambda: complete(other, ["o.ada"], 2))
    assert [one.event_id for one in receiver.requests] == ["o.ada@1"]
    assert [one.event_id for one in other.requests] == ["o.ada@1", "o.ada@2"]


async def test_cursor_moves_over_events_that_its_filter_excludes(
    pool: asyncpg.Pool, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliverer, "STORE_SKIPPED_SECONDS", 0.0)
    async with receiving() as receiver, receiving() as other:
        await register(pool, receiver.url)
        excluding = await register(pool, other.url, customer_id="ada")
        async with delivering(dsn):
            order_ids = await publish(pool)
            await receiver.until(lambda: complete(receiver, order_ids))
            await until(lambda: _has_no_lag(pool, excluding))
            order_ids = await publish(pool)  # Read at the end of the log.
            await receiver.until(lambda: complete(receiver, order_ids))
            await until(lambda: _has_no_lag(pool, excluding))
    assert other.requests == [] and (await health(pool, excluding)).delivered == 0


async def _has_no_lag(pool: asyncpg.Pool, endpoint: Endpoint) -> bool:
    return (await health(pool, endpoint)).lag_seconds == 0


@pytest.mark.parametrize("failure", [ERROR, Reply(404), Reply(302, {"Location": "/elsewhere"})])
async def test_rejected_event_parks_its_order_and_the_others_go_on(
    pool: asyncpg.Pool, dsn: str, failure: Reply
) -> None:
    poisoned, *others = await publish(pool)
    poison = f"{poisoned}@2"
    is_healed = False

    def respond(request: Received) -> Reply:
        return failure if request.event_id == poison and not is_healed else OK

    async with receiving(respond) as receiver, delivering(dsn):
        endpoint = await register(pool, receiver.url)
        await receiver.until(lambda: complete(receiver, others))
        await append(pool, poisoned, note(4))
        later = await publish(pool)
        await receiver.until(lambda: complete(receiver, later))
        sent = {one.event_id for one in receiver.requests if one.order_id == poisoned}
        assert sent == {f"{poisoned}@1", poison}, "its later events wait"
        await until(lambda: _parked(pool, endpoint, poison))
        is_healed = True
        await receiver.until(lambda: complete(receiver, [poisoned], 4))
        await until(lambda: _parked(pool, endpoint, None))
    failed = [one for one in await attempts(pool, endpoint) if one.error]
    assert {one.event_id for one in failed} == {poison}
    assert all(one.next_try_at is not None for one in failed)
    assert len(receiver.accepted) == 3 * 3 + 3 * 3 + 1, "none is accepted twice"


async def _parked(pool: asyncpg.Pool, endpoint: Endpoint, event_id: str | None) -> bool:
    parked = await deliveries.parked_orders(pool, endpoint.endpoint_id)
    return [f"{one.order_id}@{one.version}" for one in parked] == ([event_id] if event_id else [])


@pytest.mark.parametrize(
    "filter",
    [{"customer_id": "bob"}, {"event_types": ("order-placed",)}],
    ids=["customer", "event types"],
)
async def test_parked_order_that_a_new_filter_excludes_is_not_sent(
    pool: asyncpg.Pool, dsn: str, filter: dict[str, Any]
) -> None:
    async with (
        receiving(lambda _: ERROR) as first,
        receiving() as second,
        delivering(dsn) as reloads,
    ):
        endpoint = await register(pool, first.url)
        await append(pool, "o.ada", opened("ada"), note(2))
        await until(lambda: _parked(pool, endpoint, "o.ada@1"))
        await endpoints.change(pool, endpoint.endpoint_id, {"url": second.url, **filter}, None)
        await until(lambda: _parked(pool, endpoint, None))
        unfiltered = {"customer_id": None, "event_types": None}
        await endpoints.change(pool, endpoint.endpoint_id, unfiltered, None)
        await reloads.notice()
        later = await publish(pool, 1, 1)
        await second.until(lambda: complete(second, later, 1))
    assert len(second.requests) == 1


async def test_parked_order_survives_a_restart(pool: asyncpg.Pool, dsn: str) -> None:
    poisoned, *others = await publish(pool)
    async with receiving(lambda r: ERROR if r.order_id == poisoned else OK) as receiver:
        endpoint = await register(pool, receiver.url)
        async with delivering(dsn):
            await receiver.until(lambda: complete(receiver, others))
            await until(lambda: _parked(pool, endpoint, f"{poisoned}@1"))
        receiver.respond = lambda _: OK
        async with delivering(dsn):
            await receiver.until(lambda: complete(receiver, [poisoned]))
    assert len(receiver.accepted) == 9


async def test_dead_endpoint_is_probed_and_then_catches_up(pool: asyncpg.Pool, dsn: str) -> None:
    (port,) = free_ports({"receiver": 0})
    endpoint = await register(pool, f"http://{LOOPBACK}:{port}/webhooks")
    order_ids = await publish(pool, 20, 2)
    began = time.monotonic()
    async with delivering(dsn):
        await until(lambda: _failed(pool, endpoint, 4))
        state = await health(pool, endpoint)
        assert state.next_try_at and state.failing_since and state.lag_seconds > 0
        assert state.parked_orders == 0, "an outage is one backlog"
        assert "cannot connect" in str(state.last_error)
        async with receiving(port=port) as receiver:
            await receiver.until(lambda: complete(receiver, order_ids, 2))
    # The pauses grow to half a maximum at least, with the jitter.
    probes = (time.monotonic() - began) / (QUICK.pause_seconds_max / 2) + 2
    failed = [one for one in await attempts(pool, endpoint) if one.error]
    assert len(failed) <= QUICK.concurrent_max + probes, "it is probed with one event at a time"
    assert (await health(pool, endpoint)).failing_since is None


async def _failed(pool: asyncpg.Pool, endpoint: Endpoint, count: int) -> bool:
    state = await health(pool, endpoint)
    return state.failed >= count and state.next_try_at is not None


async def test_endpoint_that_rejects_everything_is_one_backlog(
    pool: asyncpg.Pool, dsn: str
) -> None:
    order_ids = await publish(pool, 30, 1)
    async with receiving(lambda _: ERROR) as receiver:
        endpoint = await register(pool, receiver.url)
        async with delivering(dsn):
            await until(lambda: _failed(pool, endpoint, 20))
            assert (await health(pool, endpoint)).parked_orders < 5
            receiver.respond = lambda _: OK
            await receiver.until(lambda: complete(receiver, order_ids, 1))
            await until(lambda: _parked(pool, endpoint, None))


async def test_endpoint_that_fails_at_random_loses_nothing(pool: asyncpg.Pool, dsn: str) -> None:
    order_ids = await publish(pool, 10, 5)
    async with receiving(failing_first(1)) as receiver, delivering(dsn):
        endpoint = await register(pool, receiver.url)
        await receiver.until(lambda: complete(receiver, order_ids, 5))
    assert len(receiver.accepted) == 50
    by_event = Counter(one.event_id for one in await attempts(pool, endpoint))
    assert set(by_event.values()) == {2}, "each has the same id on every attempt"


async def test_retry_after_is_kept(pool: asyncpg.Pool, dsn: str) -> None:
    order_ids = await publish(pool, 1, 1)
    busy = Reply(503, {"Retry-After": "1"})
    async with receiving(failing_first(1, busy)) as receiver, delivering(dsn):
        endpoint = await register(pool, receiver.url)
        await receiver.until(lambda: complete(receiver, order_ids, 1))
    first, second = await attempts(pool, endpoint)
    assert second.attempted_at - first.attempted_at >= timedelta(seconds=1)


class FortyDaysAhead(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> FortyDaysAhead:
        return super().now(tz) + timedelta(days=40)


async def test_wrong_clock_of_a_machine_puts_nothing_off_and_is_in_no_signature(
    pool: asyncpg.Pool, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "datetime", FortyDaysAhead)
    secret, order_ids = new_secret(), await publish(pool, 1, 1)
    async with receiving(failing_first(1, ERROR)) as receiver, delivering(dsn):
        endpoint = await register(pool, receiver.url, secret)
        await receiver.until(lambda: complete(receiver, order_ids, 1))
        for request in receiver.requests:
            Webhook(secret).verify(request.body, request.headers)
    failed, _ = await attempts(pool, endpoint)
    assert failed.next_try_at is not None
    assert failed.next_try_at - datetime.now(UTC) < timedelta(days=1)


async def test_410_stops_delivery_until_an_operator_resumes_it(
    pool: asyncpg.Pool, dsn: str
) -> None:
    order_ids = await publish(pool)
    have_come = asyncio.Event()
    async with (
        receiving(lambda _: Reply(410, after=have_come)) as receiver,
        receiving() as other,
        delivering(dsn),
    ):
        endpoint = await register(pool, receiver.url)
        # The first events of all orders are sent side by side.
        await receiver.until(lambda: len(receiver.requests) == len(order_ids))
        have_come.set()
        await until(lambda: _has_status(pool, endpoint, "gone"))
        await register(pool, other.url)
        later = await publish(pool, 1, 1)
        await other.until(lambda: complete(other, later, 1))
        assert len(receiver.requests) == len(order_ids)
        receiver.respond = lambda _: OK
        await endpoints.resume(pool, endpoint.endpoint_id)
        await receiver.until(lambda: complete(receiver, order_ids))


async def _has_status(pool: asyncpg.Pool, endpoint: Endpoint, status: str) -> bool:
    found = await endpoints.find(pool, endpoint.endpoint_id)
    return found is not None and found.status == status


async def test_slow_and_dead_endpoints_cost_the_others_nothing(
    pool: asyncpg.Pool, dsn: str
) -> None:
    released = asyncio.Event()
    async with (
        receiving(lambda _: Reply(after=released)) as slow,
        receiving() as good,
        delivering(dsn),
    ):
        await register(pool, slow.url)
        await register(pool, "http://127.0.0.1:1/dead")
        await register(pool, good.url)
        order_ids = await publish(pool, 20, 4)
        await good.until(lambda: complete(good, order_ids, 4))
        await slow.until(lambda: slow.requests)
        assert slow.accepted == []
        released.set()


async def test_paused_endpoint_gets_nothing_until_it_is_resumed(
    pool: asyncpg.Pool, dsn: str
) -> None:
    async with (
        receiving(lambda _: ERROR) as receiver,
        receiving() as other,
        delivering(dsn) as reloads,
    ):
        endpoint = await register(pool, receiver.url)
        await register(pool, other.url)
        await reloads.notice()
        await endpoints.pause(pool, endpoint.endpoint_id)
        await reloads.notice()
        order_ids = await publish(pool)
        await other.until(lambda: complete(other, order_ids))
        receiver.respond = lambda _: OK
        await endpoints.resume(pool, endpoint.endpoint_id)
        await receiver.until(lambda: complete(receiver, order_ids))
    assert len(receiver.requests) == 9, "what came before had to be sent again"


async def test_endpoint_paused_while_its_events_are_read_gets_none_of_them(
    pool: asyncpg.Pool, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, is_reading, may_read = CursorReader.read, asyncio.Event(), asyncio.Event()

    async def read_later(self: CursorReader, endpoint: Endpoint, after: Checkpoint) -> Page:
        page = await read(self, endpoint, after)
        if page.webhooks:
            is_reading.set()
            await may_read.wait()
        return page

    monkeypatch.setattr(CursorReader, "read", read_later)
    order_ids = await publish(pool)
    async with receiving(lambda _: ERROR) as receiver, delivering(dsn) as reloads:
        endpoint = await register(pool, receiver.url)
        await is_reading.wait()
        await endpoints.pause(pool, endpoint.endpoint_id)
        await reloads.notice()
        may_read.set()
        await reloads.notice()
        receiver.respond = lambda _: OK
        await endpoints.resume(pool, endpoint.endpoint_id)
        await receiver.until(lambda: complete(receiver, order_ids))
    assert len(receiver.requests) == 9, "what came before had to be sent again"


def first_at_once(later: asyncio.Event) -> Respond:
    """Accepts the first request at once, and the others once an event is set."""
    replies = iter([OK])
    return lambda _: next(replies, Reply(after=later))


async def _is_released(pool: asyncpg.Pool) -> bool:
    """Whether no deliverer owns an endpoint: its attempts have ended."""
    return not await _owned(pool)


LATER = {"Retry-After": "3600"}


async def put_off(pool: asyncpg.Pool, receiver: Receiver, endpoint: Endpoint) -> list[str]:
    """Publishes an order that is parked for an hour, and one for which the endpoint is down."""
    receiver.respond = lambda _: Reply(500, LATER)
    [parked] = await publish(pool, 1)
    await until(lambda: _parked(pool, endpoint, f"{parked}@1"))
    receiver.respond = lambda _: Reply(503, LATER)
    [waiting] = await publish(pool, 1)
    await until(lambda: _failed(pool, endpoint, 2))
    return [parked, waiting]


async def test_resume_after_a_pause_tries_at_once(pool: asyncpg.Pool, dsn: str) -> None:
    async with receiving() as receiver, delivering(dsn):
        endpoint = await register(pool, receiver.url)
        order_ids = await put_off(pool, receiver, endpoint)
        await endpoints.pause(pool, endpoint.endpoint_id)
        await asyncio.sleep(0.5)
        receiver.respond = lambda _: OK
        await endpoints.resume(pool, endpoint.endpoint_id)
        await receiver.until(lambda: complete(receiver, order_ids))


async def test_resume_after_the_410_of_an_endpoint_that_was_down_tries_at_once(
    pool: asyncpg.Pool, dsn: str
) -> None:
    replies = iter([Reply(503), Reply(410, LATER)])
    async with receiving(lambda _: next(replies, OK)) as receiver, delivering(dsn):
        endpoint = await register(pool, receiver.url)
        order_ids = await publish(pool, 1)
        await until(lambda: _has_status(pool, endpoint, "gone"))
        await asyncio.sleep(0.5)
        await endpoints.resume(pool, endpoint.endpoint_id)
        await receiver.until(lambda: complete(receiver, order_ids))


async def test_changed_url_is_tried_at_once(pool: asyncpg.Pool, dsn: str) -> None:
    async with receiving() as first, receiving() as second, delivering(dsn):
        endpoint = await register(pool, first.url)
        order_ids = await put_off(pool, first, endpoint)
        await endpoints.change(pool, endpoint.endpoint_id, {"url": second.url}, None)
        await second.until(lambda: complete(second, order_ids))


async def test_resume_while_no_deliverer_runs_tries_at_once(pool: asyncpg.Pool, dsn: str) -> None:
    async with receiving() as receiver:
        endpoint = await register(pool, receiver.url)
        async with delivering(dsn):
            order_ids = await put_off(pool, receiver, endpoint)
        receiver.respond = lambda _: OK
        await endpoints.resume(pool, endpoint.endpoint_id)
        async with delivering(dsn):
            await receiver.until(lambda: complete(receiver, order_ids))


async def test_endpoint_deleted_while_it_delivers_gets_nothing_more(
    pool: asyncpg.Pool, dsn: str
) -> None:
    noticed, at_once = asyncio.Event(), QUICK.concurrent_max
    async with receiving(first_at_once(noticed)) as receiver, delivering(dsn) as reloads:
        endpoint = await register(pool, receiver.url)
        await publish(pool, 20, 10)
        await receiver.until(lambda: len(receiver.requests) == 1 + at_once)
        assert await endpoints.delete(pool, endpoint.endpoint_id)
        await reloads.notice()
        noticed.set()
        await until(lambda: _is_released(pool))
        assert len(receiver.requests) == 1 + at_once
    for table in ("webhook_cursors", "webhook_health", "webhook_parked_orders"):
        assert await pool.fetchval(f"SELECT count(*) FROM {table}") == 0


async def test_secret_rotated_in_the_middle_signs_with_both(pool: asyncpg.Pool, dsn: str) -> None:
    old, new, noticed = new_secret(), new_secret(), asyncio.Event()
    async with receiving(first_at_once(noticed)) as receiver, delivering(dsn) as reloads:
        endpoint = await register(pool, receiver.url, old)
        order_ids = await publish(pool, 20, 4)
        await receiver.until(lambda: receiver.accepted)
        sealed = BOX.seal(new, endpoint.endpoint_id)
        await endpoints.rotate_secret(pool, endpoint.endpoint_id, sealed)
        await reloads.notice()
        noticed.set()
        await receiver.until(lambda: complete(receiver, order_ids, 4))
    for request in receiver.requests:
        Webhook(old).verify(request.body, request.headers)
    Webhook(new).verify(receiver.requests[-1].body, receiver.requests[-1].headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new).verify(receiver.requests[0].body, receiver.requests[0].headers)


async def test_changed_url_and_filter_apply_to_what_follows(pool: asyncpg.Pool, dsn: str) -> None:
    async with receiving() as first, receiving() as second, delivering(dsn) as reloads:
        endpoint = await register(pool, first.url)
        order_ids = await publish(pool)
        await first.until(lambda: complete(first, order_ids))
        await endpoints.change(pool, endpoint.endpoint_id, {"url": second.url}, None)
        await reloads.notice()
        order_ids = await publish(pool)
        await second.until(lambda: complete(second, order_ids))
        assert len(first.requests) == 9


MISBEHAVIOUR = {
    "endless body": Reply(raw=b"HTTP/1.1 200 OK\r\n\r\n", endless=b"x" * 65_536),
    "endless headers": Reply(500, raw=b"HTTP/1.1 200 OK\r\n", endless=b"X-More: 1\r\n" * 1_000),
    "1xx storm": Reply(500, raw=b"", endless=b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100),
    "no HTTP": Reply(500, raw=b"220 mail.example ESMTP\r\n\r\n"),
    "hangs up": Reply(500, raw=b""),
    "no answer": Reply(delay_s=60),
    "redirect to itself": Reply(307, {"Location": "/webhooks"}),
}


@pytest.mark.parametrize("name", MISBEHAVIOUR)
async def test_misbehaving_receiver_ends_in_time(pool: asyncpg.Pool, dsn: str, name: str) -> None:
    poisoned, *others = await publish(pool)
    bad = MISBEHAVIOUR[name]
    seen = list[str]()

    def respond(request: Received) -> Reply:
        is_bad = request.event_id == f"{poisoned}@1" and not seen
        if is_bad:
            seen.append(request.event_id)
        return bad if is_bad else OK

    async with receiving(respond) as receiver, delivering(dsn, IMPATIENT):
        endpoint = await register(pool, receiver.url)
        await receiver.until(lambda: complete(receiver, [poisoned, *others]))
    first = next(o for o in await attempts(pool, endpoint) if o.event_id == f"{poisoned}@1")
    assert first.latency_ms < 30_000 and len(first.answer) <= 256
    assert (first.error is None) == (name == "endless body"), first


async def test_addresses_are_checked_at_each_connection(
    pool: asyncpg.Pool, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that had a public address when it was registered, and has a private one now."""
    await publish(pool, 1, 1)
    async with receiving() as receiver:
        port = receiver.url.split(":")[2]
        endpoint = await register(pool, f"http://localhost:{port}")
        async with delivering(dsn, networks=None):
            await until(lambda: _failed(pool, endpoint, 1))
        assert receiver.connections == 0
        state = await health(pool, endpoint)
        assert "localhost has no address that webhooks may go to" in str(state.last_error)
        async with delivering(dsn):
            await receiver.until(lambda: receiver.accepted)


async def test_secret_that_cannot_be_read_is_shown(pool: asyncpg.Pool, dsn: str) -> None:
    other = SecretBox(KEY[:-4] + "AAA=")
    await publish(pool, 1, 1)
    async with receiving() as receiver:
        endpoint = await register(pool, receiver.url)
        async with delivering(dsn, box=other):
            await until(lambda: _failed(pool, endpoint, 1))
        assert receiver.requests == []
    assert "ORDERLY_ENDPOINT_KEY" in str((await health(pool, endpoint)).last_error)


async def test_secret_rotated_after_its_key_was_lost_is_used_at_once(
    pool: asyncpg.Pool, dsn: str
) -> None:
    other, new = SecretBox(KEY[:-4] + "AAA="), new_secret()
    slow = replace(QUICK, first_pause_seconds=3600.0, pause_seconds_max=7200.0)
    await publish(pool, 1, 1)
    async with receiving() as receiver, delivering(dsn, pace=slow, box=other):
        endpoint = await register(pool, receiver.url)
        await until(lambda: _failed(pool, endpoint, 1))
        sealed = other.seal(new, endpoint.endpoint_id)
        await endpoints.rotate_secret(pool, endpoint.endpoint_id, sealed)
        await receiver.until(lambda: receiver.accepted)
    Webhook(new).verify(receiver.accepted[0].body, receiver.accepted[0].headers)


async def test_two_deliverers_share_the_endpoints(pool: asyncpg.Pool, dsn: str) -> None:
    async with receiving() as receiver:
        for _ in range(4):
            await register(pool, receiver.url)
        async with delivering(dsn):
            async with delivering(dsn):
                await until(lambda: _owners(pool, 2))
                order_ids = await publish(pool)
                await receiver.until(lambda: complete(receiver, order_ids))
            await until(lambda: _owners(pool, 4))
            more = await publish(pool)
            await receiver.until(lambda: complete(receiver, more))
            await until(lambda: _sent(pool, 4 * 18))


async def _owners(pool: asyncpg.Pool, most: int) -> bool:
    """Whether each deliverer owns this many endpoints."""
    return set(await _owned(pool)) == {most}


async def _owned(pool: asyncpg.Pool) -> list[int]:
    """How many endpoints each deliverer owns that owns any."""
    rows = await pool.fetch(
        f"SELECT count(*) AS owned FROM {HELD_LOCKS}"
        " WHERE mode = 'ExclusiveLock' AND objsubid = 1 GROUP BY pid"
    )
    return [row["owned"] for row in rows]


async def _sent(pool: asyncpg.Pool, count: int) -> bool:
    found = await pool.fetchval("SELECT count(*) FROM webhook_deliveries WHERE error IS NULL")
    return bool(found >= count)


async def test_cursor_beyond_a_restored_log_goes_back(pool: asyncpg.Pool, dsn: str) -> None:
    order_ids = await publish(pool, 1, 2)
    async with receiving() as receiver:
        beyond = Checkpoint((await settled_head(pool)).transaction_id + 1_000, 1_000)
        await register(pool, receiver.url, start=beyond)
        async with pool.acquire() as connection:
            await raise_epoch(connection, "a test")
        async with delivering(dsn):
            await append(pool, order_ids[0], note(3))
            await receiver.until(lambda: receiver.accepted)
    assert [one.event_id for one in receiver.accepted] == [f"{order_ids[0]}@3"]


async def test_progress_is_not_stored_by_a_process_that_lost_the_endpoint(
    pool: asyncpg.Pool, dsn: str
) -> None:
    async with receiving() as receiver:
        endpoint = await register(pool, receiver.url)
        async with delivering(dsn):
            order_ids = await publish(pool)
            await receiver.until(lambda: complete(receiver, order_ids))
            await until(lambda: _sent(pool, 9))
            # As another process would; this one starts again from there.
            await pool.execute(
                "UPDATE webhook_cursors SET revision = revision + 7, transaction_id = '0'"
                " WHERE endpoint_id = $1",
                endpoint.endpoint_id,
            )
            await publish(pool, 1, 1)
            await receiver.until(lambda: len(receiver.requests) >= 9 + 10)


async def test_replayed_events_come_again_under_the_same_ids(
    pool: asyncpg.Pool, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "WINDOW_MAX", 4)
    order_ids = await publish(pool)
    async with receiving() as receiver, delivering(dsn):
        endpoint = await register(pool, receiver.url)
        await receiver.until(lambda: complete(receiver, order_ids))
        await until(lambda: _sent(pool, 9))
        receiver.accepted.clear()
        async with pool.acquire() as connection:
            await replays.replay_period(connection, endpoint, None, None)
        await receiver.until(lambda: complete(receiver, order_ids))
        await until(lambda: _has_replays(pool, endpoint, 0))
        receiver.accepted.clear()
        ids = [f"{order_ids[0]}@3", f"{order_ids[1]}@1"]
        receiver.respond = failing_first(1)
        async with pool.acquire() as connection:
            events = await replays.select_events(connection, endpoint, ids)
            await replays.replay_events(connection, endpoint, events)
        await receiver.until(lambda: {one.event_id for one in receiver.accepted} == set(ids))
        await until(lambda: _has_replays(pool, endpoint, 0))
    assert len(receiver.accepted) == 2


async def _has_replays(pool: asyncpg.Pool, endpoint: Endpoint, count: int) -> bool:
    return (await health(pool, endpoint)).replays == count
