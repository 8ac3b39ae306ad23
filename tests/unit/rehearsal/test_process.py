"""The process of another checkout: any number of orders, and one sentence if it cannot be run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from dev.demo.recorded_orders import ENDED, demo_orders
from rehearsal.process import ON_THE_WAY_MAX, CheckoutError, Rules
from rehearsal.recorded import RecordedOrder
from tests.support.paths import ROOT


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (None, "other is not a directory: name a checkout of orderly."),
        ("", "other does not import: it has no package `orders`."),
        (
            "import nothing_of_this_name\n",
            "other does not import: ModuleNotFoundError: No module named 'nothing_of_this_name'.",
        ),
    ],
    ids=["no directory", "no rules", "does not import"],
)
async def test_checkout_without_rules_is_one_sentence(
    tmp_path: Path, source: str | None, sentence: str
) -> None:
    directory = tmp_path / "other"
    if source is not None:
        directory.mkdir()
    if source:
        (directory / "orders").mkdir()
        (directory / "orders" / "__init__.py").write_text(source)

    with pytest.raises(CheckoutError) as caught:
        await Rules.start(directory)
    assert str(caught.value).endswith(sentence)
    assert "\n" not in str(caught.value)


async def test_rules_of_this_checkout_decide_the_same_in_their_process() -> None:
    """More orders than are on the way at a time."""
    orders = demo_orders(10) * (ON_THE_WAY_MAX // 10 + 3)

    async def all_orders() -> AsyncIterator[RecordedOrder]:
        for order in orders:
            yield order

    rules = await Rules.start(ROOT)
    outcomes = await asyncio.wait_for(_outcomes(rules, all_orders()), 120)

    assert [each["order_id"] for each in outcomes] == [each.order_id for each in orders]
    assert {key for each in outcomes for key in each} == {"order_id", "decisions"}
    assert rules.decisions == sum(each["decisions"] for each in outcomes)
    assert rules.cpu_seconds > 0


async def test_failure_to_read_orders_is_the_callers() -> None:
    async def broken() -> AsyncIterator[RecordedOrder]:
        yield demo_orders(1)[0]
        raise ValueError("the log is gone")

    rules = await Rules.start(ROOT)
    reading = _outcomes(rules, broken())
    with pytest.raises(ValueError, match="the log is gone"):
        await asyncio.wait_for(reading, 120)


async def _outcomes(rules: Rules, orders: AsyncIterator[RecordedOrder]) -> list[dict[str, Any]]:
    return [outcome async for _, outcome in rules.rehearse(orders, ENDED)]
