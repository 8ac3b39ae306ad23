"""Changes of rules, as a developer might make them: seeded, and applied to the running process.

Each replaces one text in one file of `orders/`, so that it can also be applied to a copy.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from tests.support.paths import ROOT


class RuleChange(NamedTuple):
    """One change."""

    name: str
    module: str
    old: str
    new: str

    @property
    def file(self) -> str:
        return f"{self.module.replace('.', '/')}.py"

    def source(self, root: Path = ROOT) -> str:
        """The module's source with the change."""
        text = (root / self.file).read_text()
        assert text.count(self.old) == 1, f"{self.name}: its text is not once in {self.file}"
        return text.replace(self.old, self.new)

    def apply_to(self, root: Path) -> None:
        """Changes a copy of the checkout."""
        (root / self.file).write_text(self.source(root))


RULE_CHANGES = (
    RuleChange(
        "drafts cannot be placed with more than five lines",
        "orders.rules.draft",
        "            if not order.lines:\n",
        "            if not order.lines or len(order.lines) > 5:\n",
    ),
    RuleChange(
        "an empty order may be placed",
        "orders.rules.draft",
        "            if not order.lines:\n",
        "            if False:\n",
    ),
    RuleChange(
        "lines are a cent dearer",
        "orders.rules.draft",
        'e.ItemAdded(**command.model_dump(exclude={"type", "currency"}))',
        'e.ItemAdded(**command.model_dump(exclude={"type", "currency"})'
        ' | {"unit_price": command.unit_price + 1})',
    ),
    RuleChange(
        "five per cent off from eight lines on",
        "orders.rules.draft",
        "            return [e.OrderPlaced(total=order.total, payment_method=method)]\n",
        "            off = order.total // 20 if len(order.lines) >= 8 else 0\n"
        "            placed = e.OrderPlaced(total=order.total - off, payment_method=method)\n"
        '            off_event = e.DiscountApplied(discount_id="bulk", amount=off)\n'
        "            return [off_event, placed] if off else [placed]\n",
    ),
    RuleChange(
        "drafts expire a day earlier",
        "orders.rules.draft",
        "seconds=policy.draft)",
        "seconds=policy.draft - 86400)",
    ),
    RuleChange(
        "no notes on cancelled orders",
        "orders.rules.draft",
        '            check_id_free(note_id, order.notes, frozenset(), "note_id")\n',
        '            check_id_free(note_id, order.notes, frozenset(), "note_id")\n'
        '            if order.status == "cancelled":\n'
        '                raise CommandRejected("it is cancelled", "not-allowed-now")\n',
    ),
    RuleChange(
        "the same note again is rejected",
        "orders.rules.no_op",
        "def is_no_op(command: OrderCommand, order: Order) -> bool:\n",
        "def is_no_op(command: OrderCommand, order: Order) -> bool:\n"
        '    if command.type == "add-note":\n'
        "        return False\n",
    ),
    RuleChange(
        "orders can be cancelled after they have shipped",
        "orders.rules.cancellation",
        "    return _is_alone(order) or not order.has_shipped\n",
        "    return True\n",
    ),
    RuleChange(
        "cancellations name no reason",
        "orders.rules.cancellation",
        "[e.OrderCancellationRequested(reason=reason)]",
        "[e.OrderCancellationRequested(reason=None)]",
    ),
    RuleChange(
        "goodwill needs no capture",
        "orders.rules.fulfilment",
        "    if command.amount > most:\n        raise CommandRejected(\n"
        '            f"{format_amount(most, order.currency)} can be refunded at most",\n',
        "    if command.amount > 10 * most + 10**9:\n        raise CommandRejected(\n"
        '            f"{format_amount(most, order.currency)} can be refunded at most",\n',
    ),
    RuleChange(
        "no goodwill",
        "orders.rules.fulfilment",
        "    return min(ledger.refundable(order), ledger.due(order))\n",
        "    return 0\n",
    ),
    RuleChange(
        "authorise a tenth more",
        "orders.rules.process",
        '        step_id=order.next_step_id("authorise"), amount=amount, ',
        '        step_id=order.next_step_id("authorise"), amount=amount + amount // 10, ',
    ),
    RuleChange(
        "captures come in parts",
        "orders.rules.process",
        "                amount=min(missing, authorisation.capturable),\n",
        "                amount=(min(missing, authorisation.capturable) + 1) // 2,\n",
    ),
    RuleChange(
        "unneeded authorisations are left to expire",
        "orders.rules.process",
        "ledger.to_capture(order) or order.owes(Authorise, Capture):\n",
        "True:\n",
    ),
    RuleChange(
        "money before stock",
        "orders.rules.process",
        "    if not amount or order.missing() or order.owes(Reserve, Authorise):\n",
        "    if not amount or order.owes(Authorise):\n",
    ),
    RuleChange(
        "a completed order does not wait for its return window",
        "orders.rules.process",
        "    if order.steps or not order.return_window_closed or not order.has_arrived:\n",
        "    if order.steps or not order.has_arrived:\n",
    ),
    RuleChange(
        "two days to answer a declined payment",
        "orders.rules.results",
        "    answer_by = now + timedelta(seconds=policy_of(order).payment_retry)\n",
        "    answer_by = now + 2 * timedelta(seconds=policy_of(order).payment_retry)\n",
    ),
    RuleChange(
        "an hour to answer a shortfall",
        "orders.rules.results",
        "    answer_by = now + timedelta(seconds=policy_of(order).shortfall_answer)\n",
        "    answer_by = now + timedelta(hours=1)\n",
    ),
    RuleChange(
        "money is captured on the fifth day",
        "orders.rules.results",
        "    capture_by = now + timedelta(seconds=policy_of(order).capture)\n",
        "    capture_by = now + timedelta(seconds=policy_of(order).capture - 86400)\n",
    ),
    RuleChange(
        "lost goods are held to be returned",
        "orders.rules.shipments",
        '    if report.goods == "lost":\n        return [failure]\n',
        '    if report.goods == "nothing":\n        return [failure]\n',
    ),
    RuleChange(
        "sixty days to return",
        "orders.rules.shipments",
        "seconds=policy_of(order).return_window)",
        "seconds=2 * policy_of(order).return_window)",
    ),
    RuleChange(
        "a return is refunded without its shipping",
        "orders.ledger",
        "    return max(0, earned - _returned(order) - order.goodwill)\n\n\ndef final_due",
        "    return max(0, earned - _returned(order) // 2 - order.goodwill)\n\n\ndef final_due",
    ),
    RuleChange(
        "returns are not put back into stock",
        "orders.rules.returns",
        '    if command.condition == "damaged":\n',
        '    if command.condition != "new":\n',
    ),
    RuleChange(
        "a deadline for capture is ignored",
        "orders.rules.deadlines",
        "    if ledger.to_capture(order):\n",
        "    if False:\n",
    ),
    RuleChange(
        "shipped orders close at once",
        "orders.rules.deadlines",
        "    if order.return_by and not order.return_window_closed and order.has_arrived:\n"
        '        yield Deadline("return-window", order.return_by)\n',
        "    if order.return_by and not order.return_window_closed and order.has_arrived:\n"
        '        yield Deadline("return-window", order.return_by.replace(day=1, month=4))\n',
    ),
    RuleChange(
        "five days to return",
        "orders.rules.deadlines",
        '        yield Deadline("return-window", order.return_by)\n',
        "        from datetime import timedelta\n"
        '        yield Deadline("return-window", order.return_by - timedelta(days=25))\n',
    ),
)


@contextmanager
def applied(change: RuleChange) -> Iterator[None]:
    """Runs the process by other rules: gives its functions the code of the changed source."""
    module = importlib.import_module(change.module)
    changed = ModuleType(change.module)
    changed.__file__ = module.__file__
    exec(compile(change.source(), change.file, "exec"), vars(changed))
    replaced = [*_replaceable(module, changed)]
    assert replaced, f"{change.name} changes no function"
    for function, code in replaced:
        function.__code__, code.code = code.code, function.__code__
    try:
        yield
    finally:
        for function, code in replaced:
            function.__code__ = code.code


class _Code:
    """A place for code."""

    def __init__(self, code: CodeType) -> None:
        self.code = code


def _replaceable(module: ModuleType, changed: ModuleType) -> Iterator[tuple[FunctionType, _Code]]:
    """The functions of a module whose code the other one has otherwise."""
    for name, old in vars(module).items():
        new: Any = vars(changed).get(name)
        if (
            inspect.isfunction(old)
            and old.__module__ == module.__name__
            and old.__code__ != new.__code__
        ):
            yield old, _Code(new.__code__)
