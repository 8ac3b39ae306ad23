"""A command whose exit code 1 is a finding exits with 2 if it could not look."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from temporalio.service import RPCError, RPCStatusCode

from cli.verify import Report
from tests.support.processes import UNREACHABLE_DSN, assert_one_sentence, run_inside

NO_TEMPORAL = {"TEMPORAL_ADDRESS": "127.0.0.1:1", "ORDERLY_TASK_QUEUE": "orders"}


@pytest.mark.parametrize(
    "command", [("verify",), ("restore", "status"), ("stuck",), ("versions",)], ids=" ".join
)
def test_command_that_cannot_ask_temporal_finds_nothing(command: tuple[str, ...]) -> None:
    ended = run_inside(*command, ORDERLY_POSTGRES_DSN=UNREACHABLE_DSN, **NO_TEMPORAL)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert "127.0.0.1:1" in ended.stderr
    assert_one_sentence(ended.stderr)


def test_temporal_that_fails_meanwhile_is_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> AsyncIterator[Report]:
        yield Report(orders=1)
        raise RPCError("timeout", RPCStatusCode.DEADLINE_EXCEEDED, b"")

    monkeypatch.setattr("cli.verify.verify", fail)
    ended = run_inside("verify", "--no-history", ORDERLY_POSTGRES_DSN=UNREACHABLE_DSN)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.endswith("orderly: Temporal cannot be used: timeout. Run it again.\n")
