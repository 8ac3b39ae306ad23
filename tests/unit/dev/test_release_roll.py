"""A roll complains of each operator's command that fails, and of nothing that one only finds."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, nullcontext
from pathlib import Path
from typing import cast

import httpx
import pytest
from temporalio.client import Client

from dev.release import roll as module
from dev.release.checkouts import LOCKS
from dev.release.roll import Release, Rolling, Version
from dev.release.traffic import Traffic
from dev.stack import StackError
from dev.stack.programs import Addresses
from tests.support.paths import ROOT
from tests.support.processes import HANGING, assert_ended, pid_in

MODEL = "order_view"


def rolling(folder: Path, code: int) -> Rolling:
    """A roll between versions whose commands print what they were asked, and end with a code."""
    for lock in LOCKS:
        (folder / lock).parent.mkdir(exist_ok=True)
        (folder / lock).write_bytes((ROOT / lock).read_bytes())
    (folder / "settings.py").touch()
    (folder / "cli").mkdir()
    (folder / "cli" / "__init__.py").touch()
    (folder / "cli" / "__main__.py").write_text(
        "import sys\n"
        "print('ord_1 differs')\n"
        "print('Traceback (most recent call last):', file=sys.stderr)\n"
        "print('orderly: it cannot be done', file=sys.stderr)\n"
        f"sys.exit({code})\n"
    )
    version = Version(folder, "old")
    url = "http://127.0.0.1:1"
    return Rolling(
        release=Release(version, version, [MODEL], is_read_back=False),
        addresses=Addresses(url, "", "", "", "", "", url),
        webhook_secret="",
        client=cast(Client, None),
        logs=folder,
        traffic=Traffic(httpx.AsyncClient()),
        held=AsyncExitStack(),
        report=lambda stage: None,
    )


@pytest.mark.parametrize(
    "command",
    [
        ("migrate",),
        ("projections", "rebuild", "--prepare", MODEL),
        ("projections", "rollback", MODEL),
    ],
    ids=" ".join,
)
async def test_command_that_fails_is_complained_of(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    roll = rolling(tmp_path, code=1)
    await roll._orderly(roll.release.old, *command)
    (said,) = roll.complaints
    assert said == f"`orderly {' '.join(command)}` fails: orderly: it cannot be done"


async def test_command_ends_when_the_roll_is_cancelled(tmp_path: Path) -> None:
    roll = rolling(tmp_path, code=0)
    (tmp_path / "cli" / "__main__.py").write_text(HANGING)
    running = asyncio.create_task(roll._orderly(roll.release.old, "migrate"))
    pid = await pid_in(tmp_path / "cli")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert_ended(pid)


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        (
            "sys.exit('orderly: ORDERLY_NEW is missing.')",
            "ended with exit code 1: orderly: ORDERLY_NEW is missing.",
        ),
        ("signal.pause()", "is not ready after 0 seconds: "),
    ],
)
async def test_worker_that_never_polls_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, sentence: str
) -> None:
    async def none(*_: object) -> bool:
        return False

    monkeypatch.setattr(Rolling, "_is_routed", none)
    roll = rolling(tmp_path, code=0)
    (tmp_path / "cli" / "__main__.py").write_text(f"import signal, sys\n{program}\n")
    async with roll.held:
        await roll._start(roll._program(roll.release.old, "worker"))
        if "pause" in program:
            monkeypatch.setattr(module, "READY_SECONDS", 0)
        with pytest.raises(StackError) as raised:
            await roll._route(roll.release.old)
    said = str(raised.value)
    assert said.startswith(f"worker old {sentence}") and "\n" not in said, said


async def test_api_does_not_wait_for_a_projector_that_has_ended(tmp_path: Path) -> None:
    roll = rolling(tmp_path, code=0)
    (tmp_path / "cli" / "__main__.py").write_text(
        "import signal, sys\nsys.exit('no table') if 'projector' in sys.argv else signal.pause()\n"
    )
    async with roll.held:
        with pytest.raises(StackError) as raised:
            await roll._readers(roll.release.old)
    assert str(raised.value) == "projector ended with exit code 1: no table."


def test_log_that_says_that_work_was_lost_is_quoted(tmp_path: Path) -> None:
    roll = rolling(tmp_path, code=0)
    (tmp_path / "worker new.log").write_text(
        "started\nWARNING of signal add-note: dropping the signal.\nSnapshotLost, too\n"
    )
    assert [finding.sentence for finding in roll.findings()] == [
        "the log of worker new says: WARNING of signal add-note: dropping the signal."
    ]


async def test_rollback_of_a_read_model_that_fails_is_complained_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def skip(*_: object) -> None:
        pass

    for stage in ("_route", "_flow", "_move", "_readers"):
        monkeypatch.setattr(Rolling, stage, skip)
    monkeypatch.setattr(Traffic, "flowing", nullcontext)
    roll = rolling(tmp_path, code=1)
    await roll._back()
    (said,) = roll.complaints
    assert said.startswith("`orderly projections rollback order_view` fails: ")


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        (0, None),
        (1, "`orderly verify --state` finds: ord_1 differs"),
        (2, "`orderly verify --state` fails: orderly: it cannot be done"),
    ],
)
async def test_verification_complains_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, complaint: str | None
) -> None:
    async def skip(*_: object) -> None:
        pass

    monkeypatch.setattr(Rolling, "_published", skip)
    roll = rolling(tmp_path, code)
    await roll._verify(roll.release.old)
    assert roll.complaints == ([complaint] if complaint else [])


@pytest.mark.parametrize(("code", "complaints"), [(0, 0), (1, 0), (2, 1)])
async def test_orders_that_stay_for_now_are_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, complaints: int
) -> None:
    async def none(*_: object) -> list[str]:
        return []

    monkeypatch.setattr("dev.release.roll.pinned_to", none)
    monkeypatch.setattr("dev.release.roll.LISTED_SECONDS", 0)
    roll = rolling(tmp_path, code)
    await roll._move(roll.release.old, roll.release.new)
    assert len(roll.complaints) == complaints


async def test_orders_that_are_listed_late_are_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = [[], ["ord_1"], [], []]

    async def next_look(*_: object) -> list[str]:
        return looks.pop(0)

    monkeypatch.setattr("dev.release.roll.pinned_to", next_look)
    monkeypatch.setattr("dev.release.roll.LISTED_SECONDS", 0)
    roll = rolling(tmp_path, code=0)
    await roll._move(roll.release.old, roll.release.new)
    assert looks == []
