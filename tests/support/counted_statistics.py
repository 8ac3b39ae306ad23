"""Statistics computed by a plain count over random events: what the projections must equal."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from math import ceil
from typing import Any, NamedTuple

import asyncpg

from dev.random_orders import RandomOrder, random_line
from eventlog import log
from eventlog.announcements import announce
from eventlog.envelope import Envelope
from orders import commands as c
from orders import events as e
from orders.commands import OrderCommand
from orders.events import OrderEvent
from orders.evolve import evolve
from orders.order import Order
from orders.policy import Policy
from orders.steps import SERVICE_OF_STEP, SERVICES
from readside.engine import generations
from readside.engine.batches import BatchStatus, project_batch
from readside.engine.projection import Projection
from readside.statistics import (
    abandoned_drafts,
    lead_times,
    order_stats,
    removed_items,
    service_results,
)
from tests.support.command_builders import new_order_id
from tests.support.event_log import ABOUT, settled

MODULES = (order_stats, removed_items, abandoned_drafts, lead_times, service_results)
STATS = [module.PROJECTION for module in MODULES]
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
PERIOD = (date(2026, 1, 1), date(2026, 12, 31))


class Happened(NamedTuple):
    """An event of an order, and when it happened."""

    at: datetime
    event: OrderEvent

    @property
    def day(self) -> date:
        return self.at.date()


Lives = dict[str, list[Happened]]


def some_lives(dice: random.Random) -> Lives:
    return {new_order_id(): a_life(dice) for _ in range(25)}


def a_life(dice: random.Random) -> list[Happened]:
    """A draft that changes its mind, and in most cases an order of which all sorts of things come.

    It goes on for days; what happens at once happens a moment apart.
    """
    life = RandomOrder()
    life.send(c.OpenOrder(customer_id="900", currency="USD", policy=Policy()))
    for number in range(dice.randint(1, 5)):
        life.send(random_line(f"{number}", dice))
    for _ in range(dice.randint(0, 12)):
        line_id = f"{dice.randint(0, 5)}"
        changes: list[OrderCommand] = [
            c.RemoveItemFromOrder(line_id=line_id),
            *2 * [c.ChangeItemQuantity(line_id=line_id, quantity=dice.randint(1, 9))],
            c.AddNote(note_id=life.new_id(), text="hi"),
        ]
        life.send(dice.choice(changes))
    match dice.randint(0, 9):
        case 0:
            life.send(c.CancelOrder())
        case 1:
            life.pass_deadline()
        case 2:
            pass
        case _:
            life.send(c.PlaceOrder(payment_method="pm_card"))
            for _ in range(dice.randint(0, 30)):
                life.move(dice)
            if dice.random() < 0.7:
                life.finish()
    at = NEW_YEAR + timedelta(days=dice.randint(0, 3))
    past = []
    for event in life.events:
        if isinstance(event, e.OrderOpened):
            event = event.model_copy(update={"currency": dice.choice(["USD", "JPY"])})
        at += timedelta(seconds=dice.choice([0.001, 1, 60, 20_000]))
        past.append(Happened(at, event))
    return past


def stats_of(lives: Lives) -> list[dict[str, Any]]:
    counts = {
        e.OrderOpened: "opened",
        e.OrderPlaced: "placed",
        e.OrderConfirmed: "confirmed",
        e.OrderCompleted: "completed",
        e.OrderCancelled: "cancelled",
        e.OrderExpired: "expired",
    }
    zeros = dict.fromkeys(
        [*counts.values(), "placed_amount", "captured_amount", "refunded_amount"], 0
    )
    days: dict[tuple[date, str], dict[str, int]] = defaultdict(zeros.copy)
    for life in lives.values():
        opened = life[0].event
        assert isinstance(opened, e.OrderOpened)
        for happened in life:
            event, key = happened.event, (happened.day, opened.currency)
            if type(event) in counts:
                days[key][counts[type(event)]] += 1
            if isinstance(event, e.OrderPlaced):
                days[key]["placed_amount"] += event.total
            if isinstance(event, e.PaymentCaptured):
                days[key]["captured_amount"] += event.amount
            if isinstance(event, e.PaymentRefunded):
                days[key]["refunded_amount"] += event.amount
    return [{"day": f"{key[0]}", "currency": key[1], **days[key]} for key in sorted(days)]


def removed_of(lives: Lives) -> list[dict[str, Any]]:
    times: dict[str, Counter[date]] = defaultdict(Counter)
    pieces: dict[str, Counter[date]] = defaultdict(Counter)
    for life in lives.values():
        lines: dict[str, tuple[str, int]] = {}
        for happened in life:
            match happened.event:
                case e.ItemAdded(line_id=key, sku=sku, quantity=quantity):
                    lines[key] = (sku, quantity)
                    continue
                case e.ItemQuantityChanged(line_id=key, quantity=left):
                    pass
                case e.ItemRemoved(line_id=key):
                    left = 0
                case _:
                    continue
            sku, before = lines[key]
            lines[key] = (sku, left)
            if left < before:
                times[sku][happened.day] += 1
                pieces[sku][happened.day] += before - left
    return [
        {
            "sku": sku,
            "times": times[sku].total(),
            "pieces": pieces[sku].total(),
            "days": [
                {"day": f"{day}", "times": times[sku][day], "pieces": pieces[sku][day]}
                for day in sorted(times[sku])
            ],
        }
        for sku in sorted(times, key=lambda sku: (-pieces[sku].total(), sku))
    ]


def abandoned_of(lives: Lives) -> tuple[list[dict[str, Any]], list[tuple[str, datetime]]]:
    """The days; and the drafts of now, with when they were last touched, longest ago first."""
    ends = {e.OrderPlaced: "placed", e.OrderExpired: "expired", e.OrderCancelled: "cancelled"}
    zeros = dict.fromkeys(["opened", *ends.values()], 0)
    days: dict[date, dict[str, int]] = defaultdict(zeros.copy)
    idle = []
    for order_id, life in lives.items():
        days[life[0].day]["opened"] += 1
        for happened in life:
            if type(happened.event) in ends:
                days[happened.day][ends[type(happened.event)]] += 1
                break  # What comes later does not happen to a draft.
        else:
            idle.append((order_id, life[-1].at))
    by_day = [{"day": f"{day}", **days[day]} for day in sorted(days)]
    return by_day, sorted(idle, key=lambda draft: (draft[1], draft[0]))


def leads_of(lives: Lives) -> list[dict[str, Any]]:
    placed: Counter[date] = Counter()
    waits: dict[type[OrderEvent], dict[date, list[int]]] = {
        e.ShipmentDispatched: defaultdict(list),
        e.ShipmentDelivered: defaultdict(list),
        e.OrderCompleted: defaultdict(list),
    }
    for life in lives.values():
        at = {type(happened.event): happened.at for happened in reversed(life)}  # The first ones.
        if e.OrderPlaced in at:
            day = at[e.OrderPlaced].date()
            placed[day] += 1
            for kind, by_day in waits.items():
                if kind in at:
                    by_day[day].append(int((at[kind] - at[e.OrderPlaced]).total_seconds()))
    return [
        {
            "day": f"{day}",
            "placed": placed[day],
            "shipped": lead_of(waits[e.ShipmentDispatched][day]),
            "delivered": lead_of(waits[e.ShipmentDelivered][day]),
            "completed": lead_of(waits[e.OrderCompleted][day]),
        }
        for day in sorted(placed)
    ]


def lead_of_all(lives: Lives) -> dict[str, Any]:
    """As if all had been placed on one day."""
    moved = {}
    for order_id, life in lives.items():
        placed = [one.at for one in life if isinstance(one.event, e.OrderPlaced)]
        back = placed[0] - NEW_YEAR if placed else timedelta()
        moved[order_id] = [Happened(one.at - back, one.event) for one in life]
    (day,) = leads_of(moved)
    return {name: value for name, value in day.items() if name != "day"}


def lead_of(seconds: list[int]) -> dict[str, int | None]:
    def least_of(part: float) -> int | None:
        return sorted(seconds)[ceil(part * len(seconds)) - 1] if seconds else None

    return {
        "orders": len(seconds),
        "p50_seconds": least_of(0.5),
        "p90_seconds": least_of(0.9),
        "longest_seconds": least_of(1),
    }


_DONE = {
    e.StockReserved: "stock",
    e.StockReleased: "stock",
    e.StockWithdrawn: "stock",
    e.Restocked: "stock",
    e.PaymentAuthorised: "payments",
    e.PaymentCaptured: "payments",
    e.PaymentVoided: "payments",
    e.PaymentRefunded: "payments",
    e.ShipmentBooked: "shipping",
    e.ShipmentStopped: "shipping",
}
_DECLINED = {e.StockShort: "stock", e.PaymentDeclined: "payments", e.CaptureRefused: "payments"}


def results_of(lives: Lives) -> dict[str, list[dict[str, Any]]]:
    days: dict[str, dict[date, Counter[str]]] = {
        service: defaultdict(Counter) for service in SERVICES
    }
    for life in lives.values():
        kinds: dict[str, str] = {}
        order = Order()
        for happened in life:
            event = happened.event
            if type(event) in _DONE:
                days[_DONE[type(event)]][happened.day]["done"] += 1
            elif type(event) in _DECLINED:
                days[_DECLINED[type(event)]][happened.day]["declined"] += 1
            elif isinstance(event, e.StepStuck):
                days[SERVICE_OF_STEP[kinds[event.step_id]]][happened.day]["stuck"] += 1
            order = evolve(order, event)
            kinds |= {key: step.type for key, step in order.steps.items()}
    return {
        service: [
            {"day": f"{day}", **{kind: counts[kind] for kind in ("done", "declined", "stuck")}}
            for day, counts in sorted(by_day.items())
        ]
        for service, by_day in days.items()
    }


def last_failures_of(lives: Lives) -> list[datetime]:
    """Of each service that has failed: when it last did."""
    last: dict[str, datetime] = {}
    for life in lives.values():
        for happened in life:
            if isinstance(happened.event, e.StepStuck):
                service = SERVICE_OF_STEP[happened.event.step_id.rpartition("-")[0]]
                last[service] = max(last.get(service, happened.at), happened.at)
    return sorted(last.values())


async def assert_as_counted_by_hand(pool: asyncpg.Pool, lives: Lives) -> None:
    days = await order_stats.by_day(pool, *PERIOD)
    assert [day.model_dump(mode="json") for day in days] == stats_of(lives)
    items = await removed_items.most_removed(pool, *PERIOD, None, 100)
    assert [item.model_dump(mode="json") for item in items] == removed_of(lives)
    by_day, idle = abandoned_of(lives)
    drafts = await abandoned_drafts.by_day(pool, *PERIOD)
    assert [day.model_dump(mode="json") for day in drafts] == by_day
    assert await abandoned_drafts.count_open(pool) == len(idle)
    longest = await abandoned_drafts.longest_idle(pool, 100)
    assert [(draft.order_id, draft.last_event_at) for draft in longest] == idle
    leads = await lead_times.by_day(pool, *PERIOD)
    assert [day.model_dump(mode="json") for day in leads] == leads_of(lives)
    period = await lead_times.of_period(pool, *PERIOD)
    assert period.model_dump(mode="json") == lead_of_all(lives)
    results = await service_results.by_day(pool, *PERIOD)
    shown = {name: [day.model_dump(mode="json") for day in days] for name, days in results.items()}
    assert shown == results_of(lives)
    failures = await service_results.last_failures(pool)
    assert sorted(of[0].occurred_at for of in failures.values() if of) == last_failures_of(lives)


async def publish_all(pool: asyncpg.Pool, lives: Lives) -> None:
    for order_id, life in lives.items():
        await publish(pool, order_id, life, 1)


async def publish(pool: asyncpg.Pool, order_id: str, part: Sequence[Happened], first: int) -> None:
    envelopes = [Envelope.of(h.event, v, h.at, ABOUT) for v, h in enumerate(part, first)]
    async with pool.acquire() as connection:
        await log.append(connection, order_id, envelopes)
        await announce(connection)


async def publish_more(pool: asyncpg.Pool, lives: Lives, come: Counter[str]) -> None:
    """A few more events of each order."""
    for order_id, life in lives.items():
        part = life[come[order_id] : come[order_id] + random.Random(order_id).randint(5, 50)]
        if part:
            await publish(pool, order_id, part, come[order_id] + 1)
            come[order_id] += len(part)


async def project_all(dsn: str, projection: Projection) -> None:
    async with generations.connected(dsn, projection) as connection:
        await settled(connection)
        while await project_batch(connection, projection) is not BatchStatus.CAUGHT_UP:
            pass
