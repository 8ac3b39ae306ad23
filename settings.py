"""Everything the environment may decide, read once into one frozen value."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


class SettingsError(ValueError):
    """The environment lacks a setting or holds one that cannot be used; the message says which."""


@dataclass(frozen=True)
class Settings:
    """What a process needs to know about the world around it.

    The connection to Temporal is not here: the SDK reads its own ``TEMPORAL_*`` variables
    (``TEMPORAL_ADDRESS``, ``TEMPORAL_NAMESPACE``, ``TEMPORAL_API_KEY``, TLS, profiles).
    """

    postgres_dsn: str
    task_queue: str = "orders"
    api_host: str = "127.0.0.1"
    api_port: int = 8080
    # Both or neither: together they register the worker as a pinned version of a deployment.
    # The names are those that Temporal's own worker controller sets.
    deployment_name: str | None = None
    build_id: str | None = None


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Reads the settings; raises SettingsError with one sentence that says what to change."""
    dsn = environment.get("ORDERLY_POSTGRES_DSN", "")
    if not dsn.startswith(("postgresql://", "postgres://")):
        raise SettingsError(
            "Set ORDERLY_POSTGRES_DSN to something like postgresql://orderly@db.internal/orderly."
        )
    port = environment.get("ORDERLY_API_PORT", str(Settings.api_port))
    if not port.isdecimal() or int(port) > 65535:
        raise SettingsError(f"ORDERLY_API_PORT must be a port number, not {port!r}.")
    name = environment.get("TEMPORAL_DEPLOYMENT_NAME") or None
    build_id = environment.get("TEMPORAL_WORKER_BUILD_ID") or None
    if (name is None) != (build_id is None):
        raise SettingsError(
            "Set TEMPORAL_DEPLOYMENT_NAME and TEMPORAL_WORKER_BUILD_ID together, or neither."
        )
    return Settings(
        postgres_dsn=dsn,
        task_queue=environment.get("ORDERLY_TASK_QUEUE", Settings.task_queue),
        api_host=environment.get("ORDERLY_API_HOST", Settings.api_host),
        api_port=int(port),
        deployment_name=name,
        build_id=build_id,
    )
