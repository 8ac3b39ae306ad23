"""A receiver of webhooks that keeps what it accepts, and rejects some."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from random import Random

import httpx
from standardwebhooks import Webhook, WebhookVerificationError

from dev.chaos.history import History
from dev.webhook_receiver import Receiver, serving

ENDPOINTS = "/v1/webhook-endpoints"
REJECTED = 0.01
"""The share of webhooks that it rejects, so that their orders wait while others continue."""


@asynccontextmanager
async def receiving_webhooks(
    api: httpx.AsyncClient, history: History, seed: int
) -> AsyncIterator[None]:
    """Registers an endpoint for all events, and records those that it accepts."""
    receiver = Receiver(lambda *_: False)
    async with serving(receiver) as url:
        response = await api.post(ENDPOINTS, json={"url": url, "from": "beginning"})
        secret = response.raise_for_status().json()["secret"]
        receiver.accepts = _Judge(secret, history, Random(seed)).accepts
        yield


class _Judge:
    def __init__(self, secret: str, history: History, dice: Random) -> None:
        self._webhook = Webhook(secret)
        self._history = history
        self._dice = dice

    def accepts(self, _path: str, headers: Mapping[str, str], body: bytes) -> bool:
        """Whether a webhook is accepted; complains if it is not signed, or too long ago."""
        try:
            self._webhook.verify(body, dict(headers), json_parse=False)
        except WebhookVerificationError as error:
            self._history.unsigned.append(f"{headers.get('webhook-id')}: {error}")
            return False
        if self._dice.random() < REJECTED:
            return False
        self._history.webhooks.append(json.loads(body))
        return True
