"""Fixtures of the API's tests."""

from __future__ import annotations

import httpx
import pytest

from tests.support.servers import Running


@pytest.fixture
def http(orderly: Running) -> httpx.AsyncClient:
    """A client of the shared API."""
    return orderly.http
