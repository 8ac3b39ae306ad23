"""A short run of the load of `make chaos`: faults under it break no promise."""

from __future__ import annotations

from itertools import chain, islice
from pathlib import Path

from dev.chaos.checker import commands_of
from dev.chaos.clocks import Clocks
from dev.chaos.nemesis import Strike
from dev.chaos.report import figures
from dev.chaos.run import Result, run_faults
from dev.chaos.schedule import Fault, Step, schedule

# Its first steps have every kill below and clocks that jump, and no half-open connection, which
# takes long to recover from. Steps are counted, not timed: a slow machine does the same ones.
SEED, STEPS = 203227, 4
KILLS = {"kill worker", "kill projector", "kill api", "kill postgres"}
JUMPS = {"clock worker", "clock projector"}
SHOPPERS = 14
SENT_AGAIN_MIN = 30  # Of 60, if a slow machine has acknowledged fewer.
CALM_S = 3.0  # The first orders are open when the processes go down.
DOWN_S = 6.0  # Each is killed again whenever it has been restarted.


async def test_faults_under_load_lose_and_repeat_nothing(tmp_path: Path) -> None:
    """One of each of two processes is down for a while; then faults come at random."""
    down = [Fault("down", name, DOWN_S) for name in ("worker", "api 2", "projector", "deliverer")]
    steps = chain(
        [Step((), waits=True, gap_s=CALM_S), Step(tuple(down), waits=True, gap_s=1.0)],
        islice(schedule(SEED), STEPS),
    )
    # An order whose task the dead worker had waits ten seconds; enough are open that others go on.
    clocks = clocks_in(tmp_path / "clocks")
    result = await run_faults(
        tmp_path / "data", SEED, steps, shoppers=SHOPPERS, replicas=2, clocks=clocks
    )

    assert result.complaints == []
    for strike in result.strikes[: len(down)]:
        assert served_during(strike, "POST", result), "no command was acknowledged meanwhile"
        assert served_during(strike, "GET", result), "no read model followed meanwhile"
    faults = {f"{strike.fault.kind} {strike.fault.target}" for strike in result.strikes}
    assert faults >= (KILLS | JUMPS if clocks else KILLS)
    numbers, commands = figures(result), commands_of(result.history).values()
    assert any(attempt.status == 503 for attempt in result.history.attempts), "nothing was noticed"
    assert result.sent_again >= SENT_AGAIN_MIN
    assert numbers["orders"] >= SHOPPERS
    assert numbers["runs of workflows, replayed"] >= numbers["orders"]
    assert any(command.queued_at and command.results for command in commands)
    assert any(command.if_match is not None and command.results for command in commands)
    assert all(seen for seen in result.history.followers.values())
    assert numbers["webhooks accepted"] >= numbers["events"]


def clocks_in(folder: Path) -> Clocks | None:
    """Clocks that can be shifted; None where a machine does not allow it, as a unit test says."""
    try:
        return Clocks(folder)
    except OSError:
        return None


def served_during(strike: Strike, method: str, result: Result) -> int:
    """How many commands, or reads of a version, were sent and served while a process was down."""
    return sum(
        strike.began_s < attempt.began_s < attempt.ended_s < strike.began_s + DOWN_S
        for attempt in result.history.attempts
        if attempt.method == method
        and attempt.status in (200, 201)
        and (attempt.key or int(attempt.query.get("min_version", 0)) > 0)
    )
