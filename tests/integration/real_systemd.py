"""The unit as it is, with a real systemd, which runs in namespaces of its own: `make systemd`.

Not every machine lets a second systemd run: CI runs these tests where one can."""

from __future__ import annotations

import re
import shutil
import textwrap
from pathlib import Path

import pytest

from tests.support import tls
from tests.support.blocks import blocks
from tests.support.systemd import BIN, ROOT, manager, missing


pytestmark = pytest.mark.skipif(bool(missing()), reason=f"a systemd of its own {missing()}")

UNIT = ROOT / "ops" / "systemd" / "neurograph-gateway.service"
SERVICE = UNIT.name
READY = "http://127.0.0.1:8000/readyz"
"""In a network of its own."""


def to_upgrade_by_reload() -> str:
    """The settings for this in docs/operate.md."""
    found = re.search(
        r"^    \[Service\]\n(    .+\n)+", (UNIT.parents[2] / "docs" / "operate.md").read_text(), re.MULTILINE
    )
    assert found is not None
    return textwrap.dedent(found[0])


def test_systemd_runs_the_unit_and_follows_an_upgrade() -> None:
    """The unit as it is, with all that it forbids, and the configuration of the example."""
    with manager(UNIT.parent, (UNIT.parents[1] / "gateway.example.toml").read_text()) as systemd:
        systemd.run("systemctl", "start", SERVICE)
        first = systemd.show(SERVICE, "MainPID")
        systemd.run("systemctl", "reload", SERVICE)
        systemd.run(BIN / "gateway", "upgrade", "--set", "control_file=/run/neurograph-gateway/control")
        second = systemd.show(SERVICE, "MainPID")
        systemd.edit(SERVICE, to_upgrade_by_reload())
        systemd.run("systemctl", "reload-or-restart", SERVICE)
        third = systemd.show(SERVICE, "MainPID")
        ready = systemd.run("curl", "--silent", "--fail", "--retry", "60", "--retry-all-errors", READY)
        systemd.run("systemctl", "stop", SERVICE)

        assert '"ready":true' in ready
        assert 3 == len({first, second, third})
        assert {"reloaded": 1, "upgraded": 2} == {
            message: systemd.log().count(f'"message": "{message}"') for message in ("reloaded", "upgraded")
        }
        assert ("success", "0") == (systemd.show(SERVICE, "Result"), systemd.show(SERVICE, "NRestarts"))


def test_systemd_restarts_a_gateway_that_hangs_also_after_an_upgrade() -> None:
    with manager(UNIT.parent, (UNIT.parents[1] / "gateway.example.toml").read_text()) as systemd:
        systemd.run("systemctl", "start", SERVICE)
        systemd.run(BIN / "gateway", "upgrade", "--set", "control_file=/run/neurograph-gateway/control")
        systemd.run("kill", "-STOP", systemd.show(SERVICE, "MainPID"))
        systemd.run("sh", "-c", f"until [ $(systemctl show --value -p NRestarts {SERVICE}) = 1 ]; do sleep 0.1; done")
        ready = systemd.run("curl", "--silent", "--fail", "--retry", "60", "--retry-all-errors", READY)

    assert '"ready":true' in ready


@pytest.mark.skipif(not all(map(shutil.which, ("nginx", "prometheus"))), reason="needs nginx and prometheus")
def test_it_is_served_by_nginx_and_watched_by_prometheus_as_documented(tmp_path: Path) -> None:
    """The commands of docs/deploy.md, with a real nginx and a real Prometheus."""
    installing, *_, securing = (
        one.text for one in blocks() if one.document == "docs/deploy.md" and "/etc/neurograph-gateway" in one.text
    )
    certificate = tls.make(tmp_path)
    url = "https://localhost/gw"
    ask = f"curl --silent --cacert {certificate.cert} --header 'Host: gateway.example.org'"
    with manager(UNIT.parent, "", others=("nginx", "prometheus")) as systemd:
        systemd.shell(f"cp {certificate.cert} /etc/ssl/gateway.pem; cp {certificate.key} /etc/ssl/gateway.key")
        systemd.shell("".join(line for line in installing.splitlines(True) if "pip" not in line and "venv" not in line))
        systemd.shell(securing)
        page = systemd.shell(f"{ask} --fail --retry 60 --retry-all-errors {url}/")
        stranger = systemd.shell(f"{ask} --output /dev/null --write-out '%{{http_code}}' {url}/api/v1/websocket/status")
        targets = "curl --silent http://127.0.0.1:9090/api/v1/targets"
        systemd.shell(f'until {targets} | grep \'"health":"up"\'; do sleep 0.1; done')
        rules = systemd.shell("curl --silent http://127.0.0.1:9090/api/v1/rules")

    assert "<title>" in page
    assert "401" == stranger
    assert {"GatewayDown", "GatewaySaturated"} <= set(re.findall(r'"name":"(\w+)"', rules))


def test_a_systemd_that_ends_leaves_no_cgroup() -> None:
    with manager(UNIT.parent, "") as systemd:
        groups = systemd.cgroups()
        before = [group.exists() for group in groups]

    assert [True] * len(groups) == before
    assert [] == [group for group in groups if group.exists()]
