"""Payments, stock and shipping for one order, in memory, with ledgers of what they did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from orders import steps as o

LOCATIONS = ("EAST", "WEST")


@dataclass
class Payment:
    """An authorisation at the payment service, in minor units."""

    amount: int
    captured: int = 0
    refunded: int = 0
    voided: bool = False


@dataclass
class Parcel:
    """A shipment as the carrier knows it."""

    revision: int
    lines: dict[str, int]
    status: Literal["booked", "stopped", "left"] = "booked"


@dataclass
class FakeServices:
    """Carries out each step once, however often it is requested; asserts that it makes sense.

    With dice, a service may decline, fall short or split; without, it does all it is asked to.
    """

    payments: dict[str, Payment] = field(default_factory=dict)
    stock: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Pieces reserved for the order, by line and location."""
    lost: Counter[tuple[str, str]] = field(default_factory=Counter)
    parcels: dict[str, Parcel] = field(default_factory=dict)
    left: Counter[str] = field(default_factory=Counter)
    """All pieces that left, by line."""
    results: dict[str, o.StepResult] = field(default_factory=dict)

    def carry_out(self, step: o.AnyStep, dice: Random | None = None) -> o.StepResult:
        """The result of a step."""
        match step:
            case o.Book():
                return self._book(step)
            case o.Stop():
                return self._stop(step)
        if step.step_id not in self.results:
            self.results[step.step_id] = self._do(step, dice)
        return self.results[step.step_id]

    def _do(self, step: o.AnyStep, dice: Random | None) -> o.StepResult:
        declines = dice is not None and dice.random() < 0.15
        done = o.StepDone(step_id=step.step_id)
        match step:
            case o.Reserve(lines=lines):
                return o.StockHeld(step_id=step.step_id, held=self._hold(lines, dice))
            case o.Release(held=held) | o.Withdraw(held=held):
                for part in held:
                    self._take(part)
            case o.Authorise(amount=amount) if not declines:
                assert amount > 0
                self.payments[step.step_id] = Payment(amount)
                return o.PaymentApproved(step_id=step.step_id, reference=f"ref-{step.step_id}")
            case o.Authorise():
                return o.PaymentRefused(step_id=step.step_id, reason="declined")
            case o.Capture(authorisation_id=key, amount=amount):
                payment = self.payments[key]
                assert amount > 0 and payment.captured + amount <= payment.amount
                if declines or payment.voided:
                    return o.PaymentRefused(step_id=step.step_id, reason="it has ended")
                payment.captured += amount
            case o.Void(authorisation_id=key):
                assert not self.payments[key].voided
                self.payments[key].voided = True
            case o.Refund(authorisation_id=key, amount=amount):
                payment = self.payments[key]
                assert amount > 0 and payment.refunded + amount <= payment.captured
                payment.refunded += amount
        return done

    def _hold(self, lines: list[o.Piece], dice: Random | None) -> list[o.Held]:
        held = []
        for piece in lines:
            left = piece.quantity
            if dice is not None and dice.random() < 0.25:
                left = dice.randint(0, piece.quantity)
            here = left if dice is None or dice.random() < 0.6 else dice.randint(0, left)
            for location, pieces in zip(LOCATIONS, (here, left - here), strict=True):
                if pieces:
                    self.stock[piece.line_id, location] += pieces
                    held.append(
                        o.Held(
                            line_id=piece.line_id,
                            sku=piece.sku,
                            location=location,
                            quantity=pieces,
                        )
                    )
        return held

    def _take(self, part: o.Held) -> None:
        place = (part.line_id, part.location)
        self.stock[place] -= part.quantity
        # The order may release a lost piece before it hears of the loss.
        assert self.stock[place] >= -self.lost[place], f"{place}: never reserved"
        self.stock[place] = max(0, self.stock[place])

    def booked_shipments(self) -> list[str]:
        return [key for key, parcel in self.parcels.items() if parcel.status == "booked"]

    def lose(self, key: tuple[str, str], pieces: int) -> o.StockLost:
        line_id, location = key
        self.stock[key] -= pieces
        self.lost[key] += pieces
        loss_id = f"loss-{sum(self.lost.values())}"
        return o.StockLost(loss_id=loss_id, line_id=line_id, location=location, quantity=pieces)

    def _book(self, step: o.Book) -> o.StepResult:
        parcel = self.parcels.get(step.shipment_id)
        wanted = Parcel(step.revision, {piece.line_id: piece.quantity for piece in step.lines})
        if parcel is not None and parcel.status == "stopped":
            return o.StepFailed(step_id=step.step_id, reason="it was stopped")
        if parcel is not None and parcel.status == "left":
            return self._departed(step.shipment_id)
        if parcel is None or parcel.revision < step.revision:
            self.parcels[step.shipment_id] = wanted
        return o.BookingAccepted(step_id=step.step_id, tracking=f"track-{step.shipment_id}")

    def _stop(self, step: o.Stop) -> o.StepResult:
        parcel = self.parcels.setdefault(step.shipment_id, Parcel(0, {}))
        if parcel.status == "left":
            return self._departed(step.shipment_id)
        parcel.status = "stopped"
        return o.StepDone(step_id=step.step_id)

    def collect(self, shipment_id: str) -> o.ShipmentDeparted:
        """The carrier collects a booked shipment."""
        parcel = self.parcels[shipment_id]
        assert parcel.status == "booked"
        parcel.status = "left"
        self.left.update(parcel.lines)
        return self._departed(shipment_id)

    def record_dispatch(self, shipment_id: str, lines: dict[str, int]) -> None:
        """The warehouse reports that a shipment left."""
        parcel = self.parcels.setdefault(shipment_id, Parcel(0, lines))
        if parcel.status != "left":
            parcel.status, parcel.lines = "left", lines
            self.left.update(lines)
        assert parcel.lines == lines

    def _departed(self, shipment_id: str) -> o.ShipmentDeparted:
        lines = [
            o.Piece(line_id=key, sku="", quantity=n)
            for key, n in self.parcels[shipment_id].lines.items()
        ]
        return o.ShipmentDeparted(shipment_id=shipment_id, lines=lines)

    def net_captured(self) -> int:
        return sum(payment.captured - payment.refunded for payment in self.payments.values())

    def reserved(self) -> dict[tuple[str, str], int]:
        return {key: n for key, n in self.stock.items() if n}
