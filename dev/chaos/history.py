"""What a run observed from outside: requests and responses, the feed, orders, ledgers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Json = dict[str, Any]


@dataclass(frozen=True)
class Attempt:
    """One request, and its response; `status` is None if the client got none."""

    method: str
    path: str
    status: int | None = None
    response: Json = field(default_factory=dict)
    """The JSON object in the response."""
    key: str = ""
    """The idempotency key, shared by all attempts of a command."""
    query: Mapping[str, str] = field(default_factory=dict)
    body: Json = field(default_factory=dict)
    if_match: int | None = None
    """The version that the command requires."""
    began_s: float = 0.0
    ended_s: float = 0.0


class Message(NamedTuple):
    """What a broker has stored."""

    subject: str
    event_id: str | None
    """By which it drops what comes again."""
    event: Json


@dataclass
class History:
    """All that the checker judges."""

    attempts: list[Attempt] = field(default_factory=list)
    feed: list[Json] = field(default_factory=list)
    """The events, read once from the beginning after everything settled."""
    followers: dict[str, list[Json]] = field(default_factory=dict)
    """By follower, the events that it got while the faults happened."""
    webhooks: list[Json] = field(default_factory=list)
    """The events that the receiver of webhooks accepted, in the order of their arrival."""
    messages: list[Message] = field(default_factory=list)
    """What the broker has stored of the relay, in its order."""
    unsigned: list[str] = field(default_factory=list)
    """The webhooks whose signature or time was not valid."""
    orders: list[Json] = field(default_factory=list)
    """Every order as it is shown at the end."""
    ledgers: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By service and order, what it recorded."""
    stuck: list[str] = field(default_factory=list)
    """What had not ended within the bound after the last fault."""
    differences: list[str] = field(default_factory=list)
    """What `orderly verify` found."""
    runs: Mapping[str, int] = field(default_factory=dict)
    """By order, how many runs of its workflow were replayed."""
    unreplayable: list[str] = field(default_factory=list)
    """The runs that did not replay, and why."""


def trace_id(key: str) -> str:
    """The trace of a command, sent with each attempt; its events name it."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]
