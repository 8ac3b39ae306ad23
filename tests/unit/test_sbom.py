"""The image's bill of materials has each locked package, and is valid CycloneDX."""

from __future__ import annotations

import json
import re

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from requirements.sbom import LOCK, bill_of


def test_bill_has_each_locked_package_with_its_hashes() -> None:
    lock = LOCK.read_text()
    bill = bill_of(lock)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None

    listed = {c["purl"]: len(c["hashes"]) for c in json.loads(bill)["components"]}
    locked = re.findall(r"^(\S+)==(\S+)", lock, re.MULTILINE)
    assert len(locked) > 30
    assert listed.keys() == {f"pkg:pypi/{name}@{version}" for name, version in locked}
    assert sum(listed.values()) == len(set(re.findall(r"--hash=\S+", lock)))
