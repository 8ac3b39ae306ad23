"""The window: in order within an order, side by side across, and a watermark that loses nothing."""

from __future__ import annotations

from random import Random

import pytest

from eventlog.log import START, Checkpoint
from outbound.rendering import RenderedEvent
from outbound.window import Window


def webhook(position: int, order_id: str, version: int) -> RenderedEvent:
    return RenderedEvent(Checkpoint(position, position), order_id, version, "note-added", 1, b"{}")


A1, B1, A2, C1 = (
    webhook(number, order_id, version)
    for number, (order_id, version) in enumerate([("a", 1), ("b", 1), ("a", 2), ("c", 1)], 1)
)


def filled() -> Window:
    window = Window(START)
    window.add([A1, B1, A2, C1], Checkpoint(9, 9))
    return window


def before(one: RenderedEvent) -> Checkpoint:
    return Checkpoint(one.checkpoint.transaction_id, one.checkpoint.position - 1)


def test_orders_are_taken_side_by_side_and_their_events_one_by_one() -> None:
    window = filled()
    assert [window.take() for _ in range(4)] == [A1, B1, C1, None]
    window.settle(A1)
    assert [window.take(), window.take()] == [A2, None]


def test_watermark_stays_before_the_first_event_that_is_not_settled() -> None:
    window = filled()
    for _ in range(3):
        window.take()
    window.settle(C1)
    window.settle(B1)
    assert window.watermark == before(A1)
    window.settle(A1)
    assert window.watermark == before(A2)
    window.take()
    window.settle(A2)
    assert window.watermark == window.read_to == Checkpoint(9, 9)


def test_watermark_passes_a_parked_order() -> None:
    window = filled()
    assert window.take() == A1
    window.drop_order("a")
    assert window.watermark == before(B1)
    assert [window.take(), window.take(), window.take()] == [B1, C1, None]


def test_event_that_is_put_back_comes_after_other_orders() -> None:
    window = filled()
    assert window.take() == A1
    window.put_back(A1)
    assert [window.take() for _ in range(4)] == [B1, C1, A1, None]


def test_rewound_window_takes_again_only_what_was_not_delivered() -> None:
    window = filled()
    assert [window.take(), window.take()] == [A1, B1]
    window.settle(B1)
    window.put_back(A1)
    window.rewind()
    assert window.read_to == before(A1)
    assert window.take() is None
    window.add([A1, B1, A2, C1], Checkpoint(9, 9))
    assert [window.take() for _ in range(3)] == [A1, C1, None]


@pytest.mark.parametrize("seed", range(50))
def test_every_event_is_delivered_in_order_under_random_failures(seed: int) -> None:
    dice = Random(seed)
    versions: dict[str, int] = {}
    log = []
    for position in range(1, 60):
        order_id = dice.choice("abcde")
        versions[order_id] = versions.get(order_id, 0) + 1
        log.append(webhook(position, order_id, versions[order_id]))
    window, delivered, taken = Window(START), list[RenderedEvent](), list[RenderedEvent]()
    while len(delivered) < len(log):
        ahead = [one for one in log if one.checkpoint > window.read_to][: dice.randint(1, 10)]
        if ahead and len(window) < 30:
            window.add(ahead, ahead[-1].checkpoint)
        if (one := window.take()) is not None:
            taken.append(one)
        if taken and dice.random() < 0.7:
            done = taken.pop(dice.randrange(len(taken)))
            if dice.random() < 0.3:
                window.put_back(done)
            else:
                window.settle(done)
                delivered.append(done)
        settled = [one for one in log if one.checkpoint <= window.watermark]
        assert set(settled) <= set(delivered)
        if not taken and dice.random() < 0.2:
            window.rewind()
        if dice.random() < 0.2:
            window.forget_delivered()
    assert len(set(delivered)) == len(log), "none is delivered twice without a crash"
    for order_id, count in versions.items():
        mine = [one.version for one in delivered if one.order_id == order_id]
        assert mine == list(range(1, count + 1))
