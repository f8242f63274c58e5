"""The unit as it is, with a real systemd, which runs in namespaces of its own: `make systemd`.

Not every machine lets a second systemd run: CI runs these tests where one can."""

from __future__ import annotations

import re
import textwrap

import pytest

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


def test_a_systemd_that_ends_leaves_no_cgroup() -> None:
    with manager(UNIT.parent, "") as systemd:
        groups = systemd.cgroups()
        before = [group.exists() for group in groups]

    assert [True] * len(groups) == before
    assert [] == [group for group in groups if group.exists()]
