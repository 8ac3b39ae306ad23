"""What rates of orders need is that of one order, so many times."""

from __future__ import annotations

import pytest

from dev.bench.costs_page import PAGE, replace_figures
from dev.bench.usage import (
    ACTIONS,
    COMMITS,
    COMPONENTS,
    EVENTS,
    HISTORY_BYTES,
    LOG_BYTES,
    LOG_ROWS,
    ROWS,
    TRANSITIONS,
    WAL,
    add,
    at_rate,
)

POSTGRES = (COMMITS, WAL, ROWS, LOG_ROWS, LOG_BYTES)
TEMPORAL = (EVENTS, HISTORY_BYTES, TRANSITIONS, ACTIONS)


def test_usages_add_up_by_name() -> None:
    assert add([(9, {"rows": 2.0}), (1, {"rows": 3.0, "bytes": 5.0})]) == {"rows": 21, "bytes": 5}


def test_difference_of_two_usages_may_be_negative() -> None:
    assert add([(1, {"rows": 2.0}), (-1, {"rows": 3.0})]) == {"rows": -1}


def test_rates_need_one_order_so_many_times() -> None:
    order = dict.fromkeys((*COMPONENTS, *POSTGRES, *TEMPORAL), 20.0) | {
        LOG_BYTES: 10_000.0,
        WAL: 50_000.0,
    }

    needs = at_rate(order, 1_000)

    assert needs["worker, cores"] == 20  # 20 ms of each second, a thousand times.
    assert needs[f"{TRANSITIONS}, per second"] == 20_000
    assert needs["Temporal history shards, at least"] == 512  # 400 at 50 of each per second.
    assert needs["Postgres WAL, MB per second"] == pytest.approx(50)
    assert needs["log, GB per day"] == pytest.approx(864)


def test_figures_replace_those_of_the_page_and_nothing_else() -> None:
    order = dict.fromkeys((*COMPONENTS, *POSTGRES, *TEMPORAL), 2.0)
    machine = {"cpu": "x", "cores": 2, "memory_gib": 4, "system": "Linux", "python": "3.11"}
    result = {
        "costs": {"opened": order},
        "whole_order": order,
        "idle_per_second": {},
        "rates": {10: at_rate(order, 10)},
        "orders": 5,
        "load_average": 0.1,
        "machine": machine | {"temporal_server": "1"},
    }
    page = PAGE.read_text()

    once = replace_figures(page, result)

    assert "| api, processor ms | 2 | 2 |  |" in once
    assert "| log rows, per second | 20 |" in once
    assert replace_figures(once, result) == once
    assert page.splitlines()[0] == once.splitlines()[0]
    assert page.splitlines()[-1] == once.splitlines()[-1]
    with pytest.raises(ValueError, match="has no <!-- costs -->"):
        replace_figures("# Another page\n", result)
