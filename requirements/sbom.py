"""Writes the image's software bill of materials, from the lock file: `make sbom`.

It is in CycloneDX's JSON, with the hashes that pip requires. The packages of the base image are not
in it: those are in that image's own.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import version
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

LOCK = Path(__file__).with_name("runtime.txt")
_PACKAGE = re.compile(r"^(?P<name>[\w.-]+)==(?P<version>\S+)(?P<more>(?:.*\\\n)*.*)", re.MULTILINE)
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def bill_of(lock: str) -> str:
    """The bill of all packages of a lock file."""
    bom = Bom()
    ours = Component(name="orderly", version=version("orderly"), type=ComponentType.APPLICATION)
    bom.metadata.component = ours
    packages = [
        _component(*found.group("name", "version", "more")) for found in _PACKAGE.finditer(lock)
    ]
    for package in packages:
        bom.components.add(package)
    bom.register_dependency(ours, packages)
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def _component(name: str, version: str, more: str) -> Component:
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        purl=PackageURL("pypi", name=name, version=version),
        bom_ref=f"{name}=={version}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=one) for one in _HASH.findall(more)],
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(bill_of(LOCK.read_text()))
    print(sys.argv[1])
