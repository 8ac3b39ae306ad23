"""The machine of a measurement, and its processor time by process."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from temporalio.api.workflowservice.v1 import GetSystemInfoRequest
from temporalio.client import Client

LOAD_GENERATOR = "load generator"
REST = "rest of the machine"
IDLE = "idle"


def description() -> dict[str, Any]:
    """Hardware and software of this machine."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


async def temporal(address: str) -> dict[str, Any]:
    """The versions of Temporal."""
    client = await Client.connect(address)
    server = await client.workflow_service.get_system_info(GetSystemInfoRequest())
    return {
        "temporalio": importlib.metadata.version("temporalio"),
        "temporal_server": server.server_version,
    }


def _cpu_model() -> str:
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


def cpu_reader(pids: Mapping[str, int]) -> Callable[[], dict[str, float]]:
    """Returns a function that reads the processor seconds used so far, by process."""
    processes = {name: psutil.Process(pid) for name, pid in pids.items()}

    def read() -> dict[str, float]:
        known = {name: _with_children(process) for name, process in processes.items()}
        known[LOAD_GENERATOR] = _seconds(psutil.Process())
        whole = psutil.cpu_times()
        busy = sum(getattr(whole, kind, 0.0) for kind in ("user", "system", "irq", "softirq"))
        return {**known, REST: busy - sum(known.values()), IDLE: whole.idle}

    return read


def _with_children(process: psutil.Process) -> float:
    """The seconds of a process and of all its children, also of ended ones."""
    seconds = 0.0
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            seconds += _seconds(one) + times.children_user + times.children_system
    return seconds


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
