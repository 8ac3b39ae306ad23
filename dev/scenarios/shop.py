"""A shop with one order: sends commands, and tells whatever happens as it happens."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

import httpx

from dev.scenarios.timeline import Json, line

PATIENCE_S = 60.0
LOOK_S = 0.1

Tell = Callable[[str], None]


class StoryError(Exception):
    """The story cannot go on; the message says what was expected and what came instead."""


class Shop:
    """One order over REST, and the stand-ins behind it, which can be made to do things."""

    def __init__(self, api: httpx.AsyncClient, simulators: httpx.AsyncClient, tell: Tell) -> None:
        self._api = api
        self._simulators = simulators
        self._tell = tell
        self._told = 0
        self.order_id = ""
        self.document: Json = {}

    async def orders(self, *lines: Json, **terms: Any) -> None:
        """Places a new order for these lines; `terms` are more fields of the request."""
        body = {"customer_id": "900", "currency": "USD", "place": True, "lines": lines, **terms}
        answer = await self._post("/v1/orders", body)
        self.order_id = answer["order_id"]

    async def asks(self, command: str, **fields: Any) -> Json:
        """Sends one command, which must be taken."""
        return await self._post(f"/v1/orders/{self.order_id}/commands/{command}", fields)

    async def sees(self, what: str, condition: Callable[[Json], Any]) -> Json:
        """Tells what happens until the order is so, with nobody owing it anything or a trouble."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            await self._look()
            is_at_rest = not self.document.get("pending") or self.document["needs_attention"]
            if self.document and is_at_rest and condition(self.document):
                return self.document
            if asyncio.get_running_loop().time() > deadline:
                raise StoryError(f"After {PATIENCE_S:g} s the order is not {what}.")
            await asyncio.sleep(LOOK_S)

    async def carrier(self, happening: str, shipment_id: str, **body: Any) -> None:
        """Makes a shipment leave, be delivered or fail; the carrier then tells the order."""
        await self._stand_in(
            "POST", f"/shipping/control/shipments/{self.order_id}/{shipment_id}/{happening}", body
        )

    async def mends(self, party: str) -> None:
        """Ends the outage of a service for this order."""
        await self._stand_in("POST", f"/{party}/control/mend", {"order_id": self.order_id})

    def says(self, words: str) -> None:
        """What the teller of the story adds."""
        self._tell(f"\n  {words}")

    async def _look(self) -> None:
        """Tells what is new. A reader may be behind: then there is nothing new yet."""
        answer = await self._api.get(f"/v1/orders/{self.order_id}")
        if answer.status_code == 404:
            return
        self.document = _good(answer)
        new = await self._api.get(
            f"/v1/orders/{self.order_id}/history", params={"after": self._told}
        )
        for event in _good(new)["items"]:
            if event["version"] <= self.document["version"]:
                self._tell(line(event, self.document["currency"]))
                self._told = event["version"]

    async def _post(self, path: str, body: Json) -> Json:
        headers = {"Idempotency-Key": secrets.token_hex(8)}
        return _good(await self._api.post(path, json=body, headers=headers))

    async def _stand_in(self, method: str, path: str, body: Json) -> None:
        answer = await self._simulators.request(method, path, json=body)
        if not answer.is_success:
            raise StoryError(f"{path}: {answer.status_code} {answer.text}")


def _good(answer: httpx.Response) -> Json:
    if not answer.is_success:
        said = answer.json()
        raise StoryError(f"{answer.url.path}: {said.get('detail', answer.status_code)}")
    document: Json = answer.json()
    return document
