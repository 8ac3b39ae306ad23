"""Messages of the journal, as the history shows them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

import pytest

from eventlog.envelope import Metadata
from eventlog.intents import Intent
from eventlog.journal import Entry
from outbound.event_data import public_messages
from privacy.keys import CustomerKey


class NoKeys:
    async def find(self, key_ids: Collection[str]) -> Mapping[str, CustomerKey | None]:
        return {}


@pytest.mark.parametrize("address", [None, 1, {"line": 1}, ["a"]])
async def test_address_of_a_newer_version_that_is_no_text_is_shown_as_it_is(
    address: object,
) -> None:
    message = {"type": "send-invoice", "address": address}
    about = Metadata(actor="api", command="send-invoice", command_id="key", payload_hash="hash")
    intent = Intent(messages=[message])
    entry = Entry(1, datetime.now(UTC), about, intent, None, is_effective=True)
    assert await public_messages([entry], NoKeys()) == [[message]]
