"""How the outside world would have answered: as it did, or by the pure rules of the simulators.

Runs with the rules of any checkout: it uses of `orders` only steps and their results.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from dev.simulators.fault_injection import (
    LOCATIONS,
    Fault,
    initial_stock,
    is_declined,
    payment_fault,
)
from orders import steps as o
from orders.order import Order

Key = tuple[str, str]
"""The kind and content of a step, without the ids that depend on the order's version."""

_OWN_IDS = frozenset({"step_id", "authorisation_id", "shipment_id", "revision"})
UNLIMITED = 1_000_000


def key_of(step: o.AnyStep, order: Order) -> Key:
    """What an answer is matched by: `order` has the step."""
    content = {k: v for k, v in step.model_dump(mode="json").items() if k not in _OWN_IDS}
    if isinstance(step, o.Stop):
        shipment = order.shipments[step.shipment_id]
        content["shipment"] = [shipment.location, sorted(shipment.lines.items())]
    for name, value in content.items():
        if isinstance(value, list):
            content[name] = sorted(json.dumps(each, sort_keys=True) for each in value)
    return step.type, json.dumps(content, sort_keys=True)


class World:
    """Answers to steps that the real services were never asked."""

    def __init__(self, answers: Iterable[tuple[o.AnyStep, o.StepResult]]) -> None:
        self._shelves: dict[str, dict[str, int]] = {}
        self._authorisations: dict[str, None] = {}  # The steps, in their order.
        for step, result in answers:
            if isinstance(step, o.Reserve) and isinstance(result, o.StockHeld):
                self._learn_stock(step, result)

    def notice(self, steps: Iterable[o.AnyStep]) -> None:
        """Learns which steps the order has had."""
        self._authorisations |= {s.step_id: None for s in steps if isinstance(s, o.Authorise)}

    def _learn_stock(self, step: o.Reserve, result: o.StockHeld) -> None:
        """Where the pieces of each SKU were, and how many, if there were too few."""
        held: dict[str, Counter[str]] = {}
        for part in result.held:
            held.setdefault(part.sku, Counter())[part.location] += part.quantity
        for piece in step.lines:
            found = dict(held.get(piece.sku, {}))
            if found and sum(found.values()) >= piece.quantity:
                found[next(iter(found))] = UNLIMITED
            self._shelves.setdefault(piece.sku, found)

    def answer(self, step: o.AnyStep, order: Order) -> o.StepResult | None:
        """The result of a step by the simulators' rules; None if there would be none."""
        key = step.step_id
        match step:
            case o.Reserve():
                return o.StockHeld(step_id=key, held=self._reserve(step))
            case o.Authorise():
                if is_declined(step.method, is_first=next(iter(self._authorisations), key) == key):
                    return o.PaymentRefused(step_id=key, reason="the card was declined")
                if payment_fault(step.method) is Fault.DOWN:
                    return None
                return o.PaymentApproved(step_id=key, reference=f"imagined-{key}")
            case o.Capture() if order.payment_method == "pm_capture_declined":
                return o.PaymentRefused(step_id=key, reason="the bank declined the capture")
            case o.Refund() if payment_fault(order.payment_method, is_refund=True) is Fault.DOWN:
                return None
            case o.Book():
                return o.BookingAccepted(step_id=key, tracking="imagined")
            case _:
                return o.StepDone(step_id=key)

    def _reserve(self, step: o.Reserve) -> list[o.Held]:
        held = []
        for piece in step.lines:
            shelf = self._shelves.setdefault(
                piece.sku,
                {location: initial_stock(piece.sku, location) for location in LOCATIONS},
            )
            missing = piece.quantity
            for location, free in shelf.items():
                if taken := min(missing, free):
                    shelf[location] -= taken
                    missing -= taken
                    part: dict[str, Any] = {"location": location, "quantity": taken}
                    held.append(o.Held(line_id=piece.line_id, sku=piece.sku, **part))
        return held
