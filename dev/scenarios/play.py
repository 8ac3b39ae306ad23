"""Plays one story against a stack that runs, and prints its timeline."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import httpx

from dev.scenarios.scenarios import STORIES
from dev.scenarios.shop import Shop, StoryError, Tell
from dev.scenarios.timeline import Json
from orders.money import formatted

ANSWER_S_MAX = 35.0


def addresses(info_file: Path) -> Mapping[str, str]:
    """Where a running stack can be reached; raises StoryError if there is none."""
    try:
        info: dict[str, str] = json.loads(info_file.read_text())
    except (OSError, ValueError):
        raise StoryError(
            f"No stack says in {info_file} where it runs: start one with `make up`."
        ) from None
    return info


async def play(name: str, stack: Mapping[str, str], tell: Tell) -> None:
    """Plays a story to its end; raises StoryError if it goes another way."""
    async with (
        # No proxy on the way to ourselves.
        httpx.AsyncClient(base_url=stack["api_url"], timeout=ANSWER_S_MAX, trust_env=False) as api,
        httpx.AsyncClient(
            base_url=stack["simulators_url"], timeout=ANSWER_S_MAX, trust_env=False
        ) as simulators,
    ):
        shop = Shop(api, simulators, tell)
        tell(f"{name}: {STORIES[name].__doc__}\n")
        try:
            await STORIES[name](shop)
        except httpx.TransportError as error:
            why = str(error) or type(error).__name__
            raise StoryError(
                f"The stack does not answer ({why}): start one with `make up`."
            ) from error
    _tell_end(shop.document, stack, tell)


def _tell_end(order: Json, stack: Mapping[str, str], tell: Tell) -> None:
    money = order["payment"]
    amounts = (
        f"{formatted(money[part], order['currency'])} {part}"
        for part in ("authorised", "captured", "refunded")
    )
    namespace = stack.get("temporal_namespace", "default")
    tell(f"\n  The order is {order['status']}; payment {money['status']}: {', '.join(amounts)}.")
    if "temporal_ui_url" in stack:
        ui = f"{stack['temporal_ui_url']}/namespaces/{namespace}/workflows/{order['order_id']}"
        tell(f"  In the Temporal Web UI: {ui}")
