"""Spans of statements, for what is traced anyway; by OpenTelemetry's semantic conventions."""

from __future__ import annotations

import re
from functools import lru_cache
from time import time_ns
from typing import Any

from asyncpg.connection import LoggedQuery
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

STATEMENTS_KEPT = 500
TABLES_MAX = 3
_TABLE = re.compile(r"\b(?:FROM|INTO|UPDATE|JOIN)\s+([a-z_]+(?:\.[a-z_]+)?)(?!\w|\()")
_PART = re.compile(r"\b([a-z_]+) AS (?:MATERIALIZED )?\(")
_TRACER = trace.get_tracer("orderly")


def trace_queries(connection: Any) -> None:
    """Has a connection make a span of each statement, if this process exports spans."""
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        connection.add_query_logger(_add_span)


def _add_span(query: LoggedQuery) -> None:
    """The span of a statement that has ended; none outside of a trace that is recorded.

    Values are parameters, and are left out: the text of a statement has no personal data.
    """
    if not trace.get_current_span().get_span_context().trace_flags.sampled:
        return
    ended_ns = time_ns()
    summary, text = _description(query.query)
    span = _TRACER.start_span(
        summary,
        kind=SpanKind.CLIENT,
        attributes={
            "db.system.name": "postgresql",
            "db.namespace": query.conn_params.database,
            "db.query.summary": summary,
            "db.query.text": text,
            **_address(query.conn_addr),
        },
        start_time=ended_ns - round(query.elapsed * 1e9),
    )
    if query.exception is not None:
        code = getattr(query.exception, "sqlstate", None)
        if code is not None:
            span.set_attribute("db.response.status_code", code)
        span.set_attribute("error.type", code or type(query.exception).__qualname__)
        span.set_status(StatusCode.ERROR)
    span.end(ended_ns)


@lru_cache(STATEMENTS_KEPT)
def _description(statement: str) -> tuple[str, str]:
    """A few words, such as "SELECT order_events", and the statement on one line."""
    text = " ".join(statement.split())
    verb, parts = text.partition(" ")[0].upper(), set(_PART.findall(text))
    if verb == "WITH":
        verb = next((verb for verb in ("INSERT", "DELETE") if f" {verb} " in text), "SELECT")
    tables = dict.fromkeys(name for name in _TABLE.findall(text) if name not in parts)
    return " ".join([verb, *list(tables)[:TABLES_MAX]]), text


def _address(address: tuple[str, int] | str) -> dict[str, str | int]:
    if isinstance(address, str):  # The path of a socket.
        return {"server.address": address}
    return {"server.address": address[0], "server.port": address[1]}
