"""Logs: one JSON object a line, with the fields of the request or order, and nothing else."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Iterator

import pytest

import logs
from log_context import FIELDS_OF_REQUEST


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """A logger of the test's own."""
    logger = logging.getLogger(f"test.{secrets.token_hex(4)}")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    yield logger
    logger.handlers.clear()


class Lines(logging.Handler):
    """Keeps the formatted lines."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.setFormatter(formatter)
        for each in logs.filters():
            self.addFilter(each)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def lines(log: logging.Logger) -> list[str]:
    handler = Lines(logs.JsonFormatter())
    log.addHandler(handler)
    return handler.lines


def test_line_has_the_fields_of_the_request_and_of_the_record(
    log: logging.Logger, lines: list[str]
) -> None:
    token = FIELDS_OF_REQUEST.set(lambda: {"request_id": "r-1", "caller": "customer"})
    try:
        log.info("refused: %s", "unknown-id", extra={"code": "unknown-id", "address": "12 Road"})
    finally:
        FIELDS_OF_REQUEST.reset(token)
    [line] = [json.loads(line) for line in lines]
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": log.name,
        "message": "refused: unknown-id",
        "request_id": "r-1",
        "caller": "customer",
        "code": "unknown-id",
    }


def test_line_of_a_workflow_or_an_activity_names_its_order(
    log: logging.Logger, lines: list[str]
) -> None:
    for kind in ("temporal_workflow", "temporal_activity"):
        log.info("hi", extra={kind: {"workflow_id": "ord_1", "namespace": "default"}})
    assert [json.loads(line)["order_id"] for line in lines] == ["ord_1", "ord_1"]
    assert "namespace" not in lines[0]


def test_bug_has_its_traceback_in_its_line_and_an_expected_failure_has_none(
    log: logging.Logger, lines: list[str]
) -> None:
    for error in (KeyError("sku"), ConnectionRefusedError("no Postgres")):
        try:
            raise error
        except Exception:
            log.exception("it failed")
    bug, expected = (json.loads(line) for line in lines)
    assert bug["exception"].startswith("Traceback")
    assert "exception" not in expected
    assert expected["message"] == "it failed: ConnectionRefusedError: no Postgres"


def test_repetitions_are_counted_in_a_field(
    log: logging.Logger, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("repeated_failures.monotonic", lambda: now)
    for _ in range(3):
        log.warning("refused: overloaded")
    now += 61
    log.warning("refused: overloaded")
    assert [json.loads(line).get("repeated") for line in lines] == [None, 2]


def test_text_is_one_line_with_fields(log: logging.Logger) -> None:
    handler = Lines(logs.TextFormatter(logs.TEXT_FORMAT))
    log.addHandler(handler)
    log.info("refused: unknown-id", extra={"order_id": "ord_1", "status": 409})
    [line] = handler.lines
    assert line.endswith(f"INFO {log.name}: refused: unknown-id order_id=ord_1 status=409")
