"""Prometheus beside the stack, with the alerts of deploy/prometheus, where it is installed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dev.stack.programs import ROOT
from dev.stack.readiness import Check, responds
from dev.stack.supervisor import Program

RULES = ROOT / "deploy" / "prometheus" / "orderly.rules.yml"
MISSING = "not installed (Debian: apt install prometheus): metrics are not kept, alerts do not fire"
SCRAPE_S = 5
RETENTION = "7d"


def is_installed() -> bool:
    """Whether there is a Prometheus to run."""
    return shutil.which("prometheus") is not None


def prometheus(data_dir: Path, logs: Path, admin_urls: Mapping[str, str], url: str) -> Program:
    """Prometheus at `url`, which scrapes these admin addresses, by the name of the process."""
    folder = data_dir / "prometheus"
    folder.mkdir(exist_ok=True)
    file = folder / "prometheus.yml"
    file.write_text(json.dumps(configuration(admin_urls), indent=2) + "\n")  # JSON is YAML.
    command: list[str | Path] = ["prometheus", f"--config.file={file}"]
    command += [f"--storage.tsdb.path={folder / 'data'}"]
    command += [f"--storage.tsdb.retention.time={RETENTION}"]
    command += [f"--web.listen-address={urlsplit(url).netloc}"]
    command += ["--enable-feature=exemplar-storage"]
    return Program("prometheus", command, logs / "prometheus.log", os.environ)


def configuration(admin_urls: Mapping[str, str]) -> dict[str, Any]:
    """Its configuration; jobs are called as in deploy/prometheus, which the alerts expect."""
    jobs: dict[str, list[str]] = {}
    for name, url in admin_urls.items():
        jobs.setdefault(f"orderly-{name.split()[0]}", []).append(urlsplit(url).netloc)
    every = f"{SCRAPE_S}s"
    return {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": [str(RULES)],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": targets}]}
            for job, targets in jobs.items()
        ],
    }


def is_ready(url: str) -> Check:
    """The check whether the Prometheus at `url` is ready."""
    return lambda _: responds(f"{url}/-/ready")
