"""Child processes end with their parent, and when they are asked to."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from runtime import signal_with_parent


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
            assert child.wait(10) == -signum
        finally:
            child.kill()
