"""Settings as a process with other environment variables would read them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TypeVar
from unittest.mock import patch

T = TypeVar("T")


def reading(variables: Mapping[str, str], read: Callable[[], T]) -> T:
    """The result of `read` where the environment has these variables and no others."""
    with patch.dict(os.environ, variables, clear=True):
        return read()
