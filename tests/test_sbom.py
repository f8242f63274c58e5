"""The SBOM names all that an installed gateway consists of."""

from __future__ import annotations

import json
import re

from ops import sbom


FOUND = json.loads(sbom.document(version="1.2.3", time=0))
NAMES = [one["name"] for one in FOUND["components"]]


def test_every_locked_package_is_a_component() -> None:
    locked = re.findall(r"^([\w.-]+)==", sbom.LOCK.read_text(), re.MULTILINE)

    assert len(locked) > 15
    assert {"neurograph-client", "neurograph-publisher", "preact", "uplot", *locked} == {*NAMES}


def test_every_component_is_needed_by_the_gateway_directly_or_not() -> None:
    needs = {one["ref"]: one["dependsOn"] for one in FOUND["dependencies"]}
    reached, left = set(), [FOUND["metadata"]["component"]["bom-ref"]]
    while left:
        if (ref := left.pop()) not in reached:
            reached.add(ref)
            left += needs[ref]

    assert {one["bom-ref"] for one in FOUND["components"]} == reached - {"pkg:pypi/neurograph-gateway@1.2.3"}


def test_every_component_has_a_licence() -> None:
    assert [] == [one["name"] for one in FOUND["components"] if "licenses" not in one and "scope" not in one]


def test_the_same_lock_files_give_the_same_document() -> None:
    assert sbom.document(version="1.2.3", time=0) == sbom.document(version="1.2.3", time=0)
    assert sbom.document(version="1.2.3", time=0) != sbom.document(version="1.2.4", time=0)
