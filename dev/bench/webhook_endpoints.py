"""The endpoints of the benchmark of deliveries: most are good, some dead, slow or failing."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from random import Random

import asyncpg

from dev.stack.ports import LOOPBACK, free_ports
from dev.webhook_receiver import Receiver
from eventlog.epochs import FIRST
from eventlog.log import START
from outbound.webhooks import endpoints
from outbound.webhooks.endpoints import NewEndpoint
from outbound.webhooks.secrets import SecretBox, new_secret

KEY = base64.b64encode(secrets.token_bytes(32)).decode()
SETTINGS = {"ORDERLY_ENDPOINT_KEY": KEY, "ORDERLY_ENDPOINT_NETWORKS": "127.0.0.0/8"}
DEAD, SLOW_S, FAILURE_SHARE = 3, 2.0, 0.3
BAD = DEAD + 2


@dataclass(frozen=True)
class Fleet:
    """Endpoints by number: first the dead ones, then a slow one, one that fails, and good ones.

    Each receives the events of one customer.
    """

    size: int
    dead_port: int

    @classmethod
    def of(cls, size: int) -> Fleet:
        [port] = free_ports({"dead": 0})
        return cls(max(size, BAD + 1), port)

    def customer_id(self, number: int) -> str:
        return f"customer-{number}"

    def path(self, number: int) -> str:
        return f"/{number}"

    def url(self, number: int, receiver_url: str) -> str:
        base = f"http://{LOOPBACK}:{self.dead_port}" if number < DEAD else receiver_url
        return f"{base}{self.path(number)}"

    def receiver(self, *, keeps_bodies: bool = False) -> Receiver:
        """What answers for all of them, except while the dead ones are dead."""
        dice, slow, failing = Random(1), self.path(DEAD), self.path(DEAD + 1)
        return Receiver(
            accepts=lambda path, *_: path != failing or dice.random() >= FAILURE_SHARE,
            delay_s=lambda path: SLOW_S if path == slow else 0.0,
            keeps_bodies=keeps_bodies,
        )


async def register(pool: asyncpg.Pool, url: str, customer_id: str | None = None) -> str:
    """Registers an endpoint that begins with the first event; returns its id."""
    endpoint_id = endpoints.new_endpoint_id()
    new = NewEndpoint(
        endpoint_id=endpoint_id,
        url=url,
        event_types=None,
        customer_id=customer_id,
        description=None,
        base_url="http://bench/",
        secret=SecretBox(KEY).seal(new_secret(), endpoint_id),
    )
    async with pool.acquire() as connection:
        await endpoints.register(connection, new, START, FIRST)
    return endpoint_id
