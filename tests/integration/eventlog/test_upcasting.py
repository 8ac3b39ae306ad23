"""Every reader sees events of older schema versions in the current one."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest
from temporalio.testing import WorkflowEnvironment

from eventlog import log
from eventlog.envelope import Envelope
from orders import events
from orders.events import EVENT_TYPES, NoteAdded, OrderOpened
from orders.text import fingerprint_of
from orders.upcasting import UPCASTERS, UnreadableEvent, Upcaster, restore
from settings import Settings
from tests.support.command_builders import new_order_id
from tests.support.event_feed import read_on, streaming
from tests.support.event_log import ABOUT, AT, append
from tests.support.servers import run_api, run_projector
from workflows.idempotency import from_stream

OPENED = Envelope.of(OrderOpened(customer_id="900", currency="USD"), 1, AT, ABOUT)


def stored(version: int, schema_version: int, **data: Any) -> Envelope:
    """A note as stored by some version of the software."""
    return Envelope(
        version=version,
        occurred_at=AT,
        type="note-added",
        schema_version=schema_version,
        data=data,
        metadata=ABOUT,
    )


FIRST = stored(2, 1, id="bell", note="ring")
SECOND = stored(3, 2, note_id="door", note="knock")
THIRD = stored(4, 3, note_id="gate", text="shout")
CURRENT = [
    {"note_id": "bell", "text": "ring"},
    {"note_id": "door", "text": "knock"},
    {"note_id": "gate", "text": "shout"},
]


@pytest.fixture
def two_schema_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two older schema versions of notes, each with another name of one field."""
    monkeypatch.setattr(NoteAdded, "schema_version", 3)
    for version, (old, new) in enumerate([("id", "note_id"), ("note", "text")], start=1):
        monkeypatch.setitem(UPCASTERS, ("note-added", version), renaming(old, new))


def renaming(old: str, new: str) -> Upcaster:
    return lambda data: {new if key == old else key: value for key, value in data.items()}


@pytest.mark.usefixtures("two_schema_changes")
async def test_all_readers_see_the_current_schema(
    pool: asyncpg.Pool, dsn: str, temporal: WorkflowEnvironment
) -> None:
    order_id = new_order_id()
    path, stream = f"/v1/orders/{order_id}", [OPENED, FIRST, SECOND, THIRD]
    await append(pool, order_id, *stream)
    settings = Settings(postgres_dsn=dsn)
    async with run_projector(dsn), run_api(temporal.client, settings) as http:
        view = (await http.get(path, params={"min_version": 4})).json()
        past = (await http.get(path, params={"version": 3})).json()
        history = (await http.get(f"{path}/history")).json()["items"][1:]
        feed, _ = await read_on(http, type="note-added")
        async with streaming(http, type="note-added") as live:
            assert await live.take(3) == feed

    order, _ = from_stream(await log.read_stream(pool, order_id))
    texts = {"bell": "ring", "door": "knock", "gate": "shout"}
    assert order.notes == {key: fingerprint_of(text) for key, text in texts.items()}
    assert (view["notes"], past["notes"]) == (CURRENT, CURRENT[:2])
    assert [item["data"] for item in history] == [item["data"] for item in feed] == CURRENT
    assert {item["schema_version"] for item in history} == {3}
    assert {item["type"] for item in feed} == {"orderly.order.note-added.v3"}

    assert await log.read_stream(pool, order_id) == stream, "the stored events must not change"
    await append(pool, order_id, *stream)


async def test_newer_event_is_unreadable_and_shown_as_stored(
    pool: asyncpg.Pool, dsn: str, temporal: WorkflowEnvironment
) -> None:
    order_id = new_order_id()
    with pytest.raises(UnreadableEvent, match="note-added has schema version 3, known is 1"):
        restore("note-added", 3, THIRD.data)
    await append(pool, order_id, OPENED, stored(2, 3, **THIRD.data))
    async with run_api(temporal.client, Settings(postgres_dsn=dsn)) as http:
        (last,) = (await http.get(f"/v1/orders/{order_id}/history?cursor=1")).json()["items"]
        assert (last["data"], last["schema_version"]) == (THIRD.data, 3)
        (item,), _ = await read_on(http, type="note-added")
        assert (item["data"], item["type"]) == (THIRD.data, "orderly.order.note-added.v3")


def test_each_older_schema_version_has_exactly_one_upcaster() -> None:
    older = {
        (tag, version)
        for tag, event in events.BY_TAG.items()
        for version in range(1, event.schema_version)
    }
    assert UPCASTERS.keys() == older
    assert len(events.BY_TAG) == len(EVENT_TYPES)
