"""Writes contracts/asyncapi.json from the code: `make asyncapi`.

AsyncAPI 3.0: all events with their schemas, and the channels on which they can be received. A
change that would break consumers is rejected, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from api.events.routes import EventList
from contracts.asyncapi_diff import breaking_changes
from contracts.documents import update
from contracts.event_schemas import PLAINTEXT_FORMS, schema_of, shape
from orders.events import BY_TAG, OrderEvent
from outbound.cloudevents import MEDIA_TYPE, CloudEvent, type_name

Json = dict[str, Any]

FILE = Path(__file__).with_name("asyncapi.json")
WAY_OUT = "This breaks consumers: restore it, or add a channel or a version (docs/events.md)."
EVENT, ATTRIBUTES, PAGE = "Event", "EventAttributes", "EventPage"

_SERVERS: Json = {
    "api": {
        "host": "{host}",
        "protocol": "https",
        "description": "The API of orderly.",
        "variables": {"host": {"default": "127.0.0.1:8080"}},
        "security": [{"$ref": "#/components/securitySchemes/bearer"}],
    },
    "receiver": {
        "host": "{host}",
        "protocol": "https",
        "description": "The receiver of webhooks, at the URL that an operator has registered.",
        "variables": {"host": {"default": "shop.example"}},
    },
    "nats": {
        "host": "{host}",
        "protocol": "nats",
        "description": "The NATS servers to which `orderly relay nats` publishes.",
        "variables": {"host": {"default": "127.0.0.1:4222"}},
    },
}
_TRAITS: Json = {
    "webhook": {
        "headers": {
            "type": "object",
            "required": ["webhook-id", "webhook-timestamp", "webhook-signature"],
            "properties": {
                "webhook-id": {
                    "type": "string",
                    "description": "the `id` of the event, the same on every attempt",
                },
                "webhook-timestamp": {
                    "type": "string",
                    "description": "the time of this attempt, in seconds since 1970",
                },
                "webhook-signature": {
                    "type": "string",
                    "description": "as in Standard Webhooks; several, separated by blanks, while a"
                    " secret is rotated",
                },
            },
        }
    },
    "nats": {
        "headers": {
            "type": "object",
            "required": ["Nats-Msg-Id", "Content-Type"],
            "properties": {
                "Nats-Msg-Id": {
                    "type": "string",
                    "description": "the `id` of the event, by which the stream drops duplicates",
                },
                "Content-Type": {"type": "string", "const": MEDIA_TYPE},
            },
        }
    },
}
_QUERY: Json = {
    "type": "object",
    "properties": {
        "cursor": {"type": "string", "description": "the position after which to read"},
        "type": {
            "type": "array",
            "items": {"type": "string"},
            "description": "only events of these types, such as item-added",
        },
        "order_id": {"type": "string", "description": "only events of this order"},
        "customer_id": {"type": "string", "description": "only events of this customer's orders"},
        "from": {
            "type": "string",
            "description": "without a cursor: the instant, or the `id` of the event, to begin with",
        },
    },
}


def document() -> Json:
    """The current document; it needs no server."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "orderly events",
            "version": "1",
            "description": "Everything that happens to an order is an event, in the format of"
            " CloudEvents 1.0. Each is delivered at least once, and those of one order in the order"
            " of `sequence`. Deduplicate on `source` and `id`; ignore unknown fields and types.",
        },
        "defaultContentType": "application/json",
        "servers": _SERVERS,
        "channels": _channels(),
        "operations": _operations(),
        "components": {
            "schemas": _schemas(),
            "messages": {_type(event): _message(event) for event in BY_TAG.values()},
            "messageTraits": _TRAITS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            },
        },
    }


def write(file: Path = FILE) -> None:
    """Updates the file, unless that would break consumers."""
    update(file, document(), breaking_changes, WAY_OUT)


def _channels() -> Json:
    return {
        "feed": {
            "address": "/v1/events",
            "title": "Feed",
            "description": "All events, page by page, from the first one on. Pass `next` as the"
            " `cursor` of the next request; if it equals the one you sent, wait and ask again.",
            "servers": [_ref("servers", "api")],
            "messages": {
                "page": {
                    "name": "page",
                    "title": "A page of events",
                    "contentType": "application/json",
                    "payload": _ref("components/schemas", PAGE),
                }
            },
        },
        "stream": {
            "address": "/v1/events",
            "title": "Stream",
            "description": "The feed as server-sent events, with `Accept: text/event-stream`:"
            " `event` is the type, `data` the event, `id` the cursor after it.",
            "servers": [_ref("servers", "api")],
            "messages": _messages(),
        },
        "webhooks": {
            "address": None,
            "title": "Webhooks",
            "description": "Each event is posted to the URL of each endpoint that wants it, signed"
            " as in Standard Webhooks, until it is answered with a 2xx.",
            "servers": [_ref("servers", "receiver")],
            "messages": _messages("webhook"),
        },
        "nats": {
            "address": "{type}.{order}",
            "title": "NATS JetStream",
            "description": "`orderly relay nats` publishes every event in structured mode."
            ' Addresses are `{"unreadable": true}`: a broker keeps what it gets.',
            "servers": [_ref("servers", "nats")],
            "parameters": {
                "type": {
                    "description": "the type of the event",
                    "enum": [_type(event) for event in BY_TAG.values()],
                },
                "order": {"description": "the id of the order, with `%2E` for each dot"},
            },
            "messages": _messages("nats"),
        },
    }


def _operations() -> Json:
    query = {"http": {"method": "GET", "query": _QUERY, "bindingVersion": "0.3.0"}}
    post = {"http": {"method": "POST", "bindingVersion": "0.3.0"}}
    return {
        "readFeed": _operation("feed", "Read a page of events", query),
        "followStream": _operation("stream", "Follow events as they appear", query),
        "receiveWebhook": _operation("webhooks", "Receive each event as a POST", post),
        "consumeFromNats": _operation("nats", "Consume events from JetStream"),
    }


def _operation(channel: str, summary: str, bindings: Json | None = None) -> Json:
    operation: Json = {
        "action": "send",  # As orderly sees it.
        "channel": _ref("channels", channel),
        "summary": summary,
    }
    return operation | ({"bindings": bindings} if bindings else {})


def _messages(trait: str | None = None) -> Json:
    """Each event as a message of a channel, by its type."""
    if trait is None:
        return {_type(one): _ref("components/messages", _type(one)) for one in BY_TAG.values()}
    traits = {"traits": [_ref("components/messageTraits", trait)]}
    return {_type(one): _message(one) | traits for one in BY_TAG.values()}


def _message(event: type[OrderEvent]) -> Json:
    return {
        "name": _type(event),
        "title": _title(event),
        "contentType": MEDIA_TYPE,
        "payload": _ref("components/schemas", f"{_class_name(event)}Event"),
    }


def _schemas() -> Json:
    """Attributes, a page, and each event: the whole of it, its data, and what is in the data."""
    found: Json = {ATTRIBUTES: _attributes(), PAGE: _page()}
    found[EVENT] = {
        "description": "Any event.",
        "oneOf": [
            _ref("components/schemas", f"{_class_name(event)}Event") for event in BY_TAG.values()
        ],
    }
    for tag, event in BY_TAG.items():
        data = schema_of(PLAINTEXT_FORMS.get(tag, event))
        del data["$schema"]
        for name, one in data.pop("$defs", {}).items():
            _add(found, name, one)
        _add(found, _class_name(event), data)
        _add(found, f"{_class_name(event)}Event", _event(event))
    return {name: _with_components(one) for name, one in sorted(found.items())}


def _add(schemas: Json, name: str, schema: Json) -> None:
    if schemas.setdefault(name, schema) != schema:
        raise ValueError(f"two schemas have the name {name}: rename one of the classes")


def _attributes() -> Json:
    """The attributes of a CloudEvent, as all events have them."""
    schema = shape(CloudEvent.model_json_schema())
    properties = {n: one for n, one in schema["properties"].items() if n not in ("type", "data")}
    properties["specversion"]["const"] = "1.0"
    properties["datacontenttype"]["const"] = "application/json"
    optional = ("traceparent", "sentence")
    for name in optional:  # CloudEvents have no nulls.
        del properties[name]["anyOf"]
        properties[name]["type"] = "string"
    return {
        "description": "The attributes of an event, beside `type` and `data`.",
        "type": "object",
        "required": [name for name in properties if name not in optional],
        "properties": properties,
    }


def _page() -> Json:
    schema = shape(EventList.model_json_schema())
    del schema["$defs"]
    schema["properties"]["items"]["items"] = {"$ref": f"#/$defs/{EVENT}"}
    return schema


def _event(event: type[OrderEvent]) -> Json:
    own = {
        "type": "object",
        "required": ["type", "data"],
        "properties": {
            "type": {"type": "string", "const": _type(event)},
            "data": {"$ref": f"#/$defs/{_class_name(event)}"},
        },
    }
    return {"allOf": [{"$ref": f"#/$defs/{ATTRIBUTES}"}, own]}


def _with_components(value: Any) -> Any:
    """The schema with references to components in place of those to its own definitions."""
    if isinstance(value, Mapping):
        return {key: _with_components(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_components(one) for one in value]
    if isinstance(value, str) and value.startswith("#/$defs/"):
        return value.replace("#/$defs/", "#/components/schemas/")
    return value


def _type(event: type[OrderEvent]) -> str:
    return type_name(_tag(event), event.schema_version)


def _tag(event: type[OrderEvent]) -> str:
    return str(event.model_fields["type"].default)


def _title(event: type[OrderEvent]) -> str:
    return _tag(event).replace("-", " ").capitalize()


def _class_name(event: type[OrderEvent]) -> str:
    version = event.schema_version
    return event.__name__ if version == 1 else f"{event.__name__}V{version}"


def _ref(folder: str, name: str) -> Json:
    return {"$ref": f"#/{folder}/{name}"}


if __name__ == "__main__":
    write()
