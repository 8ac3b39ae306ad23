"""Plays one scenario against a running stack, and prints its timeline."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from dev.api_client import TIMEOUT_S, ApiClient, ApiError, ApiUnavailable, Json
from dev.scenarios.scenarios import SCENARIOS
from dev.scenarios.session import Print, ScenarioError, ScenarioSession
from dev.simulator_client import SimulatorClient, SimulatorError
from orders.money import format_amount


async def play(name: str, stack: Mapping[str, str], print_line: Print) -> None:
    """Plays a scenario to its end; raises ScenarioError if the order behaves otherwise."""
    scenario = SCENARIOS[name]
    api_url, simulators_url = stack["api_url"], stack["simulators_url"]
    # No proxy between this process and the stack.
    async with (
        httpx.AsyncClient(base_url=api_url, timeout=TIMEOUT_S, trust_env=False) as api,
        httpx.AsyncClient(base_url=simulators_url, timeout=TIMEOUT_S, trust_env=False) as control,
    ):
        session = ScenarioSession(ApiClient(api, retry_s=0), SimulatorClient(control), print_line)
        print_line(f"{name}: {scenario.__doc__}\n")
        try:
            await scenario(session)
        except ApiUnavailable as error:
            raise ScenarioError(f"{error}. Start a stack with `make up`.") from error
        except (ApiError, SimulatorError) as error:
            raise ScenarioError(str(error)) from error
    _print_end(session.order, stack, print_line)


def _print_end(order: Json, stack: Mapping[str, str], print_line: Print) -> None:
    payment = order["payment"]
    amounts = (
        f"{format_amount(payment[part], order['currency'])} {part}"
        for part in ("authorised", "captured", "refunded")
    )
    print_line(
        f"\n  The order is {order['status']}; payment {payment['status']}: {', '.join(amounts)}."
    )
    if "temporal_ui_url" in stack:
        namespace = stack.get("temporal_namespace", "default")
        ui = f"{stack['temporal_ui_url']}/namespaces/{namespace}/workflows/{order['order_id']}"
        print_line(f"  In the Temporal Web UI: {ui}")
