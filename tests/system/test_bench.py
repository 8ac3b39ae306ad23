"""Each benchmark runs, and its counts are true. Speeds are not tested.

Benchmarks that measure run in `make soak`; the one that counts losses always runs.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from readside.order_view.list_query import SORTS
from tests.support.paths import ROOT

PAGES = ("first", "deep")
SYSTEMS = ("baseline", "orderly", "baskets")

Json = dict[str, Any]


def bench(tmp_path: Path, *options: str) -> Json:
    """The result of a small benchmark without failures."""
    file = tmp_path / "bench.json"
    ran = subprocess.run(
        [sys.executable, "-m", "dev.bench", *options, "--json", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.splitlines()[-1] == str(file)
    result: Json = json.loads(file.read_text())
    assert result["machine"]["cores"] > 0
    assert not result.get("failures")
    return result


@pytest.mark.soak
def test_journal_is_small(tmp_path: Path) -> None:
    result = bench(
        tmp_path,
        "journal",
        "--commands",
        "200",
        "--rounds",
        "2",
        "--clients",
        "3",
        "--baskets",
        "50",
    )

    assert 1 < result["bytes_ratio"] < 1.3
    assert [result[name]["requests"] for name in ("journal", "without")] == [200, 200]


@pytest.mark.soak
def test_commands_accounts_for_every_command(tmp_path: Path) -> None:
    result = bench(tmp_path, "--commands", "40", "--rounds", "2", "--clients", "3")

    counts = result["counts"]
    assert counts["acknowledged"] == counts["published"] == counts["projected"]
    # Each system does one more round, to warm up.
    assert counts["baseline_activities"] == 3 * 20
    assert counts["acknowledged"] == 3 * 20

    assert [result[system]["requests"] for system in SYSTEMS] == [40, 40, 4]
    for system in SYSTEMS:
        assert result[system]["per_second"] > 0
        assert 0 < result[system]["latency_ms"]["p50"] <= result[system]["latency_ms"]["p99"]
    assert len(result["ratio_rounds"]) == 2
    assert all(result[name] > 0 for name in ("ratio", "ratio_acknowledged", "ratio_by_cpu_time"))
    processes = {"api", "worker", "projector", "temporal", "postgres", "load generator"}
    assert processes <= set(result["orderly"]["cpu_ms_per_request"])
    assert result["machine"]["temporal_server"]


@pytest.mark.soak
def test_appends_compares_every_number_of_writers(tmp_path: Path) -> None:
    result = bench(tmp_path, "appends", "--rounds", "1", "--seconds", "1", "--samples", "5")
    cases = {(case["writers"], case["events"]) for case in result["cases"]}
    assert cases == {(writers, events) for writers in (1, 8, 32) for events in (1, 5)}
    for case in result["cases"]:
        assert case["per_second"].keys() == {"insert", "orderly", "notify"}
        assert min(case["per_second"].values()) > 0
        assert case["ratio"] > 0
    for delay in result["idle_ms"].values():
        assert 0 < delay["p50"] <= delay["p99"]


@pytest.mark.soak
@pytest.mark.parametrize("layout", [(), ("--partitioned",)], ids=["one table", "partitioned"])
def test_long_log_measures_every_operation(tmp_path: Path, layout: tuple[str, ...]) -> None:
    sizes = ("--events", "200000", "--samples", "3", "--rounds", "1")
    result = bench(tmp_path, "long-log", *sizes, *layout)
    assert len(result["operations"]) == 14
    assert all(one["ratio"] > 0 for one in result["operations"].values())
    short, long = result["sizes_mb"]
    assert long["rows"] > 1.8 * short["rows"]


@pytest.mark.soak
def test_catch_up_makes_the_same_rows_as_sql_and_pyeventsourcing(tmp_path: Path) -> None:
    result = bench(
        tmp_path, "catch-up", "--events", "1200", "--baseline-events", "300", "--rounds", "1"
    )
    assert set(result["per_second"]) == {
        "catch_up",
        "rebuild",
        "two_processes",
        "pyeventsourcing",
        "sql",
    }
    for name in ("catch_up", "rebuild"):
        assert result["ratio_to_pyeventsourcing"][name] > 0
        assert result["ratio_to_sql"][name] > 0
        assert len(result["resident_mb"][name]) == 4


@pytest.mark.soak
def test_freshness_measures_every_event(tmp_path: Path) -> None:
    sizes = ("--rate", "10", "--seconds", "2", "--rounds", "2")
    result = bench(tmp_path, "freshness", *sizes)
    assert result["events"] == 40
    for name in ("seen", "published", "projected", "pyeventsourcing"):
        assert 0 < result["ms"][name]["p50"] <= result["ms"][name]["p99"]
    assert all(len(ratios) == 2 for ratios in result["ratio_rounds"].values())


@pytest.mark.soak
def test_lists_covers_every_filter_and_sort(tmp_path: Path) -> None:
    sizes = ("--few", "100", "--many", "300", "--samples", "3", "--rounds", "1")
    result = bench(tmp_path, "lists", *sizes)
    kinds = {(page["filter"], page["sort"], page["page"]) for page in result["pages"]}
    assert len(kinds) == len(result["pages"])
    everywhere = {(sign + sort, page) for sort in SORTS for sign in ("", "-") for page in PAGES}
    assert {(sort, page) for filter, sort, page in kinds if filter == "all"} == everywhere
    assert result["worst_ratio"] == max(page["ratio"] for page in result["pages"])


@pytest.mark.soak
def test_console_measures_every_page(tmp_path: Path) -> None:
    sizes = ("--orders", "300", "--events", "120", "--lines", "50", "--samples", "3")
    result = bench(tmp_path, "console", *sizes)
    pages = {one["page"] for one in result["requests"]}
    assert pages == {
        "inbox",
        "orders",
        "search",
        "one order",
        "live feed",
        "read models",
        "services",
        "numbers",
    }
    assert all(0 < one["ms"]["p50"] <= one["ms"]["p99"] for one in result["requests"])


@pytest.mark.soak
def test_reads_compares_equal_responses(tmp_path: Path) -> None:
    result = bench(tmp_path, "reads", "--orders", "30", "--rounds", "2", "--seconds", "1")
    assert len(result["ratio_rounds"]) == 2
    assert result["ratio"] > 0
    assert result["ratio_by_cpu_time"] > 0
    assert all(result[system]["requests"] > 0 for system in ("baseline", "orderly"))


def test_only_the_naive_reader_loses_events(tmp_path: Path) -> None:
    result = bench(tmp_path, "loss", "--events", "1600", "--hold-ms", "100")
    assert result["committed"] == result["projected"] == 1_600
    assert result["lost"] == 0
    assert result["naive_lost"] > 0
    assert result["kills"] > 0


# What it counts is also tested by tests/integration/api/test_load_shedding.py and test_outages.py.
@pytest.mark.soak
def test_load_rejects_excess_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    result = bench(tmp_path, "load", "--seconds", "1", "--rounds", "1")
    for kind in ("commands", "reads", "lists"):
        levels = result[kind]["levels"]
        assert [level["share"] for level in levels] == [0.25, 0.5, 1.0, 2.0]
        for level in levels:
            assert level["accepted"] > 0
            assert level["accepted"] + level["rejected"] == level["offered"]
    assert result["acknowledged"] > 0
    assert result["lost"] == 0
    assert result["outages"].keys() == {"stopped", "killed"}
    for outage in result["outages"].values():
        assert outage["status"] == 503
        assert outage["reads"] > 0


@pytest.mark.soak
def test_webhooks_loses_nothing_and_measures_every_event(tmp_path: Path) -> None:
    kills = ("--endpoints", "8", "--events", "800", "--seconds", "4")
    small = ("--rate", "10", "--turn-seconds", "2", "--rounds", "1", "--backlog", "500")
    result = bench(tmp_path, "webhooks", *kills, *small, "--baseline-events", "300")

    assert result["kills"]["events"] == 800 and result["kills"]["kills"] >= 4
    assert result["kills"]["lost"] == result["kills"]["out_of_order"] == 0
    assert result["catch_up"]["lost"] == 0 and result["catch_up"]["ratio"] > 0
    assert len(result["catch_up"]["resident_mb"]) == 4
    for turn in ("good", "beside_bad"):
        for stage in result["delays"][turn].values():
            assert 0 < stage["p50"] <= stage["p99"]


@pytest.mark.soak
def test_power_cut_measures_both_modes_alike(tmp_path: Path) -> None:
    small = ("--commands", "40", "--rounds", "2", "--clients", "3")
    result = bench(tmp_path, "power-cut", *small)

    for clients in ("many_clients", "one_client"):
        for mode in ("durable", "not durable"):
            assert result[clients][mode]["requests"] == 40
            assert result[clients][mode]["latency_ms"]["p50"] > 0
    assert len(result["ratio_rounds"]) == 2
    assert result["ratio"] > 0


@pytest.mark.soak
def test_standby_measures_keys_and_events_alike(tmp_path: Path) -> None:
    result = bench(tmp_path, "standby", "--commits", "20", "--rounds", "2")

    for name in ("key", "event"):
        for mode in ("alone", "standby"):
            assert result["commits_ms"][name][mode]["p50"] > 0
        assert result["ratio"][name] > 0


@pytest.mark.soak
def test_shoppers_counts_every_process_of_both_systems(tmp_path: Path) -> None:
    result = bench(tmp_path, "shoppers", "--baskets", "20", "40")

    assert [load["baskets"] for load in result["loads"]] == [20, 40]
    for load in result["loads"]:
        assert load["capacity"] > 0
        assert load["p99_to_unloaded"] > 0
        assert [level["share"] for level in load["levels"]] == [0.5, 0.8]
        for level in load["levels"]:
            orderly, baseline = level["orderly"], level["baseline"]
            assert orderly["per_second"] == baseline["per_second"]
            assert 0 < orderly["p50"] <= orderly["p99"] <= orderly["p99.9"]
            ours = {"api", "worker", "projector", "deliverer", "simulators"}
            servers = {"temporal", "postgres", "load generator"}
            assert orderly["cpu_ms"].keys() == ours | servers
            assert baseline["cpu_ms"].keys() == {"worker", "temporal", "load generator"}
            ratio = sum(baseline["cpu_ms"].values()) / sum(orderly["cpu_ms"].values())
            assert level["ratio_by_cpu_time"] == pytest.approx(ratio, abs=0.001)


@pytest.mark.soak
def test_bursts_leave_no_task_waiting(tmp_path: Path) -> None:
    small = ("--baskets", "60", "--rounds", "2", "--behind", "20", "--seconds", "2")
    result = bench(tmp_path, "bursts", *small)

    assert [burst["baskets"] for burst in result["bursts"]] == [60, 60]
    assert all(0 < burst["p50"] <= burst["slowest"] for burst in result["bursts"])
    assert all(0 < seconds < 4 for seconds in result["longest_wait_s"].values())
    fulfilment = result["fulfilment"]
    for load in (fulfilment["alone"], fulfilment["with_fulfilment"]):
        assert load["requests"] > 0
        assert load["rejected"] == 0
    assert fulfilment["ratio_p99"] > 0


@pytest.mark.soak
def test_cold_counts_every_command_of_orders_in_no_cache(tmp_path: Path) -> None:
    small = ("--rounds", "1", "--most", "100", "--baskets", "20", "--load", "400")
    result = bench(tmp_path, "cold", *small)

    counts = result["counts"]
    assert counts["acknowledged"] == counts["published"] > 0
    usual, load = result["usual_orders"], result["under_load"]
    assert result["latency_ms"].keys() == {"10", "100", "warm"}
    for latency in (*result["latency_ms"].values(), *usual["latency_ms"].values(), *load.values()):
        assert 0 < latency["p50"] <= latency["p99"]
    assert [load[kind]["commands"] for kind in ("short orders", "long orders")] == [400, 400]
    assert load["long orders"]["runs_continued"] > load["short orders"]["runs_continued"]
    for orders in (usual, result["sdk_alone"]):
        assert all(
            cpu.keys() == {"worker", "temporal"} for cpu in orders["cpu_ms_per_command"].values()
        )
        assert orders["history_events"] > 0
        assert orders["ratio_by_cpu_time"] > 0


@pytest.mark.soak
def test_cached_orders_measures_both_kinds(tmp_path: Path) -> None:
    result = bench(tmp_path, "cached-orders", "--orders", "50")

    assert result["kinds"].keys() == {"draft", "confirmed"}
    for kind in result["kinds"].values():
        assert all(kind[name] > 0 for name in ("kb_each", "objects_each", "pause_ms"))


@pytest.mark.soak
def test_peers_do_the_same_job(tmp_path: Path) -> None:
    small = ("--commands", "40", "--rounds", "2", "--clients", "3", "--orders", "10")
    result = bench(tmp_path, "peers", *small, "--processes", "2")

    for counts in result["counts"].values():
        assert counts["acknowledged"] == counts["published"] == counts["projected"] > 0
    one, two, sdk = "DBOS, one process", "DBOS, 2 processes", "Temporal's SDK alone"
    for pattern in ("warm", "shoppers"):
        assert result["patterns"][f"{pattern}, one client"].keys() == {"orderly", one, sdk}
        assert result["patterns"][f"{pattern}, 3 clients"].keys() == {"orderly", one, two, sdk}
    for systems in result["patterns"].values():
        assert len({system["requests"] for system in systems.values()}) == 1
        for system in systems.values():
            assert len(system["ratio_rounds"]) == 2
            assert system["ratio"] > 0
            assert system["ratio_by_cpu_time"] > 0


@pytest.mark.soak
def test_costs_counts_what_each_kind_of_work_uses(tmp_path: Path) -> None:
    result = bench(tmp_path, "costs", "--orders", "5", "--clients", "3")

    costs = result["costs"]
    # One event each. A basket has more: it is opened, filled and placed, and each step adds some.
    assert costs["opened"]["log rows"] == pytest.approx(1)
    assert costs["item added"]["log rows"] == pytest.approx(1)
    assert costs["basket booked"]["log rows"] > 3
    # The start, the update and its publishing; updates that come together are published together.
    assert costs["opened"]["Temporal actions"] >= 3
    assert 1 < costs["item added"]["Temporal actions"] < 3
    for kind in costs.values():
        assert kind["Temporal history events"] > kind["Temporal actions"]
        assert kind["Temporal state transitions"] > 0
        assert kind["Postgres WAL bytes"] > 0
    assert result["rates"].keys() == {"10", "200", "1000", "10000"}


@pytest.mark.soak
def test_drain_loses_nothing(tmp_path: Path) -> None:
    result = bench(tmp_path, "drain", "--rounds", "1", "--clients", "4")

    assert result["seconds"].keys() == {"api", "worker", "projector", "deliverer"}
    assert all(0 < seconds < 30 for [seconds] in result["seconds"].values())
    assert result["acknowledged"] == 5 * result["orders"] > 0
    assert result["events"] > result["acknowledged"], "steps have events, too"
    assert set(result["lost"].values()) == {0}


@pytest.mark.soak
def test_metrics_cost_compares_both_stacks(tmp_path: Path) -> None:
    small = ("--commands", "40", "--rounds", "2", "--clients", "3")
    result = bench(tmp_path, "metrics-cost", *small)

    assert [result[name]["requests"] for name in ("metrics", "without")] == [40, 40]
    assert result["ratio"] > 0 and result["ratio_by_cpu_time"] > 0


@pytest.mark.soak
def test_rehearsal_decides_every_order_as_it_was(tmp_path: Path) -> None:
    result = bench(tmp_path, "rehearsal", "--orders", "80", "--baskets", "20")

    assert result["orders"] == 80 and result["decisions"] > 80
    assert len(result["resident_mb"]) == 4
    assert all(mb > 0 for each in result["resident_mb"] for mb in each.values())
