"""Moves orders that are pinned to a version of the workers to the version that is current now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence, Set
from typing import NamedTuple

from temporalio.client import Client

from workflows.versions import Version, ask_to_move, find_versions, pinned_to

ROUNDS = 3
ROUND_SECONDS_MAX = 10.0
POLL_SECONDS = 0.5
LEFT_SHOWN_MAX = 5


class NotMoved(Exception):
    """Why orders cannot be moved."""


class Moved(NamedTuple):
    """The orders that were asked to move, and those that are still where they were."""

    asked: int
    left: Sequence[str]


async def source(client: Client, task_queue: str, build: str) -> Version:
    """The version that a build id, or a full name, stands for. Raises NotMoved and RPCError."""
    versions = await find_versions(client, task_queue, None)
    if not build:
        raise NotMoved("The build id is empty: `orderly versions` lists those that there are.")
    found = [one for one in versions if build in (one.name, one.name.partition(":")[2])]
    if len(found) != 1:
        names = ", ".join(one.name for one in versions) or "none"
        which = "several versions" if found else "no version"
        raise NotMoved(f"There is {which} with the build id {build}; there are: {names}.")
    if not any(one.is_new for one in versions if one.name != found[0].name):
        raise NotMoved(f"No other version than {found[0].name} is current or ramping.")
    return found[0]


async def move(
    client: Client, task_queue: str, version: Version, rate: float
) -> AsyncIterator[Moved]:
    """Asks each order of a version to move, `rate` a second, and waits until they have.

    Yields what was done so far. Those that are left are asked again, as Temporal may not have known
    the current version yet, and those that visibility, which lags behind, lists only then. An order
    with something under way moves by itself later.
    """
    order_ids: set[str] = set()
    now = asyncio.get_running_loop().time
    for _ in range(ROUNDS):
        left = await pinned_to(client, task_queue, version.name)
        order_ids.update(left)
        began = now()
        for number, order_id in enumerate(left):
            await asyncio.sleep(began + number / rate - now())
            await ask_to_move(client, order_id)
            yield Moved(number + 1, left)
        deadline = now() + ROUND_SECONDS_MAX
        is_waiting = True
        while is_waiting:
            await asyncio.sleep(POLL_SECONDS)
            left = await pinned_to(client, task_queue, version.name)
            yield Moved(len(order_ids), left)
            is_waiting = bool(left) and order_ids.issuperset(left) and now() < deadline


def remaining(left: Sequence[str], failing: Set[str]) -> Iterator[str]:
    """Why orders are still where they were."""
    for are_failing, why in (
        (False, "move once their steps have ended"),
        (True, "cannot move, because their workflow tasks fail (see `orderly stuck`)"),
    ):
        if order_ids := [each for each in left if (each in failing) is are_failing]:
            yield f"{len(order_ids):,} {why}, such as {', '.join(order_ids[:LEFT_SHOWN_MAX])}."
