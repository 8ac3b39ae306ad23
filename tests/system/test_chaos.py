"""Short runs of the load of `make chaos`: faults under it break no promise."""

from __future__ import annotations

from pathlib import Path

from dev.chaos.checker import commands_of
from dev.chaos.nemesis import Fault, Step, Strike
from dev.chaos.report import figures
from dev.chaos.run import Result, run_chaos, run_faults

# Of its faults the first are kills of Postgres, worker, projector and API; it has no half-open
# connection, which takes long to recover from.
SEED = 54164
SECONDS_OF_FAULTS = 26.0
SHOPPERS = 12
SENT_AGAIN_MIN = 30  # Of 60, if a slow machine has acknowledged fewer.


async def test_random_faults_under_load_lose_and_repeat_nothing(tmp_path: Path) -> None:
    result = await run_chaos(tmp_path / "data", SEED, SECONDS_OF_FAULTS, shoppers=SHOPPERS)

    assert result.complaints == []
    faults = {f"{strike.fault.kind} {strike.fault.target}" for strike in result.strikes}
    assert {"kill worker", "kill projector", "kill api", "kill postgres"} <= faults
    numbers, commands = figures(result), commands_of(result.history).values()
    assert any(attempt.status == 503 for attempt in result.history.attempts), "nothing was noticed"
    assert result.sent_again >= SENT_AGAIN_MIN
    assert numbers["orders"] >= SHOPPERS
    assert numbers["runs of workflows, replayed"] >= numbers["orders"]
    assert any(command.queued_at and command.results for command in commands)
    assert any(command.if_match is not None and command.results for command in commands)
    assert all(seen for seen in result.history.followers.values())


CALM_S = 3.0  # The first orders are open when the processes go down.
DOWN_S = 6.0  # Each is killed again whenever it has been restarted.


async def test_one_of_each_of_two_dies_and_comes_back_under_load(tmp_path: Path) -> None:
    down = [Fault("down", name, DOWN_S) for name in ("worker", "api 2", "projector")]
    calm = Step((), waits=True, gap_s=CALM_S)
    steps = iter([calm, Step(tuple(down), waits=True, gap_s=1.0)])
    # An order whose task the dead worker had waits ten seconds; enough are open that others go on.
    result = await run_faults(tmp_path / "data", 1, steps, shoppers=16, replicas=2)

    assert result.complaints == []
    assert len(result.strikes) == 3
    for strike in result.strikes:
        assert served_during(strike, "POST", result), "no command was acknowledged meanwhile"
        assert served_during(strike, "GET", result), "no read model followed meanwhile"
    assert result.sent_again > 0
    assert all(seen for seen in result.history.followers.values())


def served_during(strike: Strike, method: str, result: Result) -> int:
    """How many commands, or reads of a version, were sent and served while a process was down."""
    return sum(
        strike.began_s < attempt.began_s < attempt.ended_s < strike.began_s + DOWN_S
        for attempt in result.history.attempts
        if attempt.method == method
        and attempt.status in (200, 201)
        and (attempt.key or int(attempt.query.get("min_version", 0)) > 0)
    )
