"""More than can be served is sent away unharmed, and an engine that is away is told at once."""

from __future__ import annotations
