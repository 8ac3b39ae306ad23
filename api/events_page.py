"""The events and their channels: contracts/asyncapi.json, and the same as a page to read.

The page is plain HTML and loads nothing, so that it can be read offline.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response

Json = dict[str, Any]

PATH = "/docs/events"
DOCUMENT_PATH = "/asyncapi.json"
_FILE = Path(__file__).parents[1] / "contracts" / "asyncapi.json"
_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border: 1px solid #ccc }
code { font-size: .9em } nav { columns: 3 } section { margin-top: 2rem }
:target { background: #ffd }
"""


def install_events_page(app: FastAPI) -> None:
    """Serves the page and the document."""

    async def get_events_page() -> HTMLResponse:
        return HTMLResponse(_page(), headers=_HEADERS)

    async def get_document() -> Response:
        return Response(_FILE.read_bytes(), media_type="application/json")

    app.add_api_route(PATH, get_events_page, include_in_schema=False)
    app.add_api_route(DOCUMENT_PATH, get_document, include_in_schema=False)


@cache
def _page() -> str:
    return render(json.loads(_FILE.read_text()))


def render(document: Json) -> str:
    """The page of an AsyncAPI document, whose events are messages with data of their own."""
    info, schemas = document["info"], document["components"]["schemas"]
    messages = document["components"]["messages"].values()
    data = {one["name"]: _data(one, schemas) for one in messages}
    own = {*data.values(), *(_name(one["payload"]) for one in messages)}
    shapes = [name for name in schemas if name not in {*own, "Event", "EventAttributes"}]
    title = escape(info["title"])
    return "\n".join(
        [
            f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
            f"<style>{_STYLE}</style></head><body>",
            f"<h1>{title}</h1><p>{_text(info['description'])}</p>",
            f'<p>As AsyncAPI 3.0: <a href="{DOCUMENT_PATH}">{DOCUMENT_PATH}</a></p>',
            "<h2>Channels</h2>",
            *_channels(document),
            "<h2>Attributes of every event</h2>",
            _table(schemas["EventAttributes"]),
            "<h2>Events</h2>",
            f"<nav>{'<br>'.join(_link(one['name'], one['title']) for one in messages)}</nav>",
            *(
                _section(one["name"], one["title"], schemas[data[one["name"]]], one["name"])
                for one in messages
            ),
            "<h2>Shapes</h2>",
            *(_section(name, name, schemas[name]) for name in shapes),
            "</body></html>",
        ]
    )


def _channels(document: Json) -> Iterator[str]:
    for channel in document["channels"].values():
        address = channel["address"] or "the URL of the endpoint"
        yield f"<section><h3>{escape(channel['title'])}</h3><p><code>{escape(address)}</code></p>"
        yield f"<p>{_text(channel['description'])}</p>"
        for headers in _headers(channel["messages"].values(), document):
            yield f"<p>With the headers:</p>{_table(headers)}"
        yield "</section>"


def _headers(messages: Iterable[Json], document: Json) -> Iterator[Json]:
    """The headers of the messages of a channel, which are the same for all of them."""
    first: Json = next(iter(messages))
    for trait in first.get("traits", []):
        yield document["components"]["messageTraits"][_name(trait)]["headers"]


def _section(anchor: str, title: str, schema: Json, type: str | None = None) -> str:
    shown = f"<p><code>{escape(type)}</code></p>" if type else ""
    description = f"<p>{_text(schema['description'])}</p>" if "description" in schema else ""
    heading = f'<section id="{escape(anchor)}"><h3>{escape(title)}</h3>'
    return f"{heading}{shown}{description}{_table(schema)}</section>"


def _table(schema: Json) -> str:
    """The fields of an object."""
    required = schema.get("required", [])
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{_type(one)}</td>"
        f"<td>{'yes' if name in required else ''}</td>"
        f"<td>{_text(one.get('description', ''))}</td></tr>"
        for name, one in schema.get("properties", {}).items()
    )
    if not rows:
        return "<p>No data.</p>"
    heads = "<tr><th>Field</th><th>Type</th><th>Always there</th><th>Meaning</th></tr>"
    return f"<table>{heads}{rows}</table>"


def _type(schema: Json) -> str:
    """The type of a value in words, with links to shapes."""
    if "$ref" in schema:
        return _link(_name(schema), _name(schema))
    if "anyOf" in schema:
        return " or ".join(map(_type, schema["anyOf"]))
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    if "enum" in schema:
        return " or ".join(f"<code>{escape(json.dumps(one))}</code>" for one in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return escape(str(schema.get("format") or schema.get("type", "any value")))


def _data(message: Json, schemas: Json) -> str:
    """The name of the schema of a message's data."""
    *_, own = schemas[_name(message["payload"])]["allOf"]
    return _name(own["properties"]["data"])


def _name(reference: Json) -> str:
    return str(reference["$ref"].rpartition("/")[2])


def _link(anchor: str, text: str) -> str:
    return f'<a href="#{escape(anchor)}">{escape(text)}</a>'


def _text(text: str) -> str:
    """Text in which parts in backticks are code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
