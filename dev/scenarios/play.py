"""Plays one scenario against a running stack, and prints its timeline."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing

import httpx

from dev.api_client import TIMEOUT_S, ApiClient, ApiError, ApiUnavailable, Json
from dev.scenarios.scenarios import SCENARIOS, Scenario
from dev.scenarios.session import Print, ScenarioError, ScenarioSession
from dev.simulator_client import SimulatorClient, SimulatorError
from orders.money import format_amount


async def play(
    name: str, stack: Mapping[str, str], print_line: Print, *, is_unfinished: bool = False
) -> None:
    """Plays a scenario to its end, or to where its order waits; raises ScenarioError.

    That is if the order behaves otherwise, or if API or simulators do not answer.
    """
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
            left = await run(scenario, session, is_unfinished=is_unfinished)
        except ApiUnavailable as error:
            raise ScenarioError(f"{error}. Start a stack with `make up`.") from error
        except (ApiError, SimulatorError) as error:
            raise ScenarioError(str(error)) from error
    if left:
        session.comment(f"Left unfinished: it waits for {left}.")
    _print_end(session.order, stack, print_line)


async def run(scenario: Scenario, session: ScenarioSession, *, is_unfinished: bool) -> str | None:
    """Runs a scenario; returns what its order waits for if it is left unfinished.

    Raises ScenarioError, ApiError or SimulatorError.
    """
    async with aclosing(scenario(session)) as waits:
        async for what in waits:
            if is_unfinished:
                return what
    return None


def _print_end(order: Json, stack: Mapping[str, str], print_line: Print) -> None:
    payment = order["payment"]
    amounts = (
        f"{format_amount(payment[part], order['currency'])} {part}"
        for part in ("authorised", "captured", "refunded")
    )
    print_line(
        f"\n  The order is {order['status']}; payment {payment['status']}: {', '.join(amounts)}."
    )
    if "console_url" in stack:
        print_line(f"  In the console: {stack['console_url']}orders/{order['order_id']}")
    if "temporal_ui_url" in stack:
        namespace = stack.get("temporal_namespace", "default")
        ui = f"{stack['temporal_ui_url']}/namespaces/{namespace}/workflows/{order['order_id']}"
        print_line(f"  In the Temporal Web UI: {ui}")
