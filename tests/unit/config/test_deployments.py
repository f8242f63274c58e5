"""The settings in the compose file and in the manifests for Kubernetes are valid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its types are another package

from gateway.config import load


OPS = Path(__file__).parents[3] / "ops"
MANIFESTS = [OPS / "kubernetes" / name / "deployment.yaml" for name in ("base", "sidecar")]
COMPOSE = OPS / "container/compose.yml"


def read(path: Path) -> Any:  # Any: YAML
    return yaml.safe_load(path.read_text())


def container(manifest: Path) -> Any:  # Any: YAML
    containers = read(manifest)["spec"]["template"]["spec"]["containers"]
    return next(one for one in containers if one["name"] == "gateway")


def environment(path: Path) -> dict[str, str]:
    if path == COMPOSE:
        return dict(read(path)["services"]["gateway"]["environment"])
    return {one["name"]: one["value"] for one in container(path)["env"]}


@pytest.mark.parametrize("path", [COMPOSE, *MANIFESTS], ids=lambda path: path.parent.name)
def test_the_environment_is_a_valid_configuration_with_authentication(path: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a secret for tests, of more than 32 bytes")
    found = environment(path) | {"GATEWAY_AUTH_SECRET_FILE": str(tmp_path / "secret")}

    assert load(None, found, {}).auth.required


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.parent.name)
def test_a_full_gateway_is_alive(manifest: Path) -> None:
    assert "/healthz" == container(manifest)["livenessProbe"]["httpGet"]["path"]


def test_a_full_sidecar_leaves_its_pod_ready() -> None:
    assert "/healthz" == container(OPS / "kubernetes/sidecar/deployment.yaml")["readinessProbe"]["httpGet"]["path"]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.parent.name)
def test_the_pod_is_given_the_time_that_the_gateway_takes_to_close(manifest: Path) -> None:
    spec = read(manifest)["spec"]["template"]["spec"]

    assert spec["terminationGracePeriodSeconds"] >= 5 + load(None, {}, {}).shutdown.timeout_seconds + 5
    assert spec["securityContext"]["runAsNonRoot"]


def test_every_file_that_the_compose_file_mounts_exists() -> None:
    mounted = [one.split(":")[0] for each in read(COMPOSE)["services"].values() for one in each.get("volumes", [])]

    made = {"./gateway.token"}
    assert [] == [one for one in mounted if one not in made and not (COMPOSE.parent / one).exists()]
