"""Describes each event of an order's history in one line."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from dev.api_client import Json
from orders.upcasting import restore
from readside.order_view.sentences import sentence
from readside.order_view.words import Words

_SERVICES = ("payments", "stock", "shipping", "deadline")
# The API gives no fingerprints, and addresses only to read; no sentence has either.
_NOT_SAID = {"fingerprint": "", "address": ""}


def describe_event(event: Json, words: Words) -> str:
    """Time, version, actor, and the event in words."""
    at = datetime.fromisoformat(event["occurred_at"]).astimezone()
    actor = event["actor"] if event["actor"] in _SERVICES else "shop"
    happened = restore(event["type"], event["schema_version"], {**event["data"], **_NOT_SAID})
    return f"{at:%H:%M:%S}  {event['version']:>3}  {actor:<9} {sentence(happened, words)}"


def words_for(order: Mapping[str, Any]) -> Words:
    """The words for an order as the API shows it."""
    zone = datetime.now().astimezone().tzinfo
    assert zone is not None
    titles = {line["line_id"]: line["title"] for line in order["lines"]}
    return Words(order["currency"], titles, zone)
