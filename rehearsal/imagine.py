"""The part of an order that is imagined: from the first decision that is not as it was recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from orders import steps as o
from orders.commands import OrderCommand
from orders.decider import Message
from orders.order import Order
from orders.rules.deadlines import next_deadline
from rehearsal.redecide import (
    TICK,
    Decision,
    Fact,
    Input,
    Json,
    Unreadable,
    apply,
    change,
    decide_on,
    is_command,
    read,
)
from rehearsal.world import Key, World, key_of

ANSWERS_MAX = 1_000
"""More answers or deadlines than this at a time are taken for an endless loop."""


class Answer(NamedTuple):
    """A recorded result, and the step that it answers."""

    step: o.AnyStep
    key: Key
    result: Any


class Past(NamedTuple):
    """What happened in fact, from the first difference on."""

    was: Sequence[Order]
    """Before each input, and after the last."""
    answers: Mapping[int, Answer]
    """By the index of their input."""
    all_answers: Sequence[Answer]
    """Also those from before the first difference."""


def read_past(inputs: Sequence[Input], at: int) -> Past:
    """Folds the recorded events, which these rules can read; raises Unreadable."""
    order, was = Order(), list[Order]()
    answers, everything = dict[int, Answer](), list[Answer]()
    for index, given in enumerate(inputs):
        if index >= at:
            was.append(order)
        if given.intent is not None and given.events:
            (first, *_) = messages = read(given)
            step = order.steps.get(getattr(first, "step_id", ""))
            if step is not None and not isinstance(first, OrderCommand) and len(messages) == 1:
                everything.append(Answer(step, key_of(step, order), first))
                if index >= at:
                    answers[index] = everything[-1]
        order = apply(given.events, order)
    return Past([*was, order], answers, everything)


class Imagination:
    """An order that leaves its record, and what it gets from there on."""

    def __init__(self, inputs: Sequence[Input], at: int, order: Order) -> None:
        """The order before the input number `at`, which is decided otherwise."""
        self.order = order
        self.events: list[Fact] = []
        self.flow: list[str] = [order.status]
        self.changes: list[Json] = []
        """Commands that are accepted where they were rejected, or the other way round."""
        self.matched: Counter[str] = Counter()
        """Recorded answers that were used, by the kind of the step."""
        self.imagined: Counter[str] = Counter()
        """Answers by the simulators' rules."""
        self.decisions = 0
        self._inputs, self._at = inputs, at
        self._past = read_past(inputs, at)
        self._shipments: dict[str, str] = {}
        self._steps: dict[str, str] = {}
        end = self._past.was[-1]
        self._silent = Counter(key_of(step, end) for step in end.steps.values())
        """Of steps that had no answer until the end."""
        self._coming = Counter(answer.key for answer in self._past.answers.values())
        self._unclaimed: dict[Key, list[Any]] = {}
        """Answers that came before their step was asked for."""
        self._without_answer: set[str] = set()
        self._world = World((answer.step, answer.result) for answer in self._past.all_answers)
        self._world.notice(answer.step for answer in self._past.all_answers)

    @property
    def unclaimed(self) -> int:
        """How many recorded answers no step has asked for."""
        return sum(map(len, self._unclaimed.values()))

    @property
    def recorded(self) -> Order:
        """The order as it ended in fact."""
        return self._past.was[-1]

    @property
    def recorded_flow(self) -> list[str]:
        """The statuses of the order in fact, from the first difference on."""
        statuses = [order.status for order in self._past.was]
        return [s for i, s in enumerate(statuses) if s not in statuses[max(i - 1, 0) : i]]

    def run(self, first: Decision | None, until: datetime) -> None:
        """Imagines the rest of the order, until all inputs and deadlines up to `until` are over.

        `first` is the decision on the first input; None if a deadline passes before it. Raises
        Unreadable, also for an input that the journal lacks.
        """
        for index, given in enumerate(self._inputs[self._at :], start=self._at):
            self._was = self._past.was[index - self._at]
            if first is not None:
                self._take(first)
                self._note(given, first)
                first = None
            else:
                self._pass_deadlines(given.at)
                self._feed(index, given)
            if (answer := self._past.answers.get(index)) is not None:
                self._coming[answer.key] -= 1
            self._settle(given.at)
        self._pass_deadlines(until)

    def _feed(self, index: int, given: Input) -> None:
        """Decides on what was recorded, as far as it makes sense to the imagined order."""
        if given.intent is None:
            raise Unreadable(
                f"what came at {given.at:%Y-%m-%d %H:%M:%S} after the first difference: the journal"
                " lacks it"
            )
        messages = read(given)
        if index in self._past.answers:
            answer = self._past.answers[index]
            self._unclaimed.setdefault(answer.key, []).append(answer.result)
        elif is_command(messages):
            decision = decide_on([*map(self._translated, messages)], self.order, given.at)
            self._take(decision)
            self._note(given, decision)
        elif given.events and not isinstance(messages[0], o.DeadlinePassed):
            reports = [*map(self._translated, messages)]
            self._take(decide_on(reports, self.order, given.at))

    def _settle(self, now: datetime) -> None:
        """Answers all steps that no recorded answer is to come for."""
        for _ in range(ANSWERS_MAX):
            result = self._next_answer()
            if result is None:
                return
            self._take(decide_on([result], self.order, now))
        raise RecursionError("the rules request steps without end")

    def _next_answer(self) -> Any:
        expected = self._coming + self._silent
        for step in self.order.steps.values():
            key = key_of(step, self.order)
            if self._unclaimed.get(key):
                self.matched[step.type] += 1
                return self._renamed(self._unclaimed[key].pop(0), step)
            if expected[key] > 0:
                expected[key] -= 1
            elif step.step_id not in self._without_answer:
                result = self._world.answer(step, self.order)
                if result is not None:
                    self.imagined[step.type] += 1
                    return result
                self._without_answer.add(step.step_id)
        return None

    def _pass_deadlines(self, until: datetime) -> None:
        for _ in range(ANSWERS_MAX):
            deadline = next_deadline(self.order)
            if deadline is None or deadline.at >= until:
                return
            now = deadline.at + TICK
            passed = o.DeadlinePassed(deadline=deadline.name, at=deadline.at)
            decision = decide_on([passed], self.order, now)
            if not decision.events:
                return
            self._take(decision)
            self._settle(now)
        raise RecursionError("deadlines pass without end")

    def _take(self, decision: Decision) -> None:
        self.decisions += len(decision.messages)
        self.events += decision.facts()
        self.order = decision.order
        self._world.notice(self.order.steps.values())
        if self.order.status not in self.flow[-1:]:
            self.flow.append(self.order.status)

    def _note(self, given: Input, decision: Decision) -> None:
        if (changed := change(given, decision)) is not None:
            self.changes.append(changed)

    # Ids that depend on the version of the order differ between the record and the imagined order.

    def _translated(self, message: Message) -> Message:
        changed: dict[str, str] = {}
        if (shipment := getattr(message, "shipment_id", None)) is not None:
            changed["shipment_id"] = self._shipment(shipment)
        if (step := getattr(message, "step_id", None)) is not None:
            changed["step_id"] = self._step(step)
        if (authorisation := getattr(message, "authorisation_id", None)) is not None:
            changed["authorisation_id"] = self._steps.get(authorisation, authorisation)
        return message.model_copy(update=changed) if changed else message

    def _renamed(self, result: Any, step: o.AnyStep) -> Any:
        """A recorded result, as the answer to this step."""
        recorded = getattr(result, "step_id", step.step_id)
        self._steps[recorded] = step.step_id
        return result.model_copy(update={"step_id": step.step_id})

    def _step(self, recorded: str) -> str:
        """The imagined step of the same kind and content as a recorded one."""
        step = self._was.steps.get(recorded)
        if step is None or recorded in self.order.steps:
            return self._steps.get(recorded, recorded)
        key, steps = key_of(step, self._was), self.order.steps.values()
        same = (each.step_id for each in steps if key_of(each, self.order) == key)
        return next(same, recorded)

    def _shipment(self, recorded: str) -> str:
        """The imagined shipment with the pieces of a recorded one, or at least from its place."""
        shipment = self._was.shipments.get(recorded)
        if recorded in self._shipments or shipment is None:
            return self._shipments.get(recorded, recorded)
        taken = set(self._shipments.values())
        free = [s for s in self.order.shipments.values() if s.shipment_id not in taken]
        same = [s for s in free if s.location == shipment.location]
        alike = [s for s in same if dict(s.lines) == dict(shipment.lines)]
        own = [s for s in alike if s.shipment_id == recorded]
        for found in (*own, *alike, *same):
            self._shipments[recorded] = found.shipment_id
            return found.shipment_id
        return recorded
