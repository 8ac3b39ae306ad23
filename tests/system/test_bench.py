"""The bench runs, and what it says it has measured has really happened. Speeds are not tested."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from readside.order_view.queries import SORTS
from tests.support.paths import ROOT

PAGES = ("first", "deep")
SIDES = ("yardstick", "orderly", "baskets")

Json = dict[str, Any]


def bench(tmp_path: Path, *options: str) -> Json:
    """The result of a tiny bench, which has found nothing wrong."""
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
    assert not result.get("wrong")
    return result


def test_a_tiny_bench_accounts_for_every_command(tmp_path: Path) -> None:
    result = bench(tmp_path, "--commands", "40", "--rounds", "2", "--clients", "3")

    counts = result["counts"]
    assert counts["acknowledged"] == counts["published"] == counts["projected"]
    # Each side does one round more, to warm up.
    assert counts["yardstick_activities"] == 3 * 20
    assert counts["acknowledged"] == 3 * 20

    assert [result[side]["requests"] for side in SIDES] == [40, 40, 4]
    for side in SIDES:
        assert result[side]["per_second"] > 0
        assert 0 < result[side]["latency_ms"]["p50"] <= result[side]["latency_ms"]["p99"]
    assert len(result["ratio_rounds"]) == 2
    assert all(result[name] > 0 for name in ("ratio", "ratio_acknowledged", "ratio_by_cpu_time"))
    processes = {"api", "worker", "projector", "temporal", "postgres", "load generator"}
    assert processes <= set(result["orderly"]["cpu_ms_per_request"])
    assert result["machine"]["temporal_server"]


def test_catching_up_makes_the_rows_that_sql_and_pyeventsourcing_make(tmp_path: Path) -> None:
    result = bench(tmp_path, "catch-up", "--events", "1200", "--theirs", "300", "--rounds", "1")
    assert set(result["per_second"]) == {"catch_up", "rebuild", "by_two", "pyeventsourcing", "sql"}
    for ours in ("catch_up", "rebuild"):
        assert result["to_pyeventsourcing"][ours] > 0
        assert result["to_sql"][ours] > 0
        assert len(result["resident_mb"][ours]) == 4


def test_freshness_is_that_of_every_event(tmp_path: Path) -> None:
    sizes = ("--rate", "10", "--seconds", "2", "--rounds", "2")
    result = bench(tmp_path, "freshness", *sizes)
    assert result["events"] == 40
    for name in ("seen", "published", "projected", "pyeventsourcing"):
        assert 0 < result["ms"][name]["p50"] <= result["ms"][name]["p99"]
    assert all(len(ratios) == 2 for ratios in result["ratio_rounds"].values())


def test_lists_are_asked_for_by_every_filter_and_sort(tmp_path: Path) -> None:
    sizes = ("--few", "100", "--many", "300", "--samples", "3", "--rounds", "1")
    result = bench(tmp_path, "lists", *sizes)
    asked = {(page["filter"], page["sort"], page["page"]) for page in result["pages"]}
    assert len(asked) == len(result["pages"])
    everywhere = {(sign + sort, page) for sort in SORTS for sign in ("", "-") for page in PAGES}
    assert {(sort, page) for filter, sort, page in asked if filter == "all"} == everywhere
    assert result["worst_ratio"] == max(page["ratio"] for page in result["pages"])


def test_reads_compare_answers_that_are_the_same(tmp_path: Path) -> None:
    result = bench(tmp_path, "reads", "--orders", "30", "--rounds", "2", "--seconds", "1")
    assert len(result["ratio_rounds"]) == 2
    assert result["ratio"] > 0
    assert result["ratio_by_cpu_time"] > 0
    assert all(result[side]["requests"] > 0 for side in ("bare", "orderly"))


def test_only_the_naive_reader_loses_events(tmp_path: Path) -> None:
    result = bench(tmp_path, "loss", "--events", "1600", "--hold-ms", "100")
    assert result["committed"] == result["projected"] == 1_600
    assert result["lost"] == 0
    assert result["naive_lost"] > 0
    assert result["kills"] > 0


def test_what_is_too_much_is_shed_and_what_was_acknowledged_is_in_the_log(tmp_path: Path) -> None:
    result = bench(tmp_path, "load", "--seconds", "1", "--rounds", "1")
    for what in ("commands", "reads", "lists"):
        levels = result[what]["levels"]
        assert [level["part"] for level in levels] == [0.25, 0.5, 1.0, 2.0]
        for level in levels:
            assert level["accepted"] > 0
            assert level["accepted"] + level["shed"] == level["offered"]
    assert result["acknowledged"] > 0
    assert result["lost"] == 0
    assert result["away"].keys() == {"stopped", "killed"}
    for away in result["away"].values():
        assert away["status"] == 503
        assert away["reads"] > 0
