"""Another version runs as a process of its own, and may print what it likes."""

from __future__ import annotations

import json
from pathlib import Path

from dev.demo.baskets import PACKAGED_BASKETS
from dev.release.check import orders_in
from dev.release.checkouts import output_of
from dev.stack.programs import build_id_of
from tests.support.next_version import make_copy
from tests.support.paths import ROOT
from workflows.build_id import build_id


async def test_version_that_prints_is_read_as_any_other(tmp_path: Path) -> None:
    copy = make_copy(tmp_path, [])
    (copy / PACKAGED_BASKETS.relative_to(ROOT)).write_bytes(PACKAGED_BASKETS.read_bytes())
    (copy / "orders" / "__init__.py").write_text("print('{')\n")

    output = await output_of(copy, "dev.release.past", "3", "2")

    recorded = [json.loads(line) for line in orders_in(output).splitlines()]
    assert [each["order_id"] for each in recorded if "random" in each["order_id"]] == [
        *("ord_random_0000", "ord_random_0000_younger", "ord_random_0001", "ord_random_0002")
    ]
    assert len(recorded) == 6


async def test_build_id_of_a_version_that_prints_is_its_own(tmp_path: Path) -> None:
    copy = make_copy(tmp_path, [])
    (copy / "cli" / "__init__.py").write_text("print('starting')\n")

    assert await build_id_of(copy) == build_id()
