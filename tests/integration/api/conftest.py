"""Fixtures of the API's tests."""

from __future__ import annotations

import pytest

from tests.support.servers import ApiClient, Running


@pytest.fixture
def http(orderly: Running) -> ApiClient:
    """A client of the shared API."""
    return orderly.http
