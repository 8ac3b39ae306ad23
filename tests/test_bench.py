"""The bench runs, and what it says it has measured has really happened. Speeds are not tested."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SIDES = ("yardstick", "orderly", "baskets")


def test_a_tiny_bench_accounts_for_every_command(tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    options = ["--commands", "40", "--rounds", "2", "--clients", "3", "--json", str(file)]
    bench = subprocess.run(
        [sys.executable, "-m", "bench", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert bench.returncode == 0, bench.stdout + bench.stderr
    assert bench.stdout.splitlines()[-1] == str(file)
    result = json.loads(file.read_text())

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
    assert result["machine"]["cores"] > 0
    assert result["machine"]["temporal_server"]
