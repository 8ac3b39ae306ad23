"""Fixtures of the system tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.support.trace_collector import Collector


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield server
        server.shutdown()
        serving.join()
