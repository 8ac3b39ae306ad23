"""One order of a scenario: sends its commands, and prints its events as they happen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from dev.api_client import ApiClient, Json
from dev.scenarios.timeline import describe_event, words_for
from dev.simulator_client import SimulatorClient

TIMEOUT_S = 60.0

Print = Callable[[str], None]


class ScenarioError(Exception):
    """The scenario cannot go on; the message says what was expected and what came instead."""


class ScenarioSession:
    """One order, and the simulators behind it; `fields` are of the request that places it."""

    def __init__(
        self, api: ApiClient, simulators: SimulatorClient, print_line: Print, **fields: Any
    ) -> None:
        self._api = api
        self._simulators = simulators
        self._print = print_line
        self._fields = {"customer_id": "900", "currency": "USD", **fields}
        self._printed_version = 0
        self.order_id = ""
        self.order: Json = {}

    async def place_order(self, *lines: Json, **fields: Any) -> None:
        """Places a new order for these lines; `fields` are further fields of the request."""
        body = {**self._fields, "place": True, "lines": lines, **fields}
        result = await self._api.open_order(body)
        self.order_id = result["order_id"]
        self.order = await self._api.order(self.order_id, result["version"])

    async def send(self, command: str, **fields: Any) -> Json:
        """Sends one command; returns its result."""
        return await self._api.command(self.order_id, command, fields)

    async def wait_until(self, state: str, condition: Callable[[Json], Any]) -> Json:
        """Prints events until the order meets the condition and needs nothing but a person.

        That is: no step is pending, or some step needs attention.
        """
        deadline = asyncio.get_running_loop().time() + TIMEOUT_S
        while True:
            await self._print_new_events()
            is_at_rest = not self.order["pending"] or self.order["needs_attention"]
            if is_at_rest and condition(self.order):
                return self.order
            if asyncio.get_running_loop().time() > deadline:
                raise ScenarioError(f"After {TIMEOUT_S:g} s the order is not {state}.")
            newer = await self._api.newer_order(self.order_id, self.order["version"])
            self.order = newer or self.order

    async def move_shipment(self, shipment_id: str, action: str) -> None:
        """Makes a shipment `leave` or `deliver`; the carrier sends a callback."""
        await self._simulators.move_shipment(self.order_id, shipment_id, action)

    async def recover(self, service: str) -> None:
        """Ends the outage of a service for this order."""
        await self._simulators.recover(service, self.order_id)

    async def dispute(self, amount: int, state: str) -> None:
        """A chargeback of this amount is `opened`, `won` or `lost`; payments sends a callback."""
        await self._simulators.dispute(self.order_id, amount, state)

    def comment(self, text: str) -> None:
        """Prints a comment between the events."""
        self._print(f"\n  {text}")

    async def _print_new_events(self) -> None:
        words = words_for(self.order)
        for event in await self._api.history(self.order_id, after=self._printed_version):
            if event["version"] <= self.order["version"]:
                self._print(describe_event(event, words))
                self._printed_version = event["version"]
