"""Serves the simulators: `python -m dev.simulators --port 8070`.

ORDERLY_CALLBACK_URL is where callbacks go; ORDERLY_WEBHOOK_SECRET signs them.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path

import uvicorn
from standardwebhooks import Webhook

from dev.simulators.app import SimulatorOptions, create_app

DRAIN_SECONDS_MAX = 2


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m dev.simulators", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8070)
    parser.add_argument("--database", type=Path, default=Path("simulators.db"))
    arguments = parser.parse_args()
    secret = os.environ.get("ORDERLY_WEBHOOK_SECRET") or None
    if secret is not None:
        try:
            Webhook(secret)
        except ValueError:
            parser.error("ORDERLY_WEBHOOK_SECRET must be whsec_ and the base64 of random bytes.")
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    callback_url = os.environ.get("ORDERLY_CALLBACK_URL") or None
    app = create_app(SimulatorOptions(arguments.database, callback_url, secret))
    # uvicorn handles these itself, and raises them once more when it has finished.
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: sys.exit(0))
    uvicorn.run(
        app,
        host=arguments.host,
        port=arguments.port,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=DRAIN_SECONDS_MAX,
    )


if __name__ == "__main__":
    main()
