"""The OpenAPI document: what FastAPI knows of each route, completed by what all routes share.

The possible responses of a route and their headers follow from its parameters, so that they are
declared once and hold for new routes, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from api.auth.permissions import OPERATE, SCHEMES
from api.callbacks.payloads import CallbackEvent
from api.field_descriptions import DESCRIPTIONS, TYPES
from api.problems.catalog import PROBLEM_TYPES, RETRYABLE_STATUSES, RouteKind
from api.problems.handlers import MEDIA_TYPE, ProblemDetails

Json = dict[str, Any]

EXAMPLES = Path(__file__).parents[1] / "contracts" / "examples.json"
WRITTEN_EXAMPLES = EXAMPLES.with_name("written_examples.json")
METHODS = ("get", "put", "post", "delete", "patch")

TAGS = {
    "Orders": "Open, read, list and change orders.",
    "Lines": "Lines and discounts of a draft, and cancelling pieces of a placed order.",
    "Notes": "Notes on an order.",
    "Payments": "Retry, capture and refund payments.",
    "Shipments": "Create shipments and report what happened to them.",
    "Returns": "Request, approve, reject and receive returns.",
    "Events": "The feed of all events, as CloudEvents, and their schemas.",
    "Webhooks": "Endpoints to which events are posted, and their deliveries; for operators.",
    "Statistics": "Statistics over the history of all orders; for operators.",
    "Customers": "Erasing the personal data of a customer.",
    "Callbacks": "Signed webhooks from the payment, stock and shipping services.",
    "Problems": "The meaning of each problem code, and what to do about it.",
    "Operations": "Whether this process can serve, for load balancers.",
}

# The components of problem responses, by status.
_RESPONSES = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    408: "RequestTimeout",
    409: "Conflict",
    412: "PreconditionFailed",
    413: "ContentTooLarge",
    415: "UnsupportedMediaType",
    422: "UnprocessableContent",
    429: "TooManyRequests",
    503: "ServiceUnavailable",
}

_HEADERS = {
    "ETag": 'version of the resource in quotes, such as `"5"`, for If-Match and If-None-Match',
    "Location": "address of the resource",
    "Idempotent-Replayed": "`true`: the stored result of an earlier request with this key",
    "Preference-Applied": "the preference of `Prefer` that was applied",
    "Projection-Position": "position of the read model in the event log",
    "Projection-Lag-Ms": "for how long it may have lacked a published event, in ms; 0: it has all",
    "Retry-After": "seconds to wait before the next attempt",
    "RateLimit": "of the caller: requests left (`r`), and seconds until more are available (`t`)",
    "RateLimit-Policy": "rate limit of the caller, if there is one",
    "WWW-Authenticate": "required authentication (RFC 6750)",
    "X-Request-Id": "X-Request-Id of the request, or a generated id; logs contain it, too",
}
_NUMBERS = ("Projection-Position", "Projection-Lag-Ms", "Retry-After")
# Paths of resources that have a version.
_VERSIONED = (
    r"\{order_id\}(?!.*/(history|transactions)$)|orders/preview$"
    r"|\{endpoint_id\}(/(pause|resume|rotate-secret))?$"
)
_CHALLENGE = ("WWW-Authenticate",)
_RATE_LIMIT = ("RateLimit", "RateLimit-Policy")
_PROBLEM_HEADERS = {401: _CHALLENGE, 403: _CHALLENGE, 429: _RATE_LIMIT}

# Every operation accepts these headers.
_PARAMETERS = {
    "Traceparent": ("traceparent", "trace of the caller (W3C Trace Context)"),
    "RequestId": ("X-Request-Id", "your id for this request: up to 64 printable ASCII characters"),
}


def complete_document(document: Json) -> Json:
    """Completes FastAPI's document in place, and returns it."""
    examples = json.loads(EXAMPLES.read_text())
    components = document["components"]
    schemas = components["schemas"]
    for model in (ProblemDetails, CallbackEvent):  # No route declares these to FastAPI.
        schemas |= _schemas(model.model_json_schema(ref_template=_ref("schemas", "{model}")))
    components["securitySchemes"] = SCHEMES
    components["headers"] = {name: _header(name, text) for name, text in _HEADERS.items()}
    components["parameters"] = {
        key: {"name": name, "in": "header", "description": text, "schema": {"type": "string"}}
        for key, (name, text) in _PARAMETERS.items()
    }
    components["responses"] = {
        name: _problem(status, examples["problems"]) for status, name in _RESPONSES.items()
    }
    for name, schema in schemas.items():
        _describe(name, schema)
    document["tags"] = [{"name": name, "description": text} for name, text in TAGS.items()]
    for path, operation in operations(document):
        _complete_operation(path, operation, schemas)
        _add_examples(operation, examples["operations"].get(operation["operationId"], {}))
    _add_shared_examples(document, examples["problems"])
    components["schemas"] = dict(sorted(schemas.items()))
    return document


def operations(document: Json) -> Iterator[tuple[str, Json]]:
    """All operations of a document, with their paths."""
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method in methods:
                yield path, methods[method]


def _ref(kind: str, name: str) -> str:
    return f"#/components/{kind}/{name}"


def _schemas(schema: Json) -> Json:
    """A schema and the schemas that it refers to, by name."""
    return {**schema.pop("$defs", {}), schema["title"]: schema}


def _describe(name: str, schema: Json) -> None:
    """Describes a schema, and those of its properties that do not describe themselves."""
    if "description" not in schema:
        schema["description"] = TYPES[name]
    for key, field in schema.get("properties", {}).items():
        if key == "type" and "const" in field:
            field.setdefault("description", f"always `{field['const']}`")
        text = DESCRIPTIONS.get(f"{name}.{key}") or DESCRIPTIONS.get(key)
        if "description" not in field and text is not None:
            field["description"] = text


def _header(name: str, description: str) -> Json:
    kind = "integer" if name in _NUMBERS else "string"
    return {"description": description, "schema": {"type": kind}}


def _problem(status: int, examples: Json) -> Json:
    content: Json = {"schema": {"$ref": _ref("schemas", ProblemDetails.__name__)}}
    codes = sorted(one.code for one in PROBLEM_TYPES.values() if one.status == status and one.on)
    content["examples"] = examples.get(str(status)) or _example(_problem_document(codes[0]))
    phrase = re.sub("(?<=[a-z])(?=[A-Z])", " ", _RESPONSES[status])
    headers = [*_PROBLEM_HEADERS.get(status, ()), "X-Request-Id"]
    if status in RETRYABLE_STATUSES:
        headers.insert(0, "Retry-After")
    return {
        "description": f"{phrase.capitalize()}: {', '.join(f'`{code}`' for code in codes)}",
        "headers": _headers(*headers),
        "content": {MEDIA_TYPE: content},
    }


def _problem_document(code: str) -> Json:
    """A problem as it would be answered, for those that no request brings about at once."""
    kind = PROBLEM_TYPES[code]
    return ProblemDetails(
        type=kind.uri,
        title=kind.title,
        status=kind.status,
        detail=kind.meaning,
        instance="/v1/orders",
        code=code,
        request_id="checkout-7",
        trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
    ).model_dump()


def _headers(*names: str) -> Json:
    return {name: {"$ref": _ref("headers", name)} for name in names}


def _complete_operation(path: str, operation: Json, schemas: Json) -> None:
    parameters = [
        _normalize_parameter(p) for p in operation.get("parameters", []) if p["name"] != "accept"
    ]
    names = {parameter["name"] for parameter in parameters}
    responses = operation["responses"]
    if responses.pop("default", None) is not None:
        parameters += [{"$ref": _ref("parameters", key)} for key in _PARAMETERS]
        kinds = _route_kinds(operation, names)
        for status in {one.status for one in PROBLEM_TYPES.values() if kinds & {*one.on}}:
            responses[str(status)] = {"$ref": _ref("responses", _RESPONSES[status])}
    if parameters:
        operation["parameters"] = parameters
    if "If-None-Match" in names:
        responses["304"] = {"description": "Not modified: your version is current"}
    for status, response in responses.items():
        if "$ref" not in response:
            response["headers"] = _headers(*_response_headers(path, names, status), "X-Request-Id")
            response["description"] = _description(response, schemas)
    operation["responses"] = dict(sorted(responses.items()))


def _normalize_parameter(parameter: Json) -> Json:
    """A parameter as it is sent: optional ones can be absent, but not null."""
    name = parameter["name"]
    schema = {k: v for k, v in parameter["schema"].items() if k not in ("title", "description")}
    if parameter["in"] == "header" and name.islower():
        name = "-".join(word.capitalize() for word in name.split("-"))
    (present, *more) = [s for s in schema.pop("anyOf", [{}]) if s.get("type") != "null"]
    if more:
        present = {"anyOf": [present, *more]}
    if schema.get("default", ...) is None:
        del schema["default"]
    text = parameter.get("description") or DESCRIPTIONS[name]
    return {**parameter, "name": name, "description": text, "schema": {**schema, **present}}


def _route_kinds(operation: Json, names: set[str]) -> set[RouteKind]:
    """What a route accepts, by its parameters; its problem types follow from that."""
    is_callback = "Callbacks" in operation["tags"]
    # A token names an order, which may be another customer's unless only operators are admitted.
    is_owned = "consistency_token" in names and {"bearer": [OPERATE]} not in operation.get(
        "security", []
    )
    kinds = {
        RouteKind.SECURED: "security" in operation,
        RouteKind.CALLBACK: is_callback,
        RouteKind.RESOURCE: names & {"order_id", "type", "code"} or is_owned,
        RouteKind.WEBHOOKS: "Webhooks" in operation["tags"],
        RouteKind.CURSOR: names & {"cursor", "consistency_token"},
        RouteKind.COMMAND: "Idempotency-Key" in names,
        RouteKind.PRECONDITION: "If-Match" in names,
        RouteKind.BODY: "requestBody" in operation,
    }
    return {RouteKind.ANY, *(kind for kind, applies in kinds.items() if applies)}


def _response_headers(path: str, names: set[str], status: str) -> Iterator[str]:
    """The headers of a successful response, by the parameters of its route."""
    is_queued = status == "202" and "Prefer" in names
    if status == "201" or is_queued:
        yield "Location"
    if is_queued:
        yield from ("Preference-Applied", "Retry-After")
    elif status == "201" or re.search(_VERSIONED, path):
        yield "ETag"
    if "Idempotency-Key" in names and not path.endswith("/preview"):
        yield "Idempotent-Replayed"
    if "consistency_token" in names:
        yield from ("Projection-Position", "Projection-Lag-Ms")


def _description(response: Json, schemas: Json) -> str:
    """The description that the route gives, or else that of the response's schema."""
    text: str = response["description"]
    for content in response.get("content", {}).values():
        schema = schemas.get(content.get("schema", {}).get("$ref", "").rpartition("/")[2], {})
        if text == "Successful Response" and "description" in schema:
            text = schema["description"].partition(". ")[0].rstrip(".")
    return text


def _add_examples(operation: Json, examples: Json) -> None:
    """Adds recorded requests and responses to an operation."""
    for name, exchange in examples.items():
        for part, value in (
            (operation.get("requestBody"), exchange["request"]),
            (operation["responses"][str(exchange["status"])], exchange["response"]),
        ):
            if part and value is not None:
                content = next(iter(part["content"].values()))
                content.setdefault("examples", {})[name] = {
                    "summary": exchange["summary"],
                    "value": value,
                }


def _add_shared_examples(document: Json, problems: Json) -> None:
    """Adds an example to each body that has none recorded.

    A preview has that of its command, and a response one of the same schema; what cannot be
    recorded is written by hand.
    """
    written = json.loads(WRITTEN_EXAMPLES.read_text())
    of_request: Json = {}
    of_schema: Json = {name: _example(value) for name, value in written["responses"].items()}
    for _, operation in operations(document):
        for content in _contents(operation.get("requestBody", {})):
            of_request[operation["operationId"]] = content.get("examples")
        for response in operation["responses"].values():
            for content in _contents(response):
                if "examples" in content:
                    of_schema.setdefault(_schema_name(content), content["examples"])
    for name, value in written["requests"].items():
        of_request[name] = of_request.get(name) or _example(value)
    for _, operation in operations(document):
        name = operation["operationId"].removeprefix("preview_")
        name = _EXECUTED.get(name, name)
        for content in _contents(operation.get("requestBody", {})):
            if of_request.get(name):
                content.setdefault("examples", of_request[name])
        for status, response in operation["responses"].items():
            for media_type, content in response.get("content", {}).items():
                if media_type == MEDIA_TYPE:
                    content.setdefault("examples", problems[status])
                elif (name := _schema_name(content) or media_type) in of_schema:
                    content.setdefault("examples", of_schema[name])


# Previews whose name is not that of the operation with "preview" before it.
_EXECUTED = {"opening": "open_order", "commands": "send_commands"}


def _example(value: Any) -> Json:
    return {"example": {"summary": "An example", "value": value}}


def _contents(part: Json) -> Iterator[Json]:
    yield from part.get("content", {}).values()


def _schema_name(content: Json) -> str:
    return str(content.get("schema", {}).get("$ref", "").rpartition("/")[2])
