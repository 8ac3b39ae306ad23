"""Writes docs/contracts/ from the simulators, without the routes that control them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from contracts.documents import text
from dev.simulators.app import SERVICES, TABLES
from dev.simulators.idempotent_service import IdempotentService
from dev.simulators.outbox import Outbox
from dev.simulators.store import Store

FOLDER = Path(__file__).parents[1] / "docs" / "contracts"
CONTROL = "/control/"


def document(service: str) -> dict[str, Any]:
    """The OpenAPI document of the contract for payments, stock or shipping."""
    store = Store(":memory:", *TABLES)
    app = SERVICES[service](IdempotentService(service, store, Outbox(store, None, None)))
    store.close()
    whole = app.openapi()
    whole["info"]["description"] = (
        f"What orderly asks of a service of {service}; docs/contracts.md has the rules for all"
        " calls, and `orderly check-contract` plays this contract against a service."
    )
    paths = {path: item for path, item in whole["paths"].items() if not path.startswith(CONTROL)}
    schemas = whole["components"]["schemas"]
    used = _used(paths, schemas)
    components = {"schemas": {name: schemas[name] for name in schemas if name in used}}
    return {**whole, "paths": paths, "components": components}


def _used(part: Any, schemas: dict[str, Any]) -> set[str]:
    """The schemas that a part of the document refers to, directly or not."""
    found: set[str] = set()
    new = _referred(part)
    while new:
        found |= new
        new = set[str]().union(*(_referred(schemas[name]) for name in new)) - found
    return found


def _referred(part: Any) -> set[str]:
    return set(re.findall(r"#/components/schemas/(\w+)", json.dumps(part)))


def file_of(service: str) -> Path:
    return FOLDER / f"{service}.openapi.json"


def write() -> None:
    """Updates all files."""
    FOLDER.mkdir(exist_ok=True)
    for service in SERVICES:
        file_of(service).write_text(text(document(service)))


if __name__ == "__main__":
    write()
