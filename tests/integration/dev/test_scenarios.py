"""Each scenario runs to its end on real servers, and prints its typical event."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli import main as cli
from cli.info_file import NoRunningStack, addresses
from dev.scenarios.play import play
from dev.scenarios.scenarios import SCENARIOS
from runtime import EXIT_USAGE
from tests.support.servers import Running
from tests.support.shop import PlacedOrder, Shop

TYPICAL_EVENT = {
    "happy-path": "was delivered: it can be returned until",
    "split-shipment": "WEST",
    "declined-card": "tries to pay again by pm_card",
    "shortfall": "accepted to go without 1 × Rare bagels",
    "amendment": "amended: 5 × Bagels at 1.79 USD",
    "partial-refund": "1.00 USD were refunded",
    "return": "came back",
    "stuck-step": "is stuck",
    "held": "was put on hold",
    "unpaid": "tries to pay again by pm_card",
    "chargeback": "was won",
}


@pytest.mark.parametrize("name", SCENARIOS)
async def test_scenario_completes_and_ledgers_agree(orderly: Running, name: str) -> None:
    lines: list[str] = []
    stack = {
        "api_url": str(orderly.http.base_url),
        "simulators_url": str(orderly.simulators.base_url),
        "temporal_ui_url": "http://127.0.0.1:8233",
    }
    await play(name, stack, lines.append)
    assert TYPICAL_EVENT[name] in "\n".join(lines)
    order_id = lines[-1].rsplit("/", 1)[1]
    await PlacedOrder(Shop(orderly.http, orderly.simulators), order_id).assert_ledgers_agree()


async def test_unfinished_scenario_leaves_its_order_waiting(orderly: Running) -> None:
    lines: list[str] = []
    stack = {
        "api_url": str(orderly.http.base_url),
        "simulators_url": str(orderly.simulators.base_url),
        "console_url": "http://console/",
    }
    await play("held", stack, lines.append, is_unfinished=True)
    assert "\n  Left unfinished: it waits for an operator to release it." in lines
    order_id = lines[-1].removeprefix("  In the console: http://console/orders/")
    order = (await orderly.http.get(f"/v1/orders/{order_id}")).json()
    assert order["status"] == "on_hold"


def test_scenarios_are_listed() -> None:
    listed = CliRunner().invoke(cli.app, ["scenario"])
    assert listed.exit_code == 0
    assert all(name in listed.stdout for name in SCENARIOS)


def test_unknown_scenario_is_rejected() -> None:
    unknown = CliRunner().invoke(cli.app, ["scenario", "happy-end"])
    assert unknown.exit_code == EXIT_USAGE
    assert "There is no scenario happy-end" in unknown.stderr


def test_error_without_a_running_stack_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(NoRunningStack, match="make up"):
        addresses(tmp_path / "stack.json")
