"""The info file of a running `orderly up`: its addresses, for other commands."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

DEFAULT = Path(".orderly") / "stack.json"

InfoFile = Annotated[Path, typer.Option(help="JSON file with the addresses of the running stack.")]

# What names the servers of another orderly: the stack in this folder is not meant then.
_OTHERS = ("ORDERLY_POSTGRES_DSN", "ORDERLY_POSTGRES_DSN_FILE", "TEMPORAL_ADDRESS")


class NoRunningStack(Exception):
    """No stack runs where one was looked for; the message is a sentence for people."""


def addresses(info_file: Path) -> Mapping[str, Any]:
    """The URLs of a running stack; raises NoRunningStack without one."""
    try:
        info: dict[str, Any] = json.loads(info_file.read_text())
        settings_of(info)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # Or it is another file.
        raise NoRunningStack(
            f"{info_file} names no running stack: start one with `make up`."
        ) from None
    return info


def use_running_stack(info_file: Path = DEFAULT) -> None:
    """Makes the running stack's addresses the settings, unless the environment names servers."""
    if any(os.environ.get(name) for name in _OTHERS):
        return
    try:
        info = addresses(info_file)
    except NoRunningStack:
        return
    os.environ |= settings_of(info)


def settings_of(info: Mapping[str, Any]) -> dict[str, str]:
    """The environment of a command that works on a running stack."""
    settings = {
        "ORDERLY_POSTGRES_DSN": info["postgres_dsn"],
        "ORDERLY_TASK_QUEUE": info["task_queue"],
        "ORDERLY_CALLBACK_URL": f"{info['api_url']}/v1/callbacks",
        "TEMPORAL_ADDRESS": info["temporal_address"],
        "TEMPORAL_NAMESPACE": info["temporal_namespace"],
        "TEMPORAL_CONFIG_FILE": os.devnull,  # A profile in it may ask for TLS and keys.
    }
    secret = Path(info["data_dir"]) / "webhook.secret"
    if secret.is_file():
        settings["ORDERLY_WEBHOOK_SECRET_FILE"] = str(secret)
    for service in ("payments", "stock", "shipping"):
        simulator = f"{info['simulators_url']}/{service}"
        settings[f"ORDERLY_{service.upper()}_URL"] = info["service_urls"].get(service, simulator)
    return settings
