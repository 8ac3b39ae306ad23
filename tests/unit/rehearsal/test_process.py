"""The process of another checkout: any number of orders, and one sentence if it cannot be run."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from dev.demo.recorded_orders import ENDED, demo_orders
from rehearsal.process import ON_THE_WAY_MAX, CheckoutError, Rules
from rehearsal.recorded import RecordedOrder
from tests.support.paths import ROOT
from tests.support.processes import HANGING, assert_ended, pid_in


def checkout_with(folder: Path, source: str) -> Path:
    """A checkout with these rules, whose package begins with `source`."""
    other = folder / "other"
    shutil.copytree(ROOT / "orders", other / "orders")
    (other / "orders" / "__init__.py").write_text(dedent(source))
    return other


async def each_of(orders: Sequence[RecordedOrder]) -> AsyncIterator[RecordedOrder]:
    for order in orders:
        yield order


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


@pytest.mark.parametrize("directory", [ROOT.parent, ROOT / "orders"], ids=["parent", "orders"])
async def test_directory_around_or_in_our_own_rules_has_none(directory: Path) -> None:
    with pytest.raises(CheckoutError, match="does not import: it has no package `orders`"):
        await _started_and_stopped(directory)


async def test_rules_of_this_checkout_decide_the_same_in_their_process() -> None:
    """More orders than are on the way at a time."""
    orders = demo_orders(10) * (ON_THE_WAY_MAX // 10 + 3)
    rules = await Rules.start(ROOT)
    outcomes = await asyncio.wait_for(_outcomes(rules, each_of(orders)), 120)

    assert [each["order_id"] for each in outcomes] == [each.order_id for each in orders]
    assert {key for each in outcomes for key in each} == {"order_id", "decisions", "money"}
    assert all(each["decisions"] for each in outcomes)
    assert rules.cpu_seconds > 0


async def test_rules_may_print_and_read(tmp_path: Path) -> None:
    """Also more than a pipe holds, and from other processes."""
    other = checkout_with(
        tmp_path,
        """
        import os, sys
        print("imported", flush=True)
        assert sys.stdin.read() == ""
        os.system("echo from a shell; cat")
        print("x" * 200_000)
        """,
    )
    with (other / "orders" / "decider.py").open("a") as file:
        file.write(
            "\n_decide_all = decide_all\n"
            "def decide_all(*given):\n"
            "    print('x' * 10_000)\n"
            "    return _decide_all(*given)\n"
        )
    orders = demo_orders(20)
    rules = await Rules.start(other)
    outcomes = await asyncio.wait_for(_outcomes(rules, each_of(orders)), 120)

    assert [each["order_id"] for each in outcomes] == [each.order_id for each in orders]
    assert {key for each in outcomes for key in each} == {"order_id", "decisions", "money"}


async def test_interrupted_start_leaves_no_process(tmp_path: Path) -> None:
    """The rules are being imported, and that does not end."""
    other = checkout_with(tmp_path, HANGING)
    starting = asyncio.ensure_future(Rules.start(other))
    pid = await pid_in(other / "orders")
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert_ended(pid)


async def test_process_that_prints_and_ends_is_one_sentence(tmp_path: Path) -> None:
    other = checkout_with(tmp_path, 'import sys\nprint("deciding")\nsys.exit("no rules today")\n')

    with pytest.raises(CheckoutError, match="does not import: no rules today"):
        await Rules.start(other)


async def test_failure_to_read_orders_is_the_callers() -> None:
    async def broken() -> AsyncIterator[RecordedOrder]:
        yield demo_orders(1)[0]
        raise ValueError("the log is gone")

    rules = await Rules.start(ROOT)
    reading = _outcomes(rules, broken())
    with pytest.raises(ValueError, match="the log is gone"):
        await asyncio.wait_for(reading, 120)


async def _started_and_stopped(directory: Path) -> None:
    await (await Rules.start(directory)).stop()


async def _outcomes(rules: Rules, orders: AsyncIterator[RecordedOrder]) -> list[dict[str, Any]]:
    return [outcome async for _, outcome in rules.rehearse(orders, ENDED)]
