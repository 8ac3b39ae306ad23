"""The manifests of deploy/kubernetes are valid, and fit the settings and commands of orderly."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import typer.main
import yaml
from temporalio.envconfig import ClientConfigProfile

from cli.main import app
from dev.monitoring import files
from settings import (
    NAMES,
    NatsSettings,
    Settings,
    api_from_environment,
    from_environment,
)
from tests.support.custom_resources import contained, is_custom, validate_custom
from tests.support.environment import reading
from tests.support.manifests import (
    FOLDER,
    OVERLAYS,
    Manifest,
    Workload,
    manifests,
    settings_of,
    workloads,
)
from tests.support.paths import ROOT
from workflows.release_gate import RELEASE_GATE, GateInput

KUBERNETES = "1.34"
MANIFESTS = manifests()
WORKLOADS = workloads()
EACH = pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS.keys())
SECRETS = {
    "postgres-dsn": "postgresql://orderly:secret@db.example/orderly?sslmode=verify-full",
    "webhook-secret": "whsec_b3JkZXJseS1vbi1sb29wYmFjay1hbG9uZQ==",
    "endpoint-key": "b3JkZXJseS1vbi1sb29wYmFjay1hbG9uZS1vcmRlcmw=",
    "nats.creds": "credentials",
}


def validate(manifest: Manifest) -> None:
    """Raises a ValidationError unless the API server would accept it."""
    if is_custom(manifest):
        validate_custom(manifest)
        for part in contained(manifest):
            kubernetes_validate.validate(part, KUBERNETES, strict=True)
    else:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_every_process_of_orderly_has_a_manifest() -> None:
    processes = {"api", "worker", "projector", "deliverer", "relay", "migrate"}
    assert {workload.name for workload in WORKLOADS.values()} == processes
    kinds = [workload.kind for workload in WORKLOADS.values() if workload.name == "worker"]
    assert sorted(kinds) == ["Deployment", "WorkerDeployment"]


def test_manifests_are_valid() -> None:
    for where, manifest in MANIFESTS.items():
        try:
            validate(manifest)
        except jsonschema.ValidationError as error:
            pytest.fail(f"{where}: {error.json_path}: {error.message}")


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("rollout.strategy", "Gradual"),
        ("rollout.steps", None),
        ("rollout.gate.workflow", "ReleaseGate"),
        ("workerOptions.connectionRef", None),
        ("template.spec.enableServiceLink", False),
    ],
)
def test_wrong_field_of_a_worker_deployment_is_found(path: str, wrong: Any) -> None:
    (found,) = (one for one in manifests().values() if one["kind"] == "WorkerDeployment")
    *parents, name = path.split(".")
    parent = found["spec"]
    for each in parents:
        parent = parent[each]
    parent[name] = wrong
    if wrong is None:
        del parent[name]
    with pytest.raises(jsonschema.ValidationError):
        validate(found)


@EACH
def test_pods_run_as_compose_runs_them(workload: Workload) -> None:
    pod, container = workload.pod, workload.container
    assert pod["enableServiceLinks"] is False, "links would set variables such as ORDERLY_API_PORT"
    assert pod["automountServiceAccountToken"] is False
    security = pod["securityContext"]
    assert security["runAsNonRoot"] and security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert f"--uid {security['runAsUser']} " in (ROOT / "Dockerfile").read_text()
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"] == "512Mi"
    assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]


@EACH
def test_commands_are_those_of_the_command_line(workload: Workload) -> None:
    program, *names = workload.container["command"]
    assert program == "orderly"
    command: Any = typer.main.get_command(app)
    for name in names:
        command = command.commands[name]
    assert not hasattr(command, "commands"), "a group of commands runs none"


@EACH
def test_processes_are_probed_on_their_admin_address(workload: Workload) -> None:
    container = workload.container
    if workload.name == "migrate":
        assert "livenessProbe" not in container  # It ends.
        return
    port = int(settings_of("plain")["ORDERLY_ADMIN_PORT"])
    assert {"name": "admin", "containerPort": port} in container["ports"]
    alive = {"path": "/healthz", "port": "admin"}
    assert container["startupProbe"]["httpGet"] == container["livenessProbe"]["httpGet"] == alive
    ready = container["readinessProbe"]["httpGet"]
    expected = ("/healthz", "http") if workload.name == "api" else ("/readyz", "admin")
    assert (ready["path"], ready["port"]) == expected


@EACH
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_variables_are_settings_that_the_process_accepts(
    workload: Workload, overlay: str, tmp_path: Path
) -> None:
    variables = settings_of(overlay) | workload.env
    ours = {name for name in variables if not name.startswith("TEMPORAL_")}
    assert ours <= NAMES
    files = write_files(workload, tmp_path)
    given = {name: files.get(value, value) for name, value in variables.items()}

    load = api_from_environment if workload.name == "api" else lambda: from_environment(Settings)
    settings = reading(given, load)
    assert settings.postgres_dsn == SECRETS["postgres-dsn"]
    assert settings.admin_host == settings.api_host == "0.0.0.0"
    if workload.name == "api":
        assert settings.tokens and settings.webhook_secret and settings.endpoint_key
    if workload.name == "deliverer":
        assert settings.endpoint_key
    if workload.name == "relay":
        assert reading(given, lambda: from_environment(NatsSettings)).has_tls


def write_files(workload: Workload, folder: Path) -> dict[str, str]:
    """Writes what the Secret has for this process; the paths in the pod, and those here."""
    written = {}
    for path in workload.mounted_files():
        file = folder / Path(path).name
        file.write_text(SECRETS[file.name] + "\n")
        written[path] = str(file)
    return written


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_temporal_variables_are_read_by_its_sdk(overlay: str) -> None:
    given = {k: v for k, v in settings_of(overlay).items() if k.startswith("TEMPORAL_")}
    assert "TEMPORAL_ADDRESS" in given

    def profile(variables: dict[str, str]) -> object:
        loaded = ClientConfigProfile.load(disable_file=True, override_env_vars=variables)
        return loaded.to_dict()

    for name in given:
        others = {other: value for other, value in given.items() if other != name}
        # Certificates switch TLS on by themselves.
        assert name == "TEMPORAL_TLS" or profile(others) != profile(given), f"{name} is not read"


def test_gate_is_the_one_that_workers_serve() -> None:
    (found,) = (one for one in MANIFESTS.values() if one["kind"] == "WorkerDeployment")
    gate = found["spec"]["rollout"]["gate"]
    assert gate["workflowType"] == RELEASE_GATE
    assert GateInput.model_validate(gate["input"]).sample > 0
    ramps = [step["rampPercentage"] for step in found["spec"]["rollout"]["steps"]]
    assert ramps == sorted(set(ramps))


def test_disruption_budgets_and_autoscalers_are_of_processes_that_exist() -> None:
    labels = [workload.labels for workload in WORKLOADS.values()]
    budgets = [one for one in MANIFESTS.values() if one["kind"] == "PodDisruptionBudget"]
    for budget in budgets:
        assert budget["spec"]["selector"]["matchLabels"] in labels
    processes = {workload.name for workload in WORKLOADS.values()} - {"migrate"}
    assert {one["metadata"]["name"] for one in budgets} == {f"orderly-{name}" for name in processes}
    for where, one in MANIFESTS.items():
        if one["kind"] == "HorizontalPodAutoscaler":
            name = one["spec"]["scaleTargetRef"]["name"]
            (target,) = (m for w, m in MANIFESTS.items() if w.endswith(f": Deployment {name}"))
            assert "replicas" not in target["spec"], f"{where} sets them"


def test_network_policies_allow_what_each_process_needs() -> None:
    policies = {
        one["metadata"]["name"]: one["spec"]
        for one in MANIFESTS.values()
        if one["kind"] == "NetworkPolicy"
    }
    assert policies["orderly"]["policyTypes"] == ["Ingress", "Egress"]

    def out(name: str) -> set[int]:
        rules = policies["orderly"]["egress"] + policies.get(name, {"egress": []})["egress"]
        return {port["port"] for rule in rules for port in rule["ports"]}

    everyone = {53, 5432, 4317, 4318}
    assert out("orderly-projector") == out("orderly-migrate") == everyone
    assert out("orderly-api") == out("orderly-worker") == everyone | {7233, 443}
    assert out("orderly-deliverer") == everyone | {443}
    assert out("orderly-relay") == everyone | {4222}


def test_pod_monitor_gives_the_job_names_of_the_alerts() -> None:
    (monitor,) = (one for one in MANIFESTS.values() if one["kind"] == "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    (relabeling,) = endpoint["relabelings"]
    assert relabeling["targetLabel"] == "job" and endpoint["port"] == "admin"
    jobs = {
        relabeling["replacement"].replace("$1", workload.name)
        for workload in WORKLOADS.values()
        if workload.name != "migrate"
    }
    scraped = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    assert {config["job_name"] for config in scraped["scrape_configs"]} <= jobs


def test_generated_files_are_up_to_date() -> None:
    stale = [str(file) for file, text in files.generated().items() if file.read_text() != text]
    assert stale == [], "run `make monitoring`"


def test_alerts_are_the_same_for_the_operator() -> None:
    rule = yaml.safe_load(files.PROMETHEUS_RULE.read_text())
    assert rule["spec"] == yaml.safe_load(files.RULES.read_text())


@pytest.fixture(scope="module")
def rendered() -> dict[str, list[Manifest]]:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed: kustomize does not render the overlays")
    return {
        overlay: list(yaml.safe_load_all(kustomize(FOLDER / "overlays" / overlay)))
        for overlay in OVERLAYS
    }


def kustomize(folder: Path) -> str:
    command = ["kubectl", "kustomize", str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_kustomize_renders_valid_overlays(rendered: dict[str, list[Manifest]]) -> None:
    for manifest in rendered["production"]:
        validate(manifest)
    assert {one["metadata"]["namespace"] for one in rendered["plain"]} == {"orderly"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_rendered_pods_have_image_and_settings(
    rendered: dict[str, list[Manifest]], overlay: str
) -> None:
    (settings,) = (one for one in rendered[overlay] if one["kind"] == "ConfigMap")
    assert settings["data"] == settings_of(overlay)
    pods = [pod for one in rendered[overlay] for pod in pods_of(one)]
    assert len(pods) == {"plain": 5, "production": 6}[overlay]
    for pod in pods:
        (container,) = pod["containers"]
        assert re.fullmatch(r"registry\.example/orderly:\d.*", container["image"])
        (source,) = container["envFrom"]
        assert source["configMapRef"]["name"] == settings["metadata"]["name"]


def pods_of(manifest: Manifest) -> Iterator[Manifest]:
    template = manifest.get("spec", {}).get("template", {})
    if "containers" in template.get("spec", {}):
        yield template["spec"]


def test_controller_connects_where_the_processes_do(rendered: dict[str, list[Manifest]]) -> None:
    by_kind = {one["kind"]: one for one in rendered["production"]}
    settings = settings_of("production")
    connection, workers = by_kind["Connection"], by_kind["WorkerDeployment"]
    assert connection["spec"]["hostPort"] == settings["TEMPORAL_ADDRESS"]
    options = workers["spec"]["workerOptions"]
    assert options["temporalNamespace"] == settings["TEMPORAL_NAMESPACE"]
    assert options["connectionRef"]["name"] == connection["metadata"]["name"]


DEPLOY = (ROOT / "docs" / "deploy.md").read_text()


def test_page_names_only_settings_commands_and_parts_that_exist() -> None:
    named = set(re.findall(r"`(?:ORDERLY|NATS)_\w+`", DEPLOY))
    assert {name.strip("`") for name in named} <= NAMES
    for words in re.findall(r"\borderly ([a-z][a-z-]+(?: [a-z]+)?)", " ".join(code(DEPLOY))):
        command: Any = typer.main.get_command(app)
        for word in words.split():
            if hasattr(command, "commands"):
                command = command.commands[word]
    for part in re.findall(r"^\| `((?:base|components|overlays)[^`]*)`", DEPLOY, re.MULTILINE):
        assert (FOLDER / part / "kustomization.yaml").is_file()
    components = {workload.name for workload in WORKLOADS.values()}
    steps = re.findall(r"^step '?([\w, ]+)'?$", DEPLOY, re.MULTILINE)
    applied = {name for step in steps for name in step.split(", ")}
    assert applied == components | {"settings", "network", "monitoring"}
    labelled = {
        one["metadata"]["labels"]["app.kubernetes.io/component"] for one in MANIFESTS.values()
    }
    assert labelled == applied - {"settings"}, "each step applies what has its label"


def code(page: str) -> Iterator[str]:
    """Everything in a page that is set as code."""
    yield from re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    yield from re.findall(r"(?<!`)`([^`\n]+)`(?!`)", page)
