"""Recorded orders as they are read from the log and its journal."""

from __future__ import annotations

import json
import zlib
from base64 import b64decode
from typing import Any

import pytest

from dev.demo.recorded_orders import ENDED, demo_orders
from eventlog.intents import Intent, pack
from rehearsal.child import outcome_of
from rehearsal.recorded import RecordedOrder, recorded_order
from tests.support.event_log import AT


def rows_of(order: RecordedOrder) -> list[dict[str, Any]]:
    """What the log has of an order."""
    rows: list[dict[str, Any]] = []
    for number, given in enumerate(order.inputs):
        intent = Intent.model_validate_json(given.intent or "")
        for index, (type_, schema_version, data) in enumerate(given.events):
            row = {
                "version": len(rows) + 1,
                "type": type_,
                "schema_version": schema_version,
                "occurred_at": AT,
                "data": data,
                "intent": b64decode(pack(intent, data)) if index == 0 else None,
                "command_id": f"key-{number}",
            }
            rows.append(row)
    return rows


def ineffective(body: bytes) -> dict[str, Any]:
    return {"version": 0, "decided_at": AT, "code": "no-lines", "body": body}


def test_rejection_that_was_decided_after_what_is_read_is_left_out() -> None:
    """The API keeps it at once; the events before it are in the log a moment later."""
    rows = rows_of(next(each for each in demo_orders(10) if len(each.events) > 10))
    rejected = ineffective(b64decode(pack(Intent(messages=[{"type": "place-order"}]))))
    known, later = ({**rejected, "version": len(rows) + more} for more in (0, 1))

    codes = [given.code for given in recorded_order("ord_1", rows, [known, later]).inputs]

    assert codes.count("no-lines") == 1


NO_INTENT = b"\x01" + zlib.compress(b"[1,2]")


@pytest.mark.parametrize("cut", [True, False], ids=["truncated", "no intent"])
def test_damaged_entry_is_counted_and_its_events_are_taken_as_they_happened(cut: bool) -> None:
    rows = rows_of(next(each for each in demo_orders(10) if len(each.events) > 10))
    whole = rows[0]["intent"]
    rows[0]["intent"] = whole[:-9] if cut else NO_INTENT
    rejected = b64decode(pack(Intent(messages=[{"type": "place-order"}])))
    others = [ineffective(rejected[:-9] if cut else NO_INTENT)]

    read = recorded_order("ord_1", rows, others)

    assert read.damaged == 2
    assert (read.inputs[0].intent, read.inputs[0].code) == (None, None)
    assert read.inputs[0].events
    outcome = outcome_of(json.loads(read.line(ENDED)))
    assert "unreadable" not in outcome and "failure" not in outcome
