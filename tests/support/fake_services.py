"""Payments, stock and shipping for one order, in memory: the books of what they really did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from orders import steps as o

LOCATIONS = ("EAST", "WEST")


@dataclass
class Promise:
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
class World:
    """Does each step once, however often it is asked to, and never what makes no sense.

    `moods` may refuse, fall short or split; a `willing` world does all that it is asked to.
    """

    promises: dict[str, Promise] = field(default_factory=dict)
    shelf: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Pieces held for the order, by line and location."""
    lost: Counter[tuple[str, str]] = field(default_factory=Counter)
    parcels: dict[str, Parcel] = field(default_factory=dict)
    left: Counter[str] = field(default_factory=Counter)
    """Pieces that have ever left, by line."""
    answers: dict[str, o.StepResult] = field(default_factory=dict)

    def carry_out(self, step: o.AnyStep, moods: Random | None = None) -> o.StepResult:
        """Does a step and says what came of it; without moods, it is willing."""
        match step:
            case o.Book():
                return self._book(step)
            case o.Stop():
                return self._stop(step)
        if step.step_id not in self.answers:
            self.answers[step.step_id] = self._do(step, moods)
        return self.answers[step.step_id]

    def _do(self, step: o.AnyStep, moods: Random | None) -> o.StepResult:
        refuses = moods is not None and moods.random() < 0.15
        done = o.StepDone(step_id=step.step_id)
        match step:
            case o.Reserve(lines=lines):
                return o.StockHeld(step_id=step.step_id, held=self._hold(lines, moods))
            case o.Release(held=held) | o.Withdraw(held=held):
                for part in held:
                    self._take(part)
            case o.Authorise(amount=amount) if not refuses:
                assert amount > 0
                self.promises[step.step_id] = Promise(amount)
                return o.PaymentApproved(step_id=step.step_id, reference=f"ref-{step.step_id}")
            case o.Authorise():
                return o.PaymentRefused(step_id=step.step_id, reason="declined")
            case o.Capture(authorisation_id=key, amount=amount):
                promise = self.promises[key]
                assert amount > 0 and promise.captured + amount <= promise.amount
                if refuses or promise.voided:
                    return o.PaymentRefused(step_id=step.step_id, reason="it has ended")
                promise.captured += amount
            case o.Void(authorisation_id=key):
                assert not self.promises[key].voided
                self.promises[key].voided = True
            case o.Refund(authorisation_id=key, amount=amount):
                promise = self.promises[key]
                assert amount > 0 and promise.refunded + amount <= promise.captured
                promise.refunded += amount
        return done

    def _hold(self, lines: list[o.Piece], moods: Random | None) -> list[o.Held]:
        held = []
        for piece in lines:
            left = piece.quantity
            if moods is not None and moods.random() < 0.25:
                left = moods.randint(0, piece.quantity)
            here = left if moods is None or moods.random() < 0.6 else moods.randint(0, left)
            for location, pieces in zip(LOCATIONS, (here, left - here), strict=True):
                if pieces:
                    self.shelf[piece.line_id, location] += pieces
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
        self.shelf[place] -= part.quantity
        # What was lost may have been let go of before the order heard of it.
        assert self.shelf[place] >= -self.lost[place], f"{place}: never held"
        self.shelf[place] = max(0, self.shelf[place])

    def lose(self, place: tuple[str, str], pieces: int) -> o.StockLost:
        line_id, location = place
        self.shelf[place] -= pieces
        self.lost[place] += pieces
        loss_id = f"loss-{sum(self.lost.values())}"
        return o.StockLost(loss_id=loss_id, line_id=line_id, location=location, quantity=pieces)

    def _book(self, step: o.Book) -> o.StepResult:
        parcel = self.parcels.get(step.shipment_id)
        wanted = Parcel(step.revision, {piece.line_id: piece.quantity for piece in step.lines})
        if parcel is not None and parcel.status == "stopped":
            return o.StepFailed(step_id=step.step_id, reason="it was stopped")
        if parcel is not None and parcel.status == "left":
            return self.gone(step.shipment_id)
        if parcel is None or parcel.revision < step.revision:
            self.parcels[step.shipment_id] = wanted
        return o.BookingAccepted(step_id=step.step_id, tracking=f"track-{step.shipment_id}")

    def _stop(self, step: o.Stop) -> o.StepResult:
        parcel = self.parcels.setdefault(step.shipment_id, Parcel(0, {}))
        if parcel.status == "left":
            return self.gone(step.shipment_id)
        parcel.status = "stopped"
        return o.StepDone(step_id=step.step_id)

    def leave(self, shipment_id: str) -> o.ShipmentDeparted:
        """A parcel that the carrier knows of leaves."""
        parcel = self.parcels[shipment_id]
        assert parcel.status == "booked"
        parcel.status = "left"
        self.left.update(parcel.lines)
        return self.gone(shipment_id)

    def was_sent(self, shipment_id: str, lines: dict[str, int]) -> None:
        """The warehouse says that it left, and so it has."""
        parcel = self.parcels.setdefault(shipment_id, Parcel(0, lines))
        if parcel.status != "left":
            parcel.status, parcel.lines = "left", lines
            self.left.update(lines)
        assert parcel.lines == lines

    def gone(self, shipment_id: str) -> o.ShipmentDeparted:
        lines = [
            o.Piece(line_id=key, sku="", quantity=n)
            for key, n in self.parcels[shipment_id].lines.items()
        ]
        return o.ShipmentDeparted(shipment_id=shipment_id, lines=lines)

    def taken(self) -> int:
        return sum(promise.captured - promise.refunded for promise in self.promises.values())

    def held(self) -> dict[tuple[str, str], int]:
        return {place: n for place, n in self.shelf.items() if n}
