"""`orderly up` as a process: it serves, restarts what exits, stops cleanly and resumes."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]
import pytest

from tests.support.processes import run
from tests.support.up import WAIT_SECONDS, Up, orderly_up, until
from tests.support.webhook_signing import signed_headers

pytestmark = pytest.mark.xdist_group("stack")  # They share a server.

PROCESSES = ("api", "deliverer", "projector", "worker", "simulators", "temporal", "postgres")
# Certificates would take longer than a request, and a busy machine may take long for one.
FAST: Any = {"verify": False, "trust_env": False, "timeout": 60}
ORDERS_SYNCED = 5
BASKET = {
    "customer_id": "900",
    "currency": "USD",
    "lines": [{"sku": "1095275", "title": "Bagels", "quantity": 2, "unit_price": 50}],
    "place": True,
}


HAS_PROMETHEUS = shutil.which("prometheus") is not None


def run_rejected(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False
    )


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def is_free(data_dir: Path) -> bool:
    """Whether no process of a stack runs there: each holds this lock until it ends."""
    with (data_dir / "processes.lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def place_order(api_url: str, key: str) -> str:
    """Places an order, retrying until the API is available; returns its path, once readable."""
    placed = None

    def is_placed() -> bool:
        nonlocal placed
        with suppress(httpx.TransportError):
            placed = httpx.post(
                f"{api_url}/v1/orders", json=BASKET, headers={"Idempotency-Key": key}, **FAST
            )
        return placed is not None and placed.status_code < 500

    until(is_placed)
    assert placed is not None
    assert placed.status_code == 201, placed.text
    path = str(placed.headers["location"])
    until(lambda: can_read(f"{api_url}{path}"))
    return path


def can_read(url: str) -> bool:
    try:
        return httpx.get(url, **FAST).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="orderly-test-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    """A stack shared by the tests that do not end it."""
    options = ("--observability", "--prometheus-port", "0")
    with (
        tempfile.TemporaryDirectory(prefix="orderly-test-") as folder,
        Up(Path(folder), *options) as up,
    ):
        yield up
        up.assert_replays()


def test_info_file_has_all_addresses_when_the_stack_is_ready(up: Up) -> None:
    until(lambda: can_read(f"{up.info['api_url']}/readyz"))
    assert httpx.get(f"{up.info['api_url']}/docs", **FAST).status_code == 200
    assert httpx.get(up.info["console_url"], **FAST).status_code == 200
    assert httpx.get(up.info["temporal_ui_url"], **FAST).status_code == 200
    assert up.info["temporal_namespace"] == "default"
    assert up.info["task_queue"] == "orders"
    assert up.info["postgres_dsn"].startswith("postgresql://")
    assert ":" in up.info["temporal_address"]
    for service in ("payments", "stock", "shipping"):
        contract = httpx.get(f"{up.info['simulators_url']}/{service}/openapi.json", **FAST)
        assert contract.json()["info"]["title"].lower() == service
    expected = {*PROCESSES, "prometheus"} if HAS_PROMETHEUS else {*PROCESSES}
    assert up.pids.keys() == expected
    assert all(is_alive(pid) for pid in up.pids.values())


def test_every_process_has_an_admin_address_and_is_ready(up: Up) -> None:
    serves = {
        "api": {"commands", "reads"},
        "worker": {"commands"},
        "projector": {"reads"},
        "deliverer": {"webhooks"},
    }
    assert up.info["admin_urls"].keys() == serves.keys()
    for name, url in up.info["admin_urls"].items():
        ready = readiness_at(url)
        fine = {"ready": True, "reasons": []}
        assert {what for what in serves[name] if ready[what] == fine} == serves[name]
        assert httpx.get(f"{url}/healthz", **FAST).json() == {"status": "alive"}
        assert f'process="{name}"' in httpx.get(f"{url}/metrics", **FAST).text
    worker = readiness_at(up.info["admin_urls"]["worker"])
    assert (worker["task_queue"], worker["version"]) == ("orders", "unversioned")


def readiness_at(url: str) -> Any:
    """The readiness of a process, once it is ready."""
    seen: list[httpx.Response] = []

    def is_ready() -> bool:
        seen.append(httpx.get(f"{url}/readyz", **FAST))
        return seen[-1].status_code == 200

    until(is_ready)
    return seen[-1].json()


def test_prometheus_scrapes_every_process_with_the_alerts(up: Up) -> None:
    if not HAS_PROMETHEUS:
        assert "Prometheus   not installed (Debian: apt install prometheus)" in up.output
        assert "prometheus_url" not in up.info
        return
    url = up.info["prometheus_url"]
    assert f"Prometheus   {url}" in up.output

    def scraped() -> set[str]:
        found = httpx.get(f"{url}/api/v1/query", params={"query": "up == 1"}, **FAST).json()
        return {one["metric"]["job"] for one in found["data"]["result"]}

    until(lambda: scraped() == {f"orderly-{name}" for name in up.info["admin_urls"]})
    groups = httpx.get(f"{url}/api/v1/rules", **FAST).json()["data"]["groups"]
    assert "OrderlyApiDown" in {rule["name"] for group in groups for rule in group["rules"]}


def test_output_has_addresses_and_a_first_command(up: Up) -> None:
    assert up.info["console_url"] in up.output
    assert f"{up.info['api_url']}/docs" in up.output
    assert up.info["temporal_ui_url"] in up.output
    assert f"curl -i {up.info['api_url']}/v1/orders" in up.output


def test_simulators_and_api_share_a_secret_of_this_stack(up: Up) -> None:
    file = up.data_dir / "webhook.secret"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    body = b'{"type": "payout.sent", "timestamp": "2026-01-01T00:00:00Z", "data": {}}'
    json = {"Content-Type": "application/json"}
    signed = signed_headers(file.read_text(), "msg_1", time.time(), body) | json
    url = f"{up.info['api_url']}/v1/callbacks/payments"
    assert httpx.post(url, content=body, headers=signed, **FAST).json() == {"outcome": "ignored"}
    assert httpx.post(url, content=body, headers=json, **FAST).status_code == 401


@pytest.mark.parametrize("name", PROCESSES)
def test_killed_process_is_restarted_and_reported(up: Up, name: str) -> None:
    killed = up.pids[name]

    os.kill(killed, signal.SIGKILL)
    until(lambda: up.pids[name] != killed and is_alive(up.pids[name]))

    assert f"{name} (pid {killed}) was killed by signal 9; restarting" in " ".join(
        up.output.split()
    )
    place_order(up.info["api_url"], key=f"after the death of {name}")


def test_postgres_killed_while_it_creates_its_lock_file_starts_again(up: Up) -> None:
    killed = up.pids["postgres"]
    lock_file = up.data_dir / "postgres" / "postmaster.pid"

    os.truncate(lock_file, 0)
    os.kill(killed, signal.SIGKILL)
    until(lambda: up.pids["postgres"] != killed and is_alive(up.pids["postgres"]))

    place_order(up.info["api_url"], key="after a death in the middle of a start")
    assert lock_file.read_text().startswith(f"{up.pids['postgres']}\n")


def test_acknowledged_commands_are_on_the_disk(up: Up) -> None:
    """Temporal's SQLite syncs each commit: otherwise a power cut would lose the last ones."""
    temporal = up.pids["temporal"]
    assert "synchronous=FULL" in psutil.Process(temporal).cmdline()
    if shutil.which("strace") is None:
        return
    traced = ["strace", "-f", "-c", "-e", "trace=fsync,fdatasync", "-p", str(temporal)]
    with subprocess.Popen(traced, stderr=subprocess.PIPE, text=True) as strace:
        for number in range(ORDERS_SYNCED):
            place_order(up.info["api_url"], key=f"synced {number}")
        strace.send_signal(signal.SIGINT)
        counted = strace.communicate()[1]
    if "not permitted" in counted:
        return
    calls = [int(line.split()[3]) for line in counted.splitlines() if line.endswith("sync")]
    assert sum(calls) > 5 * ORDERS_SYNCED, "several for each, not one for all"


def test_data_directory_has_the_info_file(up: Up) -> None:
    assert json.loads((up.data_dir / "stack.json").read_text()) == up.info


def test_data_directory_in_use_is_rejected(up: Up) -> None:
    second = run_rejected(orderly_up(up.data_dir))

    assert second.returncode == 2
    assert second.stderr == (
        f"orderly: {up.data_dir.resolve()} is in use by another orderly up or demo.\n"
    )


def test_port_in_use_is_rejected(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = run_rejected([*orderly_up(folder / "data"), "--api-port", str(port)])

    assert ended.returncode == 2
    assert ended.stderr.startswith(f"orderly: Port {port} cannot be used")
    assert ended.stderr.count("\n") == 1


def test_data_survives_a_stop_a_power_cut_and_a_kill(folder: Path) -> None:
    """In a folder whose path is too long for a Unix socket."""
    folder /= "x" * 100
    with Up(folder) as first:
        path, pids = place_order(first.info["api_url"], key="before the stop"), first.pids
        assert first.end(signal.SIGTERM) == 0

    assert not any(is_alive(pid) for pid in pids.values())
    assert not first.info_file.exists()
    assert not (first.data_dir / "stack.json").exists()
    stops = [line.split()[0] for line in first.output.splitlines() if " stopped" in line]
    assert stops == list(PROCESSES)
    # After a power cut, a process other than Postgres may have the pid in this file.
    (folder / "data" / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n")

    with Up(folder) as killed:
        assert is_alive(killed.pids["postgres"])
        until(lambda: can_read(f"{killed.info['api_url']}{path}"))
        assert place_order(killed.info["api_url"], key="before the stop") == path
        path, pids = place_order(killed.info["api_url"], key="before the kill"), killed.pids
        killed.end(signal.SIGKILL)
    killed.info_file.unlink()  # The killed process could not remove it.

    with Up(folder) as following:
        until(lambda: not any(is_alive(pid) for pid in pids.values()))
        until(lambda: can_read(f"{following.info['api_url']}{path}"))
        following.assert_replays()
        assert following.end(signal.SIGINT) == 0


def test_failed_start_shows_the_log_and_leaves_nothing_running(folder: Path) -> None:
    database = folder / "data" / "postgres"
    database.mkdir(parents=True)
    (database / "PG_VERSION").write_text("18\n")

    ended = run_rejected(orderly_up(folder / "data"))

    assert ended.returncode == 1
    assert "postgres ended with exit code" in ended.stderr
    assert "postgresql.conf" in ended.stderr, "the end of its log says what is missing"
    assert "Traceback" not in ended.stderr
    assert is_free(folder / "data")


def test_ctrl_c_during_the_start_leaves_nothing_running(folder: Path) -> None:
    starting = Up(folder)
    until(lambda: (folder / "data" / "temporal.db").exists())

    assert starting.end(signal.SIGINT) == 0
    assert is_free(starting.data_dir)


@contextmanager
def placing_orders(api_url: str) -> Iterator[list[str]]:
    """Places orders, one after another; yields the paths of those that were acknowledged."""
    placed: list[str] = []
    stopped = threading.Event()

    def place() -> None:
        with httpx.Client(base_url=api_url, timeout=WAIT_SECONDS) as http:
            while not stopped.is_set():
                response = http.post("/v1/orders", json=BASKET)
                assert response.status_code == 201, response.text
                placed.append(str(response.headers["location"]))

    with ThreadPoolExecutor() as pool:
        placing = [pool.submit(place) for _ in range(2)]
        yield placed
        stopped.set()
        for each in placing:
            each.result()


def orderly(info: dict[str, Any], *command: str) -> subprocess.CompletedProcess[str]:
    return run(
        *command,
        ORDERLY_POSTGRES_DSN=info["postgres_dsn"],
        TEMPORAL_ADDRESS=info["temporal_address"],
    )


@pytest.mark.drill
@pytest.mark.soak
def test_stack_is_restored_from_a_backup_that_was_taken_under_load(up: Up, folder: Path) -> None:
    with placing_orders(up.info["api_url"]) as placed:
        until(lambda: len(placed) >= 5)
        before = list(placed)
        ended = run("backup", str(folder / "backup"), "--data-dir", str(up.data_dir))
    assert ended.returncode == 0, ended
    assert len(placed) > len(before)

    subprocess.run(["cp", "-R", folder / "backup", folder / "data"], check=True)
    with Up(folder, "--servers-only") as servers:
        assert sorted(servers.pids) == ["postgres", "temporal"]
        assert f"export ORDERLY_POSTGRES_DSN='{servers.info['postgres_dsn']}'" in servers.output
        different = orderly(servers.info, "restore", "status")
        assert different.returncode == 1, different
        assert "missing in the log               0 orders" in different.stdout
        repaired = orderly(servers.info, "restore", "apply", "--yes")
        assert (repaired.returncode, repaired.stderr) == (0, ""), repaired

    with Up(folder) as restored:
        api_url = restored.info["api_url"]
        assert [path for path in before if not can_read(f"{api_url}{path}")] == []
        place_order(api_url, key="after the restore")
        verified = orderly(restored.info, "verify")
        assert (verified.returncode, ": 0 differences" in verified.stdout) == (0, True), verified
