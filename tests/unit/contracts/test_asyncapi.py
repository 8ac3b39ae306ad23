"""The AsyncAPI document matches the code and the events, and its breaking changes are rejected."""

from __future__ import annotations

import hashlib
import json
from copy import deepcopy
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from openapi_schema_validator import OAS31Validator

from api import events_page
from contracts import asyncapi_document as asyncapi
from contracts.asyncapi_diff import breaking_changes
from contracts.documents import text
from eventlog.envelope import Envelope, Metadata
from orders.events import BY_TAG, ItemAdded, NoteAdded, OrderEvent
from outbound.cloudevents import as_json, cloud_event

Json = dict[str, Any]

document = cache(asyncapi.document)
ITEM = "orderly.order.item-added.v1"
SCHEMAS = "components|schemas"


def changed(path: str, value: Any = None) -> Json:
    """The document with the value at a path replaced, or removed if it is None."""
    new = deepcopy(document())
    *steps, last = path.split("|")
    place = new
    for step in steps:
        place = place[step]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return new


def references(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(references, value))
    if not isinstance(value, dict):
        return set()
    own = {value["$ref"]} if "$ref" in value else set[str]()
    return own.union(*map(references, value.values()))


def as_sent(event: OrderEvent) -> Json:
    about = Metadata(actor="ada", command="c", command_id="c-1", payload_hash="h")
    envelope = Envelope.of(event, 3, datetime.now(UTC), about)
    sent: Json = json.loads(as_json(cloud_event("ord_1", envelope, "https://orders.example")))
    return sent


def errors(schema: str, value: Json) -> list[str]:
    whole = {"$ref": f"#/components/schemas/{schema}", "components": document()["components"]}
    return [error.message for error in OAS31Validator(whole).iter_errors(value)]


def test_document_matches_the_code() -> None:
    assert asyncapi.FILE.read_text() == text(document()), "run `make asyncapi`"


def test_typescript_is_generated_from_this_document() -> None:
    types = (asyncapi.FILE.parent / "typescript" / "events.ts").read_text()
    digest = hashlib.sha256(asyncapi.FILE.read_bytes()).hexdigest()
    assert digest in types, "run `make typescript`"


def test_every_reference_leads_somewhere() -> None:
    found = references(document())
    assert len(found) > 2 * len(BY_TAG)
    for reference in found:
        place: Any = document()
        for key in reference.removeprefix("#/").split("/"):
            place = place[key]


def test_every_event_is_on_every_channel() -> None:
    channels = document()["channels"]
    assert {*channels} == {"feed", "stream", "webhooks", "nats"}
    for name in ("stream", "webhooks", "nats"):
        assert len(channels[name]["messages"]) == len(BY_TAG)
    operations = document()["operations"].values()
    assert {one["channel"]["$ref"].split("/")[-1] for one in operations} == {*channels}


def test_events_as_they_are_sent_match_their_schema() -> None:
    note = as_sent(NoteAdded(note_id="n", text="Please ring twice."))
    assert errors("NoteAddedEvent", note) == errors("Event", note) == []
    assert errors("EventPage", {"items": [note], "next": "c"}) == []
    assert errors("ItemAddedEvent", note) and errors("NoteAddedEvent", {**note, "data": {}})
    assert errors("Event", {**note, "type": "orderly.order.order-teleported.v1"})


@pytest.mark.parametrize(
    ("path", "value", "change"),
    [
        ("channels|nats", None, "nats was removed"),
        ("channels|feed|address", "/v2", "feed: the address is /v2, was /v1/events"),
        (f"channels|nats|messages|{ITEM}", None, f"nats: {ITEM} was removed"),
        (
            "components|messageTraits|nats|headers|properties|Nats-Msg-Id",
            None,
            f"nats: {ITEM}: `Nats-Msg-Id` was removed",
        ),
        (
            f"channels|stream|messages|{ITEM}",
            {"contentType": "text/plain", "payload": {"$ref": "#/components/schemas/ItemAdded"}},
            f"stream: {ITEM}: the content type is text/plain, was application/cloudevents+json",
        ),
        (f"{SCHEMAS}|ItemAdded|properties|sku", None, f"webhooks: {ITEM}: `data.sku` was removed"),
        (
            f"{SCHEMAS}|EventAttributes|properties|actor|type",
            "integer",
            f"stream: {ITEM}: `actor` is integer, was string",
        ),
        (f"{SCHEMAS}|EventPage|properties|next", None, "feed: page: `next` was removed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_breaking_change_is_named(path: str, value: Any, change: str) -> None:
    assert change in breaking_changes(document(), changed(path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("info|description", "Otherwise said"),
        ("channels|kafka", document()["channels"]["nats"]),
        (f"channels|nats|messages|{ITEM}2", document()["components"]["messages"][ITEM]),
        (f"{SCHEMAS}|ItemAdded|properties|colour", {"type": "string"}),
    ],
)
def test_compatible_change_is_allowed(path: str, value: Any) -> None:
    assert breaking_changes(document(), changed(path, value)) == []


def test_next_version_of_an_event_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ItemAdded, "schema_version", 2)
    new = asyncapi.document()
    assert {"ItemAddedV2", "ItemAddedV2Event"} <= new["components"]["schemas"].keys()
    assert breaking_changes(document(), new) == []


def test_breaking_change_is_rejected_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "asyncapi.json"
    asyncapi.write(file)
    assert file.read_text() == asyncapi.FILE.read_text()
    more = deepcopy(document())
    more["channels"]["pigeon"] = more["channels"]["feed"]
    file.write_text(broken := text(more))
    with pytest.raises(SystemExit) as ended:
        asyncapi.write(file)
    assert ended.value.code == 2
    assert "pigeon was removed. This breaks consumers" in capsys.readouterr().err
    assert file.read_text() == broken


def test_page_shows_every_event_and_field() -> None:
    page = events_page.render(document())
    for name, message in document()["components"]["messages"].items():
        assert f'<section id="{name}"><h3>{message["title"]}</h3>' in page
    assert '<a href="#Address">Address</a>' in page and '<section id="Address">' in page
    assert "<code>unit_price</code></td><td>integer</td><td>yes</td>" in page
    hostile = changed(f"{SCHEMAS}|ItemAdded|properties|<b>", {"description": "<script>"})
    assert "<b>" not in (shown := events_page.render(hostile)) and "<script" not in shown
