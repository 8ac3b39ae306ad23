"""The OpenAPI document describes every route, with examples of real responses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from temporalio.testing import WorkflowEnvironment

from api.field_descriptions import DESCRIPTIONS
from api.openapi import EXAMPLES, operations
from contracts.openapi_document import FILE
from contracts.record_examples import LINKS, record_examples
from settings import Settings
from tests.support.servers import run_api, run_orderly
from tests.support.token_issuer import RULES, SECRET
from tests.support.webhooks import KEY, LOOPBACK_NETWORKS

Json = dict[str, Any]

DOCUMENT: Json = json.loads(FILE.read_text())  # A unit test compares it to the code.
OPERATIONS = {operation["operationId"]: operation for _, operation in operations(DOCUMENT)}
COMMANDS = [
    operation
    for path, operation in operations(DOCUMENT)
    if path.startswith("/v1/orders") and "requestBody" in operation
    if not path.endswith("/preview")
]

EXECUTED = {"preview_opening": "open_order", "preview_commands": "send_commands"}


def names(operation: Json) -> set[str]:
    return {p["name"] for p in operation.get("parameters", []) if "name" in p}


def body_schema(operation: Json) -> Json:
    schema: Json = operation["requestBody"]["content"]["application/json"]["schema"]
    return schema


def test_document_is_valid() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(DOCUMENT).validate()
    assert not {"HTTPValidationError", "ValidationError"} & DOCUMENT["components"]["schemas"].keys()


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=list(OPERATIONS))
def test_operation_has_a_description_and_an_id_usable_as_a_function_name(
    operation: Json,
) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)+", operation["operationId"])
    assert operation["summary"] and operation["description"]
    assert {*operation["tags"]} <= {tag["name"] for tag in DOCUMENT["tags"]}
    for response in operation["responses"].values():
        assert response.get("description", "") != "Successful Response"


def test_operation_ids_are_unique() -> None:
    assert len(OPERATIONS) == len(list(operations(DOCUMENT)))


def test_commands_document_retries_and_rejections() -> None:
    assert len(COMMANDS) > 28
    for operation in COMMANDS:
        assert {"Idempotency-Key", "If-Match", "Prefer"} <= names(operation)
        assert {"401", "403", "409", "412", "413", "422", "429", "503"} <= {*operation["responses"]}
        done = operation["responses"].get("201") or operation["responses"]["200"]
        assert {"ETag", "Idempotent-Replayed"} <= {*done["headers"]}
    assert "Location" in OPERATIONS["open_order"]["responses"]["201"]["headers"]
    responses = DOCUMENT["components"]["responses"]
    assert "Retry-After" in responses["ServiceUnavailable"]["headers"]
    assert "Retry-After" in responses["TooManyRequests"]["headers"]


def test_every_command_and_opening_has_a_preview_with_the_same_body() -> None:
    previews = [one for name, one in OPERATIONS.items() if name.startswith("preview_")]
    assert len(previews) == len(COMMANDS)
    for preview in previews:
        name = preview["operationId"]
        executed = OPERATIONS[EXECUTED.get(name, name.removeprefix("preview_"))]
        assert body_schema(preview) == body_schema(executed)
        headers = preview["responses"]["200"]["headers"]
        assert "ETag" in headers and "Idempotent-Replayed" not in headers


def test_reads_document_consistency_and_caching() -> None:
    for name in ("get_order", "get_history", "list_orders", "get_order_stats"):
        operation = OPERATIONS[name]
        assert {"consistency_token", "Prefer"} <= names(operation)
        assert ("min_version" in names(operation)) == ("order_id" in names(operation))
        fresh = operation["responses"]["200"]["headers"]
        assert {"Projection-Position", "Projection-Lag-Ms"} <= {*fresh}
        assert {"400", "401", "403", "422", "503"} <= {*operation["responses"]}
    order = OPERATIONS["get_order"]
    assert {"If-None-Match", "version", "at"} <= names(order)
    assert "ETag" in order["responses"]["200"]["headers"] and "304" in order["responses"]


def test_no_parameter_is_nullable() -> None:
    for operation in OPERATIONS.values():
        for parameter in operation.get("parameters", []):
            assert "null" not in json.dumps(parameter.get("schema", {}))


def test_type_discriminates_commands() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    union = schemas["CommandBatch"]["properties"]["commands"]["items"]
    mapping = union["discriminator"]["mapping"]
    assert union["discriminator"]["propertyName"] == "type" and union["required"] == ["type"]
    assert {one["$ref"] for one in union["oneOf"]} == {*mapping.values()}
    for tag, reference in mapping.items():
        name = reference.rpartition("/")[2]
        assert name == "".join(word.capitalize() for word in tag.split("-"))
        assert schemas[name]["properties"]["type"]["const"] == tag


async def test_recorded_examples_match_the_api(temporal: WorkflowEnvironment, dsn: str) -> None:
    async with run_orderly(temporal.client, dsn) as running:
        settings = Settings(
            postgres_dsn=dsn,
            task_queue=running.task_queue,
            token_secret=SECRET,
            rate_limit_per_second=0,
            endpoint_key=KEY,
            endpoint_networks=LOOPBACK_NETWORKS,
            trace_url=LINKS["trace_url"],
            temporal_ui_url=LINKS["temporal_ui_url"],
        )
        async with run_api(temporal.client, settings) as http:
            recorded = await record_examples(http, RULES)
    assert recorded == json.loads(EXAMPLES.read_text()), "run `make openapi`"


def shown(place: Json) -> list[tuple[Json, Any]]:
    """The schema and the value of each example of a request or a response."""
    return [
        (content["schema"], example["value"])
        for content in place.get("content", {}).values()
        for example in content.get("examples", {}).values()
    ]


def test_examples_match_their_schemas() -> None:
    places = [*DOCUMENT["components"]["responses"].values()]
    for operation in OPERATIONS.values():
        places += [operation.get("requestBody", {}), *operation["responses"].values()]
    pairs = [pair for place in places for pair in shown(place)]
    assert len(pairs) > 20
    for schema, value in pairs:
        whole = {**schema, "components": DOCUMENT["components"]}
        OAS31Validator(whole, format_checker=OAS31Validator.FORMAT_CHECKER).validate(value)


def described(schema: Json, where: str) -> Iterator[str]:
    """The properties within a schema that have no description."""
    for name, one in schema.get("properties", {}).items():
        if not one.get("description"):
            yield f"{where}.{name}"
        yield from described(one, f"{where}.{name}")
    for inner in (schema.get("items"), *schema.get("anyOf", []), *schema.get("oneOf", [])):
        if isinstance(inner, dict):
            yield from described(inner, where)


def test_everything_is_described() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    missing = [name for name, one in schemas.items() if not one.get("description")]
    missing += [where for name, one in schemas.items() for where in described(one, name)]
    parameters = {**DOCUMENT["components"]["parameters"]}
    for name, operation in OPERATIONS.items():
        for one in operation.get("parameters", []):
            parameters[f"{name}: {one.get('name')}"] = one
    missing += [
        name for name, one in parameters.items() if "$ref" not in one and not one["description"]
    ]
    assert missing == [], "describe it where it is declared, or in api/field_descriptions.py"


def test_no_description_is_left_over() -> None:
    used = set()
    for name, schema in DOCUMENT["components"]["schemas"].items():
        for key, one in schema.get("properties", {}).items():
            found = next((k for k in (f"{name}.{key}", key) if k in DESCRIPTIONS), None)
            if found is not None and DESCRIPTIONS[found] == one["description"]:
                used.add(found)
    for operation in OPERATIONS.values():
        for one in operation.get("parameters", []):
            if one.get("name") in DESCRIPTIONS:
                used.add(one["name"])
    assert DESCRIPTIONS.keys() - used == set()


def test_every_body_has_an_example() -> None:
    places = {**DOCUMENT["components"]["responses"]}
    for name, operation in OPERATIONS.items():
        places[f"{name} request"] = operation.get("requestBody", {})
        places |= {f"{name} {s}": one for s, one in operation["responses"].items()}
    missing = [
        name
        for name, place in places.items()
        for content in place.get("content", {}).values()
        if not content.get("examples")
    ]
    assert missing == []


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        *(("Order", name) for name in ("status", "fulfilment_status", "return_status")),
        *(("Payment", "status"), ("ShownShipment", "status"), ("Return", "status")),
        *(("CommandResult", "status"), ("InboxItem", "status"), ("PendingStep", "type")),
        *(("ProblemDetails", "code"), ("AllowedCommand", "type"), ("Deadline", "name")),
        *(("InboxGroup", "kind"), ("PaymentTransaction", "type"), ("WaitingStep", "service")),
    ],
)
def test_statuses_and_codes_are_enumerated(schema: str, field: str) -> None:
    schemas = DOCUMENT["components"]["schemas"]
    one = schemas[schema]["properties"][field]
    named = schemas[one["$ref"].rpartition("/")[2]] if "$ref" in one else one
    assert len(named["enum"]) > 1


async def test_docs_page_loads_nothing_from_other_sites(http: httpx.AsyncClient) -> None:
    page = await http.get("/docs")
    assert page.status_code == 200
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "http" not in policy
    assert "//" not in re.sub(r"<!--.*?-->", "", page.text).replace("<!DOCTYPE html>", "")
    references = re.findall(r"(?:src|href)=\"(/[^\"]+)\"|url: '(/[^']+)'", page.text)
    paths = [first or second for first, second in references]
    assert len(paths) == 3
    for path in paths:
        assert (await http.get(path)).status_code == 200
    style = (await http.get(next(path for path in paths if path.endswith(".css")))).text
    assert set(re.findall(r"url\(['\"]?(\w+:)", style)) <= {"data:"} and "@import" not in style
