"""The process that decides by the rules of another checkout: orders in, outcomes out, line by line.

`rehearsal/process.py` starts it, so that `orders` is that of the other checkout and this package is
not.
"""

from __future__ import annotations

import gc
import json
import time
from datetime import datetime
from typing import Any, TextIO

from orders import ledger
from orders.order import Order
from rehearsal.imagine import Imagination
from rehearsal.known_types import known_types
from rehearsal.redecide import (
    LATE,
    Decision,
    Input,
    Unreadable,
    apply,
    change,
    decide,
    names_of,
    pass_overdue,
)

Json = dict[str, Any]


def outcome_of(recorded: Json) -> Json:
    """What these rules make of one order; a few fields if it is all as it was recorded."""
    inputs = [
        Input(datetime.fromisoformat(at), intent, code, events)
        for at, intent, code, events in recorded["inputs"]
    ]
    outcome: Json = {"order_id": recorded["order_id"], "decisions": 0}
    try:
        _rehearse(inputs, datetime.fromisoformat(recorded["until"]), outcome)
    except Unreadable as error:
        outcome["unreadable"] = str(error)
    except Exception as error:  # The rules are another version's: they may fail in any way.
        outcome["failure"] = " ".join(f"{type(error).__name__}: {error}".split())
    return outcome


def _rehearse(inputs: list[Input], until: datetime, outcome: Json) -> None:
    order, before = Order(), inputs[0].at if inputs else until
    for index, given in enumerate(inputs):
        early, is_later = None, given.at - before > LATE
        before = given.at
        if given.intent is None:
            order = apply(given.events, order)
            continue
        if is_later:
            early = pass_overdue(order, given, inputs[index:])
        decision = early or decide(given, order)
        outcome["decisions"] += len(decision.messages)
        if early is None and decision.is_as(given):
            order = decision.order
            continue
        facts = [] if early else given.events
        outcome.setdefault("first", _difference(given, decision, order, facts))
        if decision.events or facts:
            imagined = Imagination(inputs, index, order)
            imagined.run(None if early else decision, until)
            _describe(imagined, order.version, outcome)
            return
        if (changed := change(given, decision)) is not None:
            outcome.setdefault("changes", []).append(changed)
    outcome["money"] = {"recorded": _money(order), "imagined": _money(order)}


def _describe(imagined: Imagination, version: int, outcome: Json) -> None:
    outcome["decisions"] += imagined.decisions
    outcome["factual_events"] = version
    outcome["events"] = imagined.events
    outcome["flow"] = {"recorded": imagined.recorded_flow, "imagined": imagined.flow}
    outcome["matched"], outcome["imagined"] = imagined.matched, imagined.imagined
    outcome["unclaimed"] = imagined.unclaimed
    outcome["changes"] = outcome.get("changes", []) + imagined.changes
    outcome["money"] = {"recorded": _money(imagined.recorded), "imagined": _money(imagined.order)}


def _money(order: Order) -> Json:
    """By its currency, the amounts of an order in the end, in minor units."""
    if not order.currency:
        return {}  # It was not opened.
    amounts = {
        "authorised": ledger.authorised(order),
        "captured": ledger.captured(order),
        "refunded": ledger.refunded(order),
        "voided": ledger.voided(order),
    }
    return {order.currency: amounts}


def _difference(given: Input, decision: Decision, order: Order, facts: Any) -> Json:
    return {
        "at": given.at.isoformat(),
        "after_version": order.version,
        "input": names_of(decision.messages),
        "recorded": {"code": given.code, "events": list(facts)},
        "imagined": {"code": decision.code, "events": decision.facts()},
    }


def main(orders: TextIO, outcomes: TextIO) -> None:
    """Serves until its input ends; the first line has the types that there are.

    The last line says how much processor time it took.
    """
    gc.freeze()  # What is imported stays, and is not to be traversed again and again.
    began = time.process_time()
    print(known_types().to_json(), file=outcomes, flush=True)
    for line in orders:
        print(json.dumps(outcome_of(json.loads(line))), file=outcomes, flush=True)
    print(json.dumps({"cpu_seconds": time.process_time() - began}), file=outcomes, flush=True)
