"""Prometheus' rules, the page about them and Grafana's dashboard agree with each other and with the metrics."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from gateway.metrics.table import names


ROOT = Path(__file__).parents[3]
RULES = ROOT / "ops/prometheus/rules.yml"
DASHBOARD = ROOT / "ops/grafana/dashboards/gateway.json"
ALERTS = re.findall(r"- alert: (\w+)", RULES.read_text())
SUFFIXES = ("_bucket", "_sum", "_count")

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing: apt-get install prometheus"
)


def promtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """Each panel's title, and each of its expressions with Grafana's variables filled in."""
    for panel in panels():
        for target in panel.get("targets", []):
            yield panel["title"], filled(target["expr"])


def filled(expression: str) -> str:
    return expression.replace("$instance", ".*").replace("$__rate_interval", "1m")


def unknown(text: str) -> set[str]:
    """The metrics in a text that the gateway does not have."""
    known = {*names(), *(name + suffix for name in names() for suffix in SUFFIXES)}
    return set(re.findall(r"(?<!instance:)\bneurograph_gateway_\w+", text)) - known


# -- rules -------------------------------------------------------------------------------------------


@needs_promtool
def test_each_alert_fires_and_resolves_with_made_up_series() -> None:
    done = promtool("test", "rules", ROOT / "ops/prometheus/rules.test.yml")

    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_prometheus_takes_the_configuration_and_the_rules() -> None:
    rules = promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)
    configuration = promtool("check", "config", "--syntax-only", ROOT / "ops/prometheus/prometheus.yml")

    assert (rules.returncode, configuration.returncode) == (0, 0), rules.stderr + configuration.stderr


def test_rules_ask_only_for_metrics_that_exist() -> None:
    assert set() == unknown(RULES.read_text())


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_tested_and_has_its_runbook(alert: str) -> None:
    assert f"alertname: {alert}," in (ROOT / "ops/prometheus/rules.test.yml").read_text()
    assert RULES.read_text().count(f"runbook: docs/alerts.md#{alert.lower()}\n") == 1


def test_the_page_has_the_alerts_of_the_rules_in_their_order() -> None:
    """And says of each what it means, what to look at, and what to do."""
    page = (ROOT / "docs/alerts.md").read_text()
    sections = re.split(r"^## ", page, flags=re.MULTILINE)[1:]

    assert ALERTS == [section.splitlines()[0] for section in sections]
    for section in sections:
        assert (
            section.index("**Meaning:**")
            < section.index("**Look at")
            < section.index("do:" if "look at, do" in section.lower() else "**Do:**")
        )


# -- the dashboard -----------------------------------------------------------------------------------


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    places = [(panel["id"], panel["gridPos"]) for panel in panels()]

    assert len({number for number, _ in places}) == len(places)
    for (_, one), (_, other) in combinations(places, 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert apart or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"], (one, other)
    assert all(0 <= place["x"] and place["x"] + place["w"] <= 24 for _, place in places)


def test_panels_ask_only_for_metrics_that_exist() -> None:
    assert set() == unknown("\n".join(expression for _, expression in expressions()))


@needs_promtool
def test_prometheus_can_parse_each_panels_expressions(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{number}", "expr": text} for number, (_, text) in enumerate(expressions())]
    file = tmp_path / "panels.yml"
    file.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    done = promtool("check", "rules", file)

    assert len(rules) > 10
    assert done.returncode == 0, done.stderr


def test_the_provisioned_data_source_is_the_one_that_the_panels_use() -> None:
    source = (ROOT / "ops/grafana/provisioning/datasources/prometheus.yml").read_text()
    used = {panel["datasource"]["uid"] for panel in panels() if "datasource" in panel}

    assert used == {"neurograph-prometheus"}
    assert "uid: neurograph-prometheus" in source
