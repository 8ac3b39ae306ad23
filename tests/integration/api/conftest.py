"""What the tests of the API share."""

from __future__ import annotations

import httpx
import pytest

from tests.support.servers import Running


@pytest.fixture
def http(orderly: Running) -> httpx.AsyncClient:
    """A client of the API that the tests share."""
    return orderly.http
