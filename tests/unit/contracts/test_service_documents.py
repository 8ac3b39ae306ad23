"""The contracts of the external services: as the simulators have them, and complete."""

from __future__ import annotations

import json

import pytest

from contracts import service_documents
from contracts.documents import text
from contracts.service_documents import file_of
from dev.simulators.app import SERVICES


@pytest.mark.parametrize("service", SERVICES)
def test_document_is_what_the_simulator_does(service: str) -> None:
    assert file_of(service).read_text() == text(service_documents.document(service)), (
        "run `make openapi`"
    )


@pytest.mark.parametrize("service", SERVICES)
def test_document_needs_nothing_else(service: str) -> None:
    document = json.loads(file_of(service).read_text())
    assert "/control/" not in json.dumps(document["paths"])
    schemas = document["components"]["schemas"]
    assert service_documents._used(document["paths"], schemas) == schemas.keys()
