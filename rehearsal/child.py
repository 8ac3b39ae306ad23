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
    RECORDED_WITHIN,
    Decision,
    Input,
    Overdue,
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
    order, checked = Order(), inputs[0].at if inputs else until
    for index, given in enumerate(inputs):
        if given.intent is None:
            order = apply(given.events, order)
            continue
        if given.at - checked > LATE:
            checked = given.at
            if overdue := pass_overdue(order, given.at - LATE, inputs[index:]):
                _pass(overdue, Imagination(inputs, index, order), until, outcome)
                return
        decision = decide(given, order)
        if decision.is_as(given):
            outcome["decisions"] += len(decision.messages)
            order = decision.order
            continue
        outcome.setdefault("first", _difference(given, decision, order))
        if decision.events or given.events:
            _imagine(Imagination(inputs, index, order), decision, until, outcome)
            return
        outcome["decisions"] += len(decision.messages)
        if (changed := change(given, decision)) is not None:
            outcome.setdefault("changes", []).append(changed)
    if overdue := pass_overdue(order, until - RECORDED_WITHIN, ()):
        outcome["differs_only_at_end"] = "first" not in outcome
        _pass(overdue, Imagination(inputs, len(inputs), order), until, outcome)
        return
    outcome["money"] = {"recorded": _money(order), "imagined": _money(order)}


def _pass(overdue: Overdue, imagined: Imagination, until: datetime, outcome: Json) -> None:
    outcome.setdefault("first", _difference(*overdue, imagined.order))
    _imagine(imagined, None, until, outcome)


def _imagine(imagined: Imagination, first: Decision | None, until: datetime, outcome: Json) -> None:
    outcome["factual_events"] = imagined.order.version
    imagined.run(first, until)
    outcome["decisions"] += imagined.decisions
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


def _difference(given: Input, decision: Decision, order: Order) -> Json:
    return {
        "at": given.at.isoformat(),
        "after_version": order.version,
        "input": names_of(decision.messages),
        "recorded": {"code": given.code, "events": list(given.events)},
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
