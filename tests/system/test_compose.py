"""docker-compose.yml is valid and consistent, as far as that shows without running it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from settings import Settings, SimulatorSettings, TokenRules, api_from_environment, from_environment
from tests.support.environment import reading
from tests.support.paths import ROOT

ORDERLY = ("api", "worker", "projector", "migrate")


def compose(*arguments: str) -> str:
    command = [str(Path(sys.executable).with_name("docker-compose")), *arguments]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(compose("config", "--format", "json"))["services"]
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


def test_api_requires_tokens(services: dict[str, Any]) -> None:
    environment = services["api"]["environment"]
    tokens = reading(environment, api_from_environment).tokens
    assert tokens == TokenRules("orderly", "orderly", secret=environment["ORDERLY_TOKEN_SECRET"])


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


def test_ports_are_published_on_loopback_only(services: dict[str, Any]) -> None:
    published = {
        name: [port["host_ip"] for port in service["ports"]]
        for name, service in services.items()
        if "ports" in service
    }
    assert published == {"api": ["127.0.0.1"], "temporal-ui": ["127.0.0.1"]}


def test_every_other_image_has_a_version(services: dict[str, Any]) -> None:
    unversioned = [
        name
        for name, service in services.items()
        if "build" not in service and ":" not in service["image"]
    ]
    assert unversioned == []


def test_search_attributes_are_those_of_the_embedded_stack(services: dict[str, Any]) -> None:
    from dev.stack.programs import SEARCH_ATTRIBUTES

    script = " ".join(services["temporal-namespace"]["command"])
    for attribute in SEARCH_ATTRIBUTES:
        name, kind = attribute.split("=")
        assert f"--name {name} --type {kind}" in script
