"""The demo's receiver of webhooks, which in the end must have every event of the feed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from standardwebhooks import Webhook, WebhookVerificationError

from dev.webhook_receiver import Receiver, serving
from orderly_consumer import Digest, Feed, HeldIds, find_missing

ENDPOINTS = "/v1/webhook-endpoints"
PATH = "/webhooks"
ARRIVED_S_MAX = 120.0
POLL_S = 0.2


@dataclass(frozen=True)
class WebhookCheck:
    """The digest of the feed, that of the events that were delivered, and what they lack."""

    in_feed: Digest
    delivered: Digest
    missing: tuple[str, ...] = ()
    """The ids of the events."""


class Witness:
    """Receives webhooks, and compares them with the feed."""

    def __init__(self, feed: Feed, receiver: Receiver) -> None:
        self._feed = feed
        self._receiver = receiver

    async def compare(self) -> WebhookCheck:
        """Waits until the digests are equal, or time is up; then it finds what is missing."""
        deadline = asyncio.get_running_loop().time() + ARRIVED_S_MAX
        while True:
            in_feed = await self._feed.digest()
            received = self._receiver.accepted_ids(PATH)
            check = WebhookCheck(in_feed.whole, Digest.of(*received))
            if check.in_feed == check.delivered:
                return check
            if asyncio.get_running_loop().time() > deadline:
                missing = await find_missing(self._feed, HeldIds(received), in_feed.until)
                ids = tuple(event.id for event in missing.events)
                return WebhookCheck(check.in_feed, check.delivered, ids)
            await asyncio.sleep(POLL_S)


@asynccontextmanager
async def witnessing(api: httpx.AsyncClient) -> AsyncIterator[Witness]:
    """Registers an endpoint for all events, and deletes it in the end."""
    receiver = Receiver()
    # With a transport of its own, no proxy is between this process and the stack.
    feed = Feed(str(api.base_url), transport=httpx.AsyncHTTPTransport())
    async with serving(receiver) as url, feed:
        body = {"url": f"{url}{PATH}", "from": "beginning", "description": "the demo"}
        response = await api.post(ENDPOINTS, json=body)
        endpoint = response.raise_for_status().json()
        receiver.accepts = _Signature(endpoint["secret"]).verifies
        try:
            yield Witness(feed, receiver)
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
