"""Child processes end with their parent, and when they are asked to; who reads what they write."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from runtime import signal_with_parent
from tests.support.processes import environment


@pytest.fixture
def ignored() -> Iterator[signal.Signals]:
    """A signal that this process ignores, and its children too, unless they change that."""
    before = signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    yield signal.SIGQUIT
    signal.signal(signal.SIGQUIT, before)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has signals for orphans")
def test_child_obeys_a_signal_that_its_parent_ignores(ignored: signal.Signals) -> None:
    assert_ends_by(ignored)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has signals for orphans")
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_child_can_have_any_signal_for_the_end_of_its_parent(signum: signal.Signals) -> None:
    assert_ends_by(signum)


def assert_ends_by(signum: signal.Signals) -> None:
    with subprocess.Popen(["sleep", "60"], preexec_fn=signal_with_parent(signum)) as child:
        child.send_signal(signum)
        try:
            assert child.wait(30) == -signum
        finally:
            child.kill()


ASK = "import runtime, sys; sys.exit(runtime.is_interactive())"


@pytest.fixture
def terminal() -> Iterator[int]:
    ends = pty.openpty()
    yield ends[1]
    for end in ends:
        os.close(end)


def is_interactive(stdin: int, stdout: int, **variables: str) -> bool:
    """What a process says that has these for input and output."""
    variables = environment(CI="") | variables
    command = [sys.executable, "-c", ASK]
    return bool(subprocess.run(command, stdin=stdin, stdout=stdout, env=variables).returncode)


def test_person_is_there_only_with_input_and_output_on_a_terminal_and_outside_ci(
    terminal: int,
) -> None:
    other = subprocess.DEVNULL
    assert is_interactive(terminal, terminal)
    assert not is_interactive(terminal, subprocess.PIPE)
    assert not is_interactive(other, terminal)
    assert not is_interactive(other, other)
    assert not is_interactive(terminal, terminal, CI="true")
