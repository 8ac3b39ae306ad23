"""A short run of the load of `make chaos`: faults under it break no promise."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from dev.chaos.checker import commands_of
from dev.chaos.clocks import Clocks
from dev.chaos.history import History
from dev.chaos.nemesis import Nemesis
from dev.chaos.report import figures
from dev.chaos.run import run_faults
from dev.chaos.schedule import HOUR_S, Fault, Step

SEED = 203227
DOWN_S, DOWN_TIMES_MAX = 6.0, 5  # Each is killed again whenever it has been restarted.
DOWN = [Fault("down", name, DOWN_S) for name in ("worker", "api 2", "projector", "deliverer")]
CALM_S = 3.0  # The first orders are open when the processes go down.
JUMPS = [
    Fault("clock", "worker", 1.5, 26 * HOUR_S),
    Fault("clock", "projector", 3.0, 40 * 24 * HOUR_S),
]
# Some of those of `make chaos`, without those that take long to recover from. Steps are counted,
# not timed: a slow machine does the same ones.
STEPS = [
    Step((), waits=True, gap_s=CALM_S),
    Step(tuple(DOWN), waits=True, gap_s=1.0),
    Step((Fault("kill", "worker"), Fault("kill", "postgres")), waits=True, gap_s=0.2),
    Step((*JUMPS, Fault("kill", "nats")), waits=True, gap_s=0.4),
    Step((Fault("kill", "api"), Fault("lock", "projection_checkpoints", 4.0)), True, 0.4),
    Step((Fault("kill", "projector"), Fault("kill", "relay")), waits=True, gap_s=0.7),
]
SHOPPERS = 14
SENT_AGAIN_MIN = 30  # Of 60, if a slow machine has acknowledged fewer.


async def test_faults_under_load_lose_and_repeat_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of each of two processes is down for a while; then come kills, jumps and a lock."""
    up_again_s = keep_down_until_served(monkeypatch)
    # An order whose task the dead worker had waits ten seconds; enough are open that others go on.
    clocks = clocks_in(tmp_path / "clocks")
    result = await run_faults(
        tmp_path / "data", SEED, iter(STEPS), shoppers=SHOPPERS, replicas=2, clocks=clocks
    )

    assert result.complaints == []
    for strike in result.strikes[: len(DOWN)]:
        down = strike.began_s, up_again_s[strike.fault]
        assert is_served(result.history, "POST", *down), "no command was acknowledged meanwhile"
        assert is_served(result.history, "GET", *down), "no read model followed meanwhile"
    wanted = [fault for step in STEPS for fault in step.faults if clocks or fault not in JUMPS]
    assert [strike.fault for strike in result.strikes] == wanted
    numbers, commands = figures(result), commands_of(result.history).values()
    assert any(attempt.status == 503 for attempt in result.history.attempts), "nothing was noticed"
    assert result.sent_again >= SENT_AGAIN_MIN
    assert numbers["orders"] >= SHOPPERS
    assert numbers["runs of workflows, replayed"] >= numbers["orders"]
    assert any(command.queued_at and command.results for command in commands)
    assert any(command.if_match is not None and command.results for command in commands)
    assert all(seen for seen in result.history.followers.values())
    assert numbers["webhooks accepted"] >= numbers["events"]
    assert numbers["messages at NATS"] >= numbers["events"]


def clocks_in(folder: Path) -> Clocks | None:
    """Clocks that can be shifted; None where a machine does not allow it, as a unit test says."""
    try:
        return Clocks(folder)
    except OSError:
        return None


def keep_down_until_served(monkeypatch: pytest.MonkeyPatch) -> Mapping[Fault, float]:
    """Keeps a process down, on a slow machine for longer, until a command and a read were served.

    Returns when each came up again.
    """
    keep_down, up_again_s = Nemesis._keep_down, dict[Fault, float]()

    async def keep_down_longer(nemesis: Nemesis, fault: Fault) -> None:
        began_s = time.monotonic()
        for _ in range(DOWN_TIMES_MAX):
            await keep_down(nemesis, fault)
            up_again_s[fault] = ended_s = time.monotonic()
            history = nemesis._load.history
            if all(is_served(history, method, began_s, ended_s) for method in ("POST", "GET")):
                return

    monkeypatch.setattr(Nemesis, "_keep_down", keep_down_longer)
    return up_again_s


def is_served(history: History, method: str, began_s: float, ended_s: float) -> bool:
    """Whether a command, or a read of a version, was sent and served within a time."""
    return any(
        began_s < attempt.began_s < attempt.ended_s < ended_s
        for attempt in history.attempts
        if attempt.method == method
        and attempt.status in (200, 201)
        and (attempt.key or int(attempt.query.get("min_version", 0)) > 0)
    )
