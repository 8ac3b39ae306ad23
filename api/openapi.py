"""The OpenAPI document: what the framework knows of each route, and what all routes have in common.

What a route may answer, and with which headers, follows from what it takes; so it is said here once
and true of a new route too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from api.auth.permissions import OPERATE, SCHEMES
from api.problems.catalog import PROBLEM_TYPES, RETRYABLE_STATUSES, RouteKind
from api.problems.handlers import MEDIA_TYPE, ProblemDocument
from api.webhooks.payloads import CallbackEvent

Json = dict[str, Any]

EXAMPLES = Path(__file__).parents[1] / "contracts" / "examples.json"
METHODS = ("get", "put", "post", "delete", "patch")

TAGS = {
    "Orders": "Open, read, list and change orders.",
    "Lines": "Lines and discounts of a draft, and cancelling pieces of a placed order.",
    "Notes": "Notes on an order.",
    "Payments": "Retry, capture and refund payments.",
    "Shipments": "Create shipments and report what happened to them.",
    "Returns": "Request, approve, reject and receive returns.",
    "Events": "The feed of all events, as CloudEvents, and their schemas.",
    "Statistics": "Statistics over the history of all orders; for operators.",
    "Customers": "Erasing the personal data of a customer.",
    "Callbacks": "Signed webhooks from the payment, stock and shipping services.",
    "Problems": "The meaning of each problem code, and what to do about it.",
    "Operations": "Health and metrics, for orchestrators and monitoring.",
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
    "ETag": 'the order\'s version in quotes, such as `"5"`: for If-Match and If-None-Match',
    "Location": "where it is to be found from now on",
    "Idempotent-Replayed": "`true`: the first answer to this Idempotency-Key once more",
    "Preference-Applied": "what of Prefer was done",
    "Projection-Position": "how far the read model has come in the log",
    "Projection-Lag-Ms": "for how many milliseconds it may not have heard of news",
    "Retry-After": "after so many seconds it is worth another try",
    "RateLimit": "of the caller's share: requests left (`r`), seconds until there are more (`t`)",
    "RateLimit-Policy": "the caller's share, where there is one",
    "WWW-Authenticate": "what token is asked for (RFC 6750)",
    "X-Request-Id": "the request's own X-Request-Id, or one made for it; logs have it too",
}
_NUMBERS = ("Projection-Position", "Projection-Lag-Ms", "Retry-After")
_CHALLENGE = ("WWW-Authenticate",)
_RATE_LIMIT = ("RateLimit", "RateLimit-Policy")
_PROBLEM_HEADERS = {401: _CHALLENGE, 403: _CHALLENGE, 429: _RATE_LIMIT}

# Any request may bring these along.
_PARAMETERS = {
    "Traceparent": ("traceparent", "the trace that this is a part of (W3C Trace Context)"),
    "RequestId": ("X-Request-Id", "your own id for this request, of up to 64 plain characters"),
}


def described(document: Json) -> Json:
    """The framework's document made complete; it is changed in place."""
    examples = json.loads(EXAMPLES.read_text())
    components = document["components"]
    schemas = components["schemas"]
    for named_only in (ProblemDocument, CallbackEvent):  # Which the framework did not see.
        schemas |= _schemas(named_only.model_json_schema(ref_template=_ref("schemas", "{model}")))
    components["securitySchemes"] = SCHEMES
    components["headers"] = {name: _header(name, said) for name, said in _HEADERS.items()}
    components["parameters"] = {
        key: {"name": name, "in": "header", "description": said, "schema": {"type": "string"}}
        for key, (name, said) in _PARAMETERS.items()
    }
    components["responses"] = {
        name: _problem(status, examples["problems"]) for status, name in _RESPONSES.items()
    }
    document["tags"] = [{"name": name, "description": said} for name, said in TAGS.items()]
    for path, operation in operations(document):
        _complete(path, operation, schemas)
        _illustrate(operation, examples["operations"].get(operation["operationId"], {}))
    components["schemas"] = dict(sorted(schemas.items()))
    return document


def operations(document: Json) -> Iterator[tuple[str, Json]]:
    """All operations of a document, each with its path."""
    for path, methods in document["paths"].items():
        for method in METHODS:
            if method in methods:
                yield path, methods[method]


def _ref(kind: str, name: str) -> str:
    return f"#/components/{kind}/{name}"


def _schemas(schema: Json) -> Json:
    """A schema and those that it needs, by name."""
    return {**schema.pop("$defs", {}), schema["title"]: schema}


def _header(name: str, said: str) -> Json:
    kind = "integer" if name in _NUMBERS else "string"
    return {"description": said, "schema": {"type": kind}}


def _problem(status: int, examples: Json) -> Json:
    content: Json = {"schema": {"$ref": _ref("schemas", ProblemDocument.__name__)}}
    if str(status) in examples:
        content["examples"] = examples[str(status)]
    codes = sorted(one.code for one in PROBLEM_TYPES.values() if one.status == status and one.on)
    phrase = re.sub("(?<=[a-z])(?=[A-Z])", " ", _RESPONSES[status])
    headers = [*_PROBLEM_HEADERS.get(status, ()), "X-Request-Id"]
    if status in RETRYABLE_STATUSES:
        headers.insert(0, "Retry-After")
    return {
        "description": f"{phrase.capitalize()}: {', '.join(f'`{code}`' for code in codes)}",
        "headers": _headers(*headers),
        "content": {MEDIA_TYPE: content},
    }


def _headers(*names: str) -> Json:
    return {name: {"$ref": _ref("headers", name)} for name in names}


def _complete(path: str, operation: Json, schemas: Json) -> None:
    parameters = [_plain(p) for p in operation.get("parameters", []) if p["name"] != "accept"]
    asked = {parameter["name"] for parameter in parameters}
    responses = operation["responses"]
    if responses.pop("default", None) is not None:
        parameters += [{"$ref": _ref("parameters", key)} for key in _PARAMETERS]
        kinds = _route_kinds(operation, asked)
        for status in {one.status for one in PROBLEM_TYPES.values() if kinds & {*one.on}}:
            responses[str(status)] = {"$ref": _ref("responses", _RESPONSES[status])}
    if parameters:
        operation["parameters"] = parameters
    if "If-None-Match" in asked:
        responses["304"] = {"description": "You have this version already"}
    for status, response in responses.items():
        if "$ref" not in response:
            response["headers"] = _headers(*_told(path, asked, status), "X-Request-Id")
            response["description"] = _meaning(response, schemas)
    operation["responses"] = dict(sorted(responses.items()))


def _plain(parameter: Json) -> Json:
    """A parameter as it is sent: it may be left out, but nothing in a URL or a header is null."""
    name = parameter["name"]
    schema = {k: v for k, v in parameter["schema"].items() if k not in ("title", "description")}
    if parameter["in"] == "header" and name.islower():
        name = "-".join(word.capitalize() for word in name.split("-"))
    (present, *more) = [s for s in schema.pop("anyOf", [{}]) if s.get("type") != "null"]
    if more:
        present = {"anyOf": [present, *more]}
    if schema.get("default", ...) is None:
        del schema["default"]
    return {**parameter, "name": name, "schema": {**schema, **present}}


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
        RouteKind.CURSOR: names & {"cursor", "consistency_token"},
        RouteKind.COMMAND: "Idempotency-Key" in names,
        RouteKind.PRECONDITION: "If-Match" in names,
        RouteKind.BODY: "requestBody" in operation,
    }
    return {RouteKind.ANY, *(kind for kind, applies in kinds.items() if applies)}


def _told(path: str, asked: set[str], status: str) -> Iterator[str]:
    """The headers of an answer, going by what the route takes."""
    if status in ("201", "202"):
        yield "Location"
    if status == "202":
        yield from ("Preference-Applied", "Retry-After")
    elif status == "201" or ("{order_id}" in path and not path.endswith("/history")):
        yield "ETag"
    if "Idempotency-Key" in asked:
        yield "Idempotent-Replayed"
    if "consistency_token" in asked:
        yield from ("Projection-Position", "Projection-Lag-Ms")


def _meaning(response: Json, schemas: Json) -> str:
    """What an answer is: as its route says, or in the words of its schema."""
    said: str = response["description"]
    for content in response.get("content", {}).values():
        schema = schemas.get(content.get("schema", {}).get("$ref", "").rpartition("/")[2], {})
        if said == "Successful Response" and "description" in schema:
            said = schema["description"].partition(". ")[0].rstrip(".")
    return said


def _illustrate(operation: Json, examples: Json) -> None:
    """Puts what was really sent and answered into the document."""
    for name, exchange in examples.items():
        for place, value in (
            (operation.get("requestBody"), exchange["request"]),
            (operation["responses"][str(exchange["status"])], exchange["response"]),
        ):
            if place and value is not None:
                content = place["content"]["application/json"]
                content.setdefault("examples", {})[name] = {
                    "summary": exchange["summary"],
                    "value": value,
                }
