"""Intents as they are stored: small, whole, and never mistaken for others."""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from datetime import UTC, datetime

import pytest

from eventlog.intents import Intent, UnreadableIntent, pack, unpack, unpack_text
from orders.commands import AddItemToOrder, SetShippingAddress
from orders.events import ItemAdded
from orders.order import Order
from orders.upcasting import stored_data
from tests.support.command_builders import OPENING, bagels
from workflows.command_handler import INEFFECTIVE_BYTES_MAX, decide_batch, ineffective
from workflows.messages import CommandBatch, as_set

ITEM = AddItemToOrder(
    type="add-item-to-order",
    line_id="bagels",
    sku="1095275",
    title="ROLLS: BAGELS – ½",
    quantity=2,
    unit_price=179,
)
ADDED = stored_data(ItemAdded(**ITEM.model_dump(exclude={"type", "currency"})))
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_intent_is_restored_as_it_was_received() -> None:
    intent = Intent(messages=[*map(as_set, [ITEM, bagels()])], expected_versions=[3, 4])
    reordered = dict(reversed(ADDED.items()))  # As Postgres orders keys otherwise.

    assert unpack(b64decode(pack(intent, ADDED)), reordered) == intent
    assert unpack(b64decode(pack(intent))) == intent


def test_defaults_that_no_sender_set_are_not_kept() -> None:
    (message,) = [*map(as_set, [ITEM])]

    assert "tax" not in message
    assert "currency" not in message
    assert message["type"] == "add-item-to-order"


def text_from(first: str) -> str:
    """A text of some of the 2,000 characters from one on, which does not repeat itself."""
    return "".join(chr(ord(first) + number * number % 1_999) for number in range(200))


@pytest.mark.parametrize(
    "title",
    ["ROLLS", "ROLLS: BAGELS – ½", text_from("А"), text_from("一")],
    ids=["ASCII", "Latin", "Cyrillic", "Chinese"],
)
def test_intent_that_its_event_repeats_takes_few_bytes(title: str) -> None:
    item = ITEM.model_copy(update={"title": title})
    intent = Intent(messages=[*map(as_set, [item])])
    packed = b64decode(pack(intent, {**ADDED, "title": title}))

    assert len(packed) < 50 < len(item.model_dump_json())
    assert unpack(packed, {**ADDED, "title": title}) == intent


def test_sealed_address_is_not_stored_twice() -> None:
    token = "sealed.1.abc." + "".join(chr(65 + n * n % 58 % 26) for n in range(400))
    intent = Intent(messages=[*map(as_set, [SetShippingAddress(address=token)])])

    assert len(b64decode(pack(intent, {"address": token}))) < 60


def packed_text(text: str) -> bytes:
    """Any text in the form of a packed intent."""
    return b"\x01" + zlib.compress(text.encode())


WHOLE = b64decode(pack(Intent(messages=[*map(as_set, [ITEM])])))
NO_INTENTS = ("", "[1,2]", "{}", '{"messages":[]}', '{"messages":[{"line_id":"bagels"}]}')


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"\x02abc", b"\x01", b"\x01abc"),
        *(WHOLE[:-missing] for missing in (1, 4, 5, 9, len(WHOLE) // 2)),
        WHOLE + b"more",
        *map(packed_text, NO_INTENTS),
    ],
)
def test_damaged_entry_is_an_error_to_all_its_readers(body: bytes) -> None:
    for read in (unpack, unpack_text):
        with pytest.raises(UnreadableIntent):
            read(body)


def test_entry_of_another_event_is_an_error() -> None:
    packed = b64decode(pack(Intent(messages=[*map(as_set, [ITEM])]), ADDED))

    with pytest.raises(UnreadableIntent):
        unpack(packed, {**ADDED, "title": "ROLLS: BAGELS!"})


def batch_of(*commands: AddItemToOrder) -> CommandBatch:
    return CommandBatch(
        commands=[OPENING, *commands],
        actor="customer:900",
        payload_hash="h",
        attempt_id="a",
        traceparent="00-1-2-00",
    )


def test_first_event_of_a_batch_carries_its_intent() -> None:
    batch = batch_of(ITEM)
    events = decide_batch(batch, Order(), "key", NOW).events

    first, second = events
    assert first.intent is not None and second.intent is None
    assert unpack(b64decode(first.intent), first.data).messages == [*map(as_set, batch.commands)]


def test_batch_that_changed_nothing_is_kept_with_its_actor_and_trace() -> None:
    entry = ineffective(batch_of(ITEM), "key", 7, NOW)

    intent = unpack(b64decode(entry.intent))
    assert (entry.version, entry.decided_at, entry.command_id, entry.code) == (7, NOW, "key", None)
    assert intent.metadata is not None
    assert (intent.metadata.actor, intent.metadata.traceparent) == ("customer:900", "00-1-2-00")
    assert [message["type"] for message in intent.messages] == ["open-order", "add-item-to-order"]


def test_of_a_huge_batch_that_changed_nothing_the_types_are_kept() -> None:
    items = [
        ITEM.model_copy(update={"sku": b64encode(str(n**9).encode()).decode()[:60]})
        for n in range(590)
    ]
    entry = ineffective(batch_of(*items), "key", 7, NOW)

    intent = unpack(b64decode(entry.intent))
    assert len(entry.intent) < INEFFECTIVE_BYTES_MAX
    assert intent.is_shortened
    assert intent.messages[-1] == {"type": "add-item-to-order"}
    assert len(intent.messages) == 591
