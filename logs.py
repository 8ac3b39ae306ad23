"""How every process logs: one JSON object a line, or lines for people.

A record has the fields of the request or the order that it is about. They are given as `extra`, by
`log_context`, or by Temporal's SDK; all others stay out, as they may contain personal data.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Literal

from log_context import fields_of_request
from repeated_failures import RepeatedFailures

LogFormat = Literal["json", "text"]
LogLevel = Literal["debug", "info", "warning", "error"]

FIELDS = ("order_id", "request_id", "trace_id", "caller", "route", "status", "code")
TEXT_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
# They log each request, or their own start.
QUIET = ("httpx", "uvicorn.error")


def start(level: LogLevel = "info", format: LogFormat | None = None) -> None:
    """Logs to standard error from now on; unless a format is given, JSON except to a terminal."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler()
    is_text = format == "text" or (format is None and sys.stderr.isatty())
    handler.setFormatter(TextFormatter(TEXT_FORMAT) if is_text else JsonFormatter())
    for each in filters():
        handler.addFilter(each)
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def filters() -> list[logging.Filter | Callable[[logging.LogRecord], bool]]:
    """What each record passes: it gets its fields, and is dropped if it repeats another."""
    return [_add_fields, RepeatedFailures()]


def are_json() -> bool:
    """Whether each line is a JSON object."""
    return any(isinstance(h.formatter, JsonFormatter) for h in logging.getLogger().handlers)


def _add_fields(record: logging.LogRecord) -> bool:
    """Notes the fields here, where the request is still known."""
    for name, value in fields_of_request().items():
        if not hasattr(record, name):
            setattr(record, name, value)
    for name in ("temporal_workflow", "temporal_activity"):
        if order_id := getattr(record, name, {}).get("workflow_id"):
            record.order_id = order_id
    return True


def _fields_of(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    for name in FIELDS:
        if (value := getattr(record, name, None)) is not None:
            yield name, value


class JsonFormatter(logging.Formatter):
    """One JSON object, on one line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **dict(_fields_of(record)),
        }
        if repeated := getattr(record, "repeated", 0):
            line["repeated"] = repeated
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    """A line for people, with its fields at the end; a traceback follows it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        fields = "".join(f" {name}={value}" for name, value in _fields_of(record))
        return super().formatMessage(record) + fields
