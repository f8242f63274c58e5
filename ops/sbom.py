"""The SBOM of the gateway in CycloneDX: the components of an installed gateway, from the lock files.

These are the locked Python packages, and the JavaScript that is built into the dashboard.
"""

import base64
import json
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from ops import audit


ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements.lock"
DASHBOARD = ROOT / "clients/dashboard"
OWN = ("neurograph-gateway", "neurograph_client", "neurograph_publisher")
"""The Python packages of this project, as they are imported; the first is the one that is described."""
_LOCKED = re.compile(r"^(\S+==[^\\\n]+?) \\\n(?:    --hash=.*\n)+((?:    #.*\n)*)", re.MULTILINE)
_GROUPS = [f"{OWN[0]} (pyproject.toml:{group})" for group in ("run", "terminal")]

Json = dict[str, Any]  # Any: JSON


def document(*, version: str, time: int) -> str:
    """Return the document as JSON; the same lock files, version and time give the same text."""
    root = purl(OWN[0], version)
    own = [name.replace("_", "-") for name in OWN[1:]]
    bundled = list(_bundled())
    components = [*(_component(name, version, "MIT") for name in own), *_locked(), *bundled]
    needed = _needed()
    needed[OWN[0]] = [*(name for group in _GROUPS for name in needed.get(group, [])), *own]
    at = {one["name"]: one["bom-ref"] for one in components} | {OWN[0]: root}
    needs = {at[name]: sorted({at[one] for one in found}) for name, found in needed.items() if name in at}
    needs[root] = sorted({*needs[root], *(one["bom-ref"] for one in bundled)})
    found = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(time, UTC).isoformat().replace("+00:00", "Z"),
            "component": {**_component(OWN[0], version, "MIT"), "type": "application"},
        },
        "components": sorted(components, key=lambda one: str(one["bom-ref"])),
        "dependencies": [{"ref": ref, "dependsOn": needs.get(ref, [])} for ref in sorted(at.values())],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(found, sort_keys=True))
    return json.dumps({**found, "serialNumber": f"urn:uuid:{serial}"}, indent=2) + "\n"


def package_json(folder: Path, name: str = "package.json") -> Json:
    found: Json = json.loads((folder / name).read_text())
    return found


def purl(name: str, version: str, kind: str = "pypi") -> str:
    return f"pkg:{kind}/{name}@{version}"


def _component(name: str, version: str, licence: str | None, kind: str = "pypi") -> Json:
    found: Json = {"type": "library", "bom-ref": purl(name, version, kind), "name": name, "version": version}
    if licence is not None:
        is_expression = all(word in audit.ALLOWED for word in re.split(r" (?:AND|OR) ", licence.strip("()")))
        found["licenses"] = [{"expression": licence} if is_expression else {"license": {"name": licence}}]
    return found | {"purl": found["bom-ref"]}


def _locked() -> Iterator[Json]:
    """Yield the locked Python packages; those that not every platform needs are optional."""
    for text, _ in _LOCKED.findall(LOCK.read_text()):
        one = Requirement(text)
        version = str(one.specifier).removeprefix("==")
        found = _component(one.name, version, audit.licence(one.name, version))
        yield found | ({"scope": "optional"} if one.marker else {})


def _needed() -> dict[str, list[str]]:
    """Return the packages that each package needs, as the comments of the lock file name them the other way round."""
    needed: dict[str, list[str]] = {}
    for text, comments in _LOCKED.findall(LOCK.read_text()):
        for by in re.findall(r"^    #   (?:via )?(.+)$|^    # via (.+)$", comments, re.MULTILINE):
            needed.setdefault(by[0] or by[1], []).append(Requirement(text).name)
    return needed


def _bundled() -> Iterator[Json]:
    """Yield the npm packages that the dashboard's sources import, with the checksums of the lock file."""
    sources = "".join(path.read_text() for path in sorted((DASHBOARD / "src").rglob("*.ts*")))
    imported = {name.split("/")[0] for name in re.findall(r'from "([a-z][^"]*)"', sources)} - {"neurograph-client"}
    locked = package_json(DASHBOARD, "package-lock.json")["packages"]
    for name in sorted(imported):
        one = locked[f"node_modules/{name}"]
        algorithm, _, value = one["integrity"].partition("-")
        checksum = {"alg": f"SHA-{algorithm.removeprefix('sha')}", "content": base64.b64decode(value).hex()}
        yield _component(name, one["version"], one.get("license"), "npm") | {"hashes": [checksum]}
