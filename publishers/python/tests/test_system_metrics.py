"""The process that publishes this machine's metrics."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.support.waiting import DEADLINE_SECONDS, scaled

from .bus import Bus


def test_system_metrics_are_published_and_the_process_exits_on_a_signal(bus: Bus) -> None:
    command = [sys.executable, "-m", "neurograph_publisher.system_metrics"]
    options = ["--connect", bus.endpoint, "--interval", "0.1"]
    with subprocess.Popen(command + options) as process:
        heartbeat = bus.heartbeat()
        read = [bus.read() for _ in range(3)]
        process.send_signal(signal.SIGTERM)
        assert process.wait(scaled(DEADLINE_SECONDS)) == 0

    for topic, event, _ in read:
        data = event["data"]
        assert (topic, event["event_type"]) == ("metrics", "system_metrics")
        assert 0 <= data["cpu_percent"] <= 100
        assert data["memory_mb"] > 1
        assert data["net_received_bytes_per_sec"] >= 0
    assert [e[2] for _, _, e in read] == [1, 2, 3]
    assert heartbeat["name"] == "neurograph-system-metrics"
    assert heartbeat["replay"].startswith("tcp://127.0.0.1:")


def test_system_metrics_can_end_after_a_count_and_report_errors(bus: Bus) -> None:
    command = [sys.executable, "-m", "neurograph_publisher.system_metrics"]
    options = ["--connect", bus.endpoint, "--interval", "0.05", "--count", "2"]
    with subprocess.Popen([*command, *options]) as few:
        sequences = [bus.read()[2][2] for _ in range(2)]
        assert few.wait(scaled(DEADLINE_SECONDS)) == 0
    wrong = subprocess.run([*command, "--connect", "nonsense"], capture_output=True, text=True, check=False)

    assert sequences == [1, 2]
    assert wrong.returncode == 1
    assert "nonsense" in wrong.stderr


@pytest.mark.parametrize(
    "option", [("--interval", "inf"), ("--interval", "nan"), ("--interval", "0"), ("--count", "-1")]
)
def test_an_invalid_number_is_refused_with_its_option(option: tuple[str, str]) -> None:
    command = [sys.executable, "-m", "neurograph_publisher.system_metrics", *option]
    refused = subprocess.run(command, capture_output=True, text=True, check=False, timeout=scaled(DEADLINE_SECONDS))

    assert refused.returncode == 2
    assert f"{option[0]}: " in refused.stderr
