"""A failure that repeats is logged once, and then once a minute with a count."""

from __future__ import annotations

import logging

import pytest
from temporalio.exceptions import ApplicationError

import repeated_failures
from repeated_failures import RepeatedFailures


@pytest.fixture
def log(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> logging.Logger:
    caplog.set_level(logging.INFO)
    log = logging.getLogger(f"test.{request.node.name}")
    log.addFilter(RepeatedFailures())
    return log


def fail(log: logging.Logger, activity: str, error: Exception) -> None:
    try:
        raise error
    except Exception:
        extra = {"temporal_activity": {"activity_type": activity}}
        log.warning("Completing activity as failed", exc_info=True, extra=extra)


def test_repetitions_are_counted_and_not_logged(
    log: logging.Logger, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(repeated_failures, "monotonic", lambda: now)
    for _ in range(5):
        fail(log, "publish_events", ConnectionRefusedError("no Postgres"))
    fail(log, "capture_payment", ApplicationError("answered 503"))
    now += 61
    fail(log, "publish_events", ConnectionRefusedError("no Postgres"))

    first, other, later = caplog.messages
    assert first == "publish_events failed: ConnectionRefusedError: no Postgres"
    assert "capture_payment failed" in other and "503" in other
    assert "4 more times" in later
    assert not any(record.exc_info for record in caplog.records)


def test_bug_keeps_its_traceback(log: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    fail(log, "reserve_stock", KeyError("sku"))
    (record,) = caplog.records
    assert record.exc_info


def test_repeated_warning_without_an_exception_is_counted(
    log: logging.Logger, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(repeated_failures, "monotonic", lambda: now)
    for _ in range(2):
        log.warning("Temporal unavailable: %s", "UNAVAILABLE")
    log.warning("Postgres unavailable: %s", "UNAVAILABLE")
    for number in (5, 6, 7):
        log.warning("call retried %d times", number)
    now += 61
    log.warning("Temporal unavailable: %s", "UNAVAILABLE")
    log.warning("call retried %d times", 8)

    assert caplog.messages == [
        "Temporal unavailable: UNAVAILABLE",
        "Postgres unavailable: UNAVAILABLE",
        "call retried 5 times",
        "Temporal unavailable: UNAVAILABLE, 1 more times since the last line",
        "call retried 8 times, 2 more times since the last line",
    ]


def test_error_keeps_its_message(log: logging.Logger, caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise ConnectionRefusedError("no Postgres")
    except ConnectionRefusedError:
        log.exception("%s has stopped", "order_view")
    assert caplog.messages == ["order_view has stopped: ConnectionRefusedError: no Postgres"]


def test_records_that_report_no_failure_pass(
    log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        log.info("hello")
    assert caplog.messages == ["hello", "hello"]
