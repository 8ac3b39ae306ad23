"""Three changes of rules that `make rehearse-demo` rehearses on the demo's orders."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class RuleChange(NamedTuple):
    """A change of one place in one file of `orders/`."""

    title: str
    file: str
    old: str
    new: str

    def checkout(self, directory: Path) -> Path:
        """A copy of the rules in `directory`, with the change."""
        shutil.copytree(ROOT / "orders", directory / "orders")
        file = directory / self.file
        text = file.read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"{self.title}: {self.file} does not have its text once")
        file.write_text(text.replace(self.old, self.new))
        return directory


RULE_CHANGES = (
    RuleChange(
        "Five per cent off from eight lines on",
        "orders/rules/draft.py",
        "            return [e.OrderPlaced(total=order.total, payment_method=method)]\n",
        "            off = order.total // 20 if len(order.lines) >= 8 else 0\n"
        "            placed = e.OrderPlaced(total=order.total - off, payment_method=method)\n"
        '            bulk = e.DiscountApplied(discount_id="bulk", amount=off)\n'
        "            return [bulk, placed] if off else [placed]\n",
    ),
    RuleChange(
        "Goodwill of five per cent at most",
        "orders/rules/fulfilment.py",
        "    return min(ledger.refundable(order), ledger.due(order))\n",
        "    return min(ledger.refundable(order), ledger.due(order) // 20)\n",
    ),
    RuleChange(
        "Money before stock",
        "orders/rules/process.py",
        "    if not amount or order.missing() or order.owes(Reserve, Authorise):\n",
        "    if not amount or order.owes(Authorise):\n",
    ),
)
