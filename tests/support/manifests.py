"""The manifests of deploy/kubernetes, and what they give to a process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from tests.support.paths import ROOT

FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("plain", "production")
OF_KUSTOMIZE = ("kustomization.yaml", "name-references.yaml")

Manifest = dict[str, Any]


def manifests() -> dict[str, Manifest]:
    """Every manifest as it is written, by its file and kind and name."""
    return {
        f"{file.relative_to(FOLDER)}: {one['kind']} {one['metadata']['name']}": one
        for file in sorted(FOLDER.rglob("*.yaml"))
        if file.name not in OF_KUSTOMIZE
        for one in yaml.safe_load_all(file.read_text())
    }


def settings_of(overlay: str) -> dict[str, str]:
    """The variables in the ConfigMap of an overlay: those of the base, and its own."""
    files = (FOLDER / "base", FOLDER / "overlays" / overlay)
    read = [yaml.safe_load((folder / "kustomization.yaml").read_text()) for folder in files]
    literals = [line for one in read for line in one["configMapGenerator"][0]["literals"]]
    return dict(line.split("=", 1) for line in literals)


@dataclass(frozen=True)
class Workload:
    """A manifest that starts a process of orderly."""

    name: str
    """Its component, such as api."""
    kind: str
    labels: Mapping[str, str]
    pod: Manifest

    @property
    def container(self) -> Manifest:
        (only,) = self.pod["containers"]
        found: Manifest = only
        return found

    @property
    def env(self) -> dict[str, str]:
        """The variables of this process alone."""
        return {one["name"]: one["value"] for one in self.container.get("env", [])}

    def mounted_files(self) -> Iterator[str]:
        """The paths of the files from Secrets whose keys are named."""
        mounts = {mount["name"]: mount["mountPath"] for mount in self.container["volumeMounts"]}
        for volume in self.pod["volumes"]:
            for item in volume.get("secret", {}).get("items", ()):
                yield f"{mounts[volume['name']]}/{item['path']}"


def workloads() -> dict[str, Workload]:
    """Every one, by its file and kind and name."""
    found = {}
    for where, manifest in manifests().items():
        template = manifest.get("spec", {}).get("template", {})
        if "containers" in template.get("spec", {}):
            labels = template["metadata"]["labels"]
            name = labels["app.kubernetes.io/component"]
            found[where] = Workload(name, manifest["kind"], labels, template["spec"])
    return found
