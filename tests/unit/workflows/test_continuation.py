"""Which runs came before a run, as a snapshot and the Temporal Web UI name them."""

from __future__ import annotations

from orders.evolve import fold
from orders.order import Order
from tests.support.given import bagels_added, opened
from workflows.continuation import RUNS_NAMED_MAX, EarlierRun, EarlierRuns
from workflows.web_ui import details, origin

DRAFT = fold([opened, bagels_added])


def runs(count: int) -> EarlierRuns:
    """The runs before one, each of which took the order ten versions further."""
    earlier = EarlierRuns()
    for number in range(1, count + 1):
        run = EarlierRun(run_id=f"run-{number}", version=10 * number, status="draft")
        earlier = earlier.followed_by(run)
    return earlier


def versions(earlier: EarlierRuns) -> list[int]:
    return [run.version for run in earlier.named]


def test_first_run_and_the_last_ones_are_named() -> None:
    assert versions(runs(0)) == []
    assert versions(runs(1)) == [10]
    assert versions(runs(RUNS_NAMED_MAX)) == [10, 20, 30, 40, 50]
    assert versions(runs(97)) == [10, 940, 950, 960, 970]
    assert runs(97).count == 97


def test_new_order_has_no_origin() -> None:
    assert origin(Order(), EarlierRuns(), "default", "ord_1") == ""
    assert "This run" not in details(DRAFT, 0, [])


def test_reopened_order_comes_from_the_log() -> None:
    assert origin(DRAFT, EarlierRuns(), "default", "ord_1") == (
        "This run began at version 2, draft, from the log."
    )


def test_origin_says_where_the_run_began_and_links_to_the_runs_before_it() -> None:
    shown = details(DRAFT, 0, [], origin=origin(DRAFT, runs(7), "shop", "ord_1"))
    assert shown.endswith(
        "This run began at version 2, draft, after 7 earlier runs:\n\n"
        "- [to version 10, draft](namespaces/shop/workflows/ord_1/run-1/history)\n"
        "- and 2 more runs\n"
        "- [to version 40, draft](namespaces/shop/workflows/ord_1/run-4/history)\n"
        "- [to version 50, draft](namespaces/shop/workflows/ord_1/run-5/history)\n"
        "- [to version 60, draft](namespaces/shop/workflows/ord_1/run-6/history)\n"
        "- [to version 70, draft](namespaces/shop/workflows/ord_1/run-7/history)"
    )
    assert shown.count("](namespaces/") == RUNS_NAMED_MAX


def test_one_earlier_run_is_singular() -> None:
    assert ", after 1 earlier run:\n" in origin(DRAFT, runs(1), "default", "ord_1")
    assert "- and 1 more run\n" in origin(DRAFT, runs(RUNS_NAMED_MAX + 1), "default", "ord_1")
