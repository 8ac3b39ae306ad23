"""Follows the events of orderly: typed, without loss, and provably complete."""

from orderly_consumer.cloud_event import CloudEvent, OrderEvent, UnknownEvent
from orderly_consumer.digest import Digest
from orderly_consumer.events import Event, parse_event
from orderly_consumer.feed import CursorRejected, Feed, FeedRejected, follow
from orderly_consumer.missing import HeldIds, Missing, find_missing
from orderly_consumer.webhooks import SignatureInvalid, verify

__all__ = [
    "CloudEvent",
    "CursorRejected",
    "Digest",
    "Event",
    "Feed",
    "FeedRejected",
    "HeldIds",
    "Missing",
    "OrderEvent",
    "SignatureInvalid",
    "UnknownEvent",
    "find_missing",
    "follow",
    "parse_event",
    "verify",
]
