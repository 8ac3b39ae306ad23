"""Events as the feed and the history show them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from eventlog.envelope import Envelope
from eventlog.journal import Entry
from privacy.keys import ReadableKeys
from privacy.plaintext import decrypt_addresses

ADDRESS_EVENTS = frozenset({"shipping-address-set", "billing-address-set"})
# Detects that a client id was used for another command: of no use outside.
INTERNAL_FIELDS = frozenset({"fingerprint"})


async def public_events(stored: Iterable[Envelope], keys: ReadableKeys | None) -> list[Envelope]:
    """In today's shape, without internal fields, and with their addresses decrypted.

    Without keys, all addresses are unreadable.
    """
    events = [event.upcast() for event in stored]
    sealed = {event.data["address"] for event in events if event.type in ADDRESS_EVENTS}
    addresses = await decrypt_addresses(sealed, keys)
    return [_public(event, addresses) for event in events]


async def public_messages(
    entries: Sequence[Entry], keys: ReadableKeys
) -> list[list[dict[str, Any]] | None]:
    """The messages of each entry with their addresses decrypted; None for a damaged one."""
    sealed = {token for entry in entries for token in addresses_in(entry)}
    addresses = await decrypt_addresses(sealed, keys)
    return [
        [
            {**each, "address": addresses[each["address"]]} if _has_address(each) else each
            for each in entry.intent.messages
        ]
        if entry.intent
        else None
        for entry in entries
    ]


def addresses_in(entry: Entry) -> list[str]:
    """The sealed addresses in the messages of an entry."""
    messages = entry.intent.messages if entry.intent else []
    return [each["address"] for each in messages if _has_address(each)]


def _has_address(message: dict[str, Any]) -> bool:
    """Whether it has a sealed one: a newer version may call something else so."""
    return isinstance(message.get("address"), str)


def _public(event: Envelope, addresses: dict[str, dict[str, object]]) -> Envelope:
    if event.type in ADDRESS_EVENTS:
        data = {**event.data, "address": addresses[event.data["address"]]}
    elif INTERNAL_FIELDS & event.data.keys():
        data = {name: value for name, value in event.data.items() if name not in INTERNAL_FIELDS}
    else:
        return event
    return event.model_copy(update={"data": data})
