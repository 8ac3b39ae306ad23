"""The demo's receiver of webhooks, which in the end must have every event of the feed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import httpx
from standardwebhooks import Webhook, WebhookVerificationError

from dev.webhook_receiver import Receiver, serving

ENDPOINTS, EVENTS = "/v1/webhook-endpoints", "/v1/events"
PATH = "/webhooks"
PAGE_EVENTS = 1_000
ARRIVED_S_MAX = 120.0
POLL_S = 0.2


@dataclass(frozen=True)
class WebhookCheck:
    """How many events the feed has, and how many of them were delivered."""

    in_feed: int
    delivered: int


class Witness:
    """Receives webhooks, and compares them with the feed."""

    def __init__(self, api: httpx.AsyncClient, receiver: Receiver) -> None:
        self._api = api
        self._receiver = receiver

    async def compare(self) -> WebhookCheck:
        """Waits until every event of the feed has come, or time is up."""
        wanted = await self._event_ids()
        with suppress(TimeoutError):
            async with asyncio.timeout(ARRIVED_S_MAX):
                while wanted - set(self._receiver.accepted_ids(PATH)):
                    await asyncio.sleep(POLL_S)
        return WebhookCheck(len(wanted), len(wanted & set(self._receiver.accepted_ids(PATH))))

    async def _event_ids(self) -> set[str]:
        """The ids of all events in the feed."""
        ids, cursor = set[str](), None
        while True:
            query = {"limit": str(PAGE_EVENTS), **({"cursor": cursor} if cursor else {})}
            response = await self._api.get(EVENTS, params=query)
            page = response.raise_for_status().json()
            ids |= {event["id"] for event in page["items"]}
            if page["next"] == cursor:
                return ids
            cursor = page["next"]


@asynccontextmanager
async def witnessing(api: httpx.AsyncClient) -> AsyncIterator[Witness]:
    """Registers an endpoint for all events, and deletes it in the end."""
    receiver = Receiver()
    async with serving(receiver) as url:
        body = {"url": f"{url}{PATH}", "from": "beginning", "description": "the demo"}
        response = await api.post(ENDPOINTS, json=body)
        endpoint = response.raise_for_status().json()
        receiver.accepts = _Signature(endpoint["secret"]).verifies
        try:
            yield Witness(api, receiver)
        finally:
            await api.delete(f"{ENDPOINTS}/{endpoint['endpoint_id']}")


class _Signature:
    """Whether a webhook is signed with a secret."""

    def __init__(self, secret: str) -> None:
        self._webhook = Webhook(secret)

    def verifies(self, _path: str, headers: Mapping[str, str], body: bytes) -> bool:
        try:
            self._webhook.verify(body, dict(headers), json_parse=False)
        except WebhookVerificationError:
            return False
        return True
