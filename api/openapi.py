"""The OpenAPI document: what the framework knows of each route, and what all routes have in common.

What a route may answer, and with which headers, follows from what it takes; so it is said here once
and true of a new route too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from api.auth.permissions import SCHEMES
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

# By status, the name of the response and what it means.
_PROBLEMS = {
    400: ("NotOurs", "A cursor or token is none that was handed out for this request"),
    401: ("Unauthenticated", "Nobody vouches for the caller: no token, or none to believe"),
    403: ("NotAllowed", "The token's scopes do not suffice, or this is not for customers"),
    404: ("NotThere", "There is no such thing, or not for the caller"),
    408: ("TooSlow", "The body did not come in time"),
    409: ("Refused", "A rule of the order says no: `code` says which, and nothing has changed"),
    412: ("Stale", "The order has moved on from the version in If-Match: `current_version` is it"),
    413: ("TooLarge", "The body is too large"),
    415: ("UnsupportedMediaType", "The body is not declared as JSON"),
    422: ("Malformed", "Something cannot be understood: `errors` has one entry for each thing"),
    429: ("TooMany", "Too much at once: repeat after `Retry-After`"),
    503: ("Unavailable", "Not now: repeat after `Retry-After`, with the same Idempotency-Key"),
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
_PROBLEM_HEADERS = {
    401: ["WWW-Authenticate"],
    403: ["WWW-Authenticate"],
    429: ["Retry-After", "RateLimit", "RateLimit-Policy"],
    503: ["Retry-After"],
}

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
        name: _problem(status, examples["problems"]) for status, (name, _) in _PROBLEMS.items()
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
    return {
        "description": _PROBLEMS[status][1],
        "headers": _headers(*_PROBLEM_HEADERS.get(status, ()), "X-Request-Id"),
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
        for status in sorted(_refusals(operation, asked)):
            responses[str(status)] = {"$ref": _ref("responses", _PROBLEMS[status][0])}
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


def _refusals(operation: Json, asked: set[str]) -> Iterator[int]:
    """The statuses of the problems that a route may answer, going by what it takes."""
    is_callback = "Callbacks" in operation["tags"]
    is_command = "Idempotency-Key" in asked
    if asked & {"cursor", "consistency_token"}:
        yield 400
    if "security" in operation:
        yield from (401, 403)
    if is_callback:
        yield from (401, 404)
    if asked & {"order_id", "type", "code"} or asked >= {"consistency_token", "customer_id"}:
        yield 404
    yield 429  # Who asks too much, or while too much is asked.
    if is_command or is_callback:
        yield 409
    if "If-Match" in asked:
        yield 412
    if "requestBody" in operation:
        yield from (408, 413, 415)
    if "security" in operation or is_callback:
        yield from (422, 503)


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
    if "min_version" in asked:
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
