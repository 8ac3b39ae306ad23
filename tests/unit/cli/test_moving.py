"""`orderly move-orders` asks orders that visibility lists late, too."""

from __future__ import annotations

from typing import cast

import pytest
from temporalio.client import Client

from cli import moving
from cli.moving import Moved, move
from workflows.versions import Version


@pytest.mark.parametrize(
    "looks", [[["a"], [], ["b"], []], [[], [], ["a", "b"], []], [[], ["a"], ["a", "b"], []]]
)
async def test_order_that_visibility_lists_later_is_asked(
    monkeypatch: pytest.MonkeyPatch, looks: list[list[str]]
) -> None:
    asked = await asked_to_move(monkeypatch, looks)
    assert asked == (["a", "b"], Moved(2, []))


async def test_order_that_visibility_lists_too_late_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[list[str]] = [["a"], [], [], [], [], ["b"]]
    assert await asked_to_move(monkeypatch, looks) == (["a"], Moved(1, ["b"]))


async def test_version_without_orders_has_none_that_are_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert await asked_to_move(monkeypatch, []) == ([], Moved(0, []))


async def asked_to_move(
    monkeypatch: pytest.MonkeyPatch, looks: list[list[str]]
) -> tuple[list[str], Moved]:
    """The orders that were asked, and what was done in the end; looks are empty after the given."""
    remaining, asked = iter(looks), list[str]()

    async def look(*_: object) -> list[str]:
        return next(remaining, [])

    async def ask(_: Client, order_id: str) -> None:
        asked.append(order_id)

    monkeypatch.setattr(moving, "POLL_SECONDS", 0)
    monkeypatch.setattr(moving, "pinned_to", look)
    monkeypatch.setattr(moving, "ask_to_move", ask)
    old = Version("orders:old", "draining", 0.0, 2, 1)
    *_, last = [done async for done in move(cast(Client, None), "orders", old, rate=1_000)]
    return asked, last
