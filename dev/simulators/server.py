"""Serves the simulators over HTTP."""

from __future__ import annotations

import uvicorn

from dev.simulators.app import SimulatorOptions, create_app

DRAIN_SECONDS_MAX = 2


async def serve(options: SimulatorOptions, host: str, port: int) -> None:
    """Serves until SIGTERM or SIGINT."""
    config = uvicorn.Config(
        create_app(options),
        host=host,
        port=port,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=DRAIN_SECONDS_MAX,
    )
    await uvicorn.Server(config).serve()
