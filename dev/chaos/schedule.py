"""The faults of a run and their order, from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import NamedTuple

from dev.chaos import clocks

PROCESSES = (
    *("worker", "api", "projector", "deliverer", "relay"),
    *("postgres", "temporal", "nats", "simulators"),
)
TABLES = ("order_events", "projection_checkpoints", "customer_keys", "order_view.orders")
SERVERS = ("postgres", "temporal")
"""What the nemesis can reach by a proxy, between the server and the processes of orderly."""
HOUR_S = 3600
SHIFTS_S = (-26 * HOUR_S, -2 * HOUR_S, 2 * HOUR_S, 26 * HOUR_S, 40 * 24 * HOUR_S)
"""How far a clock is set forward or back."""
PAUSE_S = (1.0, 4.0)
LONG_PAUSE_S = (5.0, 25.0)
GAP_S = (0.2, 1.0)
LONG_GAP_S = (1.0, 5.0)


class Fault(NamedTuple):
    """One harm; `seconds` is how long it lasts, if it lasts; `shift_s` is what a clock is ahead."""

    kind: str
    target: str
    seconds: float = 0.0
    shift_s: int = 0

    def __str__(self) -> str:
        shift = f" {self.shift_s / HOUR_S:+g} h" if self.shift_s else ""
        lasting = f" {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.kind} {self.target}{shift}{lasting}"


class Step(NamedTuple):
    """Faults at the same time; then whether to wait until all is served again, and a gap."""

    faults: tuple[Fault, ...]
    waits: bool
    gap_s: float


def schedule(seed: int, is_long: bool = False) -> Iterator[Step]:
    """The steps, for ever; the same for the same arguments. Each round has every fault once.

    Some happen together. Long schedules have longer faults, and more of them together.
    """
    dice = Random(seed)
    lasting, gap = (LONG_PAUSE_S, LONG_GAP_S) if is_long else (PAUSE_S, GAP_S)
    together = (1, 1, 2, 3) if is_long else (1, 1, 2)
    while True:
        faults = _round(dice, lasting)
        dice.shuffle(faults)
        while faults:
            number = dice.choice(together)
            taken, faults = tuple(faults[:number]), faults[number:]
            yield Step(taken, dice.random() < 0.7, dice.uniform(*gap))


def _round(dice: Random, lasting: tuple[float, float]) -> list[Fault]:
    kills = [Fault("kill", name) for name in PROCESSES]
    harms = [
        *(("pause", name) for name in (*PROCESSES, "one backend")),
        ("lock", dice.choice(TABLES)),
        ("lock", dice.choice(TABLES)),
        *((kind, "postgres") for kind in ("read-only", "exhaust", "terminate")),
        *((kind, server) for kind in ("half-open", "cut", "delay") for server in SERVERS),
        ("full", "disk"),
    ]
    once = ("half-open", "cut")
    jumps = [
        Fault("clock", name, dice.uniform(*lasting), dice.choice(SHIFTS_S))
        for name in clocks.PROCESSES
    ]
    return [*kills, *jumps] + [
        Fault(kind, target, 0.0 if kind in once else dice.uniform(*lasting))
        for kind, target in harms
    ]
