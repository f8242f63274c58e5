"""What the log says of the bus: each thing once a second, with how often it was left out."""

from __future__ import annotations

from typing import Any

from structlog.testing import capture_logs

from gateway.process.bus_log import BusLog
from tests.support.core import make_hub


def found(logged: list[Any], *fields: str) -> list[tuple[object, ...]]:
    return [tuple(one[field] for field in ("event", *fields)) for one in logged]


def test_channels_that_are_closed_one_after_the_other_are_one_line_a_second() -> None:
    bus_log = BusLog()
    with capture_logs() as logged:
        for n in range(5):
            bus_log.channel_closed(f"c{n}", now=0.1 * n)
        bus_log.channel_closed("late", now=1.1)

    assert [("channel_closed", "c0", 0), ("channel_closed", "late", 4)] == found(logged, "channel", "suppressed")


def test_histories_that_are_cut_are_one_warning_a_second() -> None:
    bus_log = BusLog()
    with capture_logs() as logged:
        for now, bytes_max in ((0.0, 300), (0.5, 200), (1.5, 100)):
            bus_log.histories_cut(bytes_max, now=now)

    assert [("histories_cut", 300, 0), ("histories_cut", 100, 1)] == found(logged, "bytes_max", "suppressed")
    assert {"warning"} == {one["log_level"] for one in logged}


def test_each_reason_for_rejections_has_a_line_of_its_own() -> None:
    bus_log = BusLog()
    tick = make_hub().tick([[b"a", b"{"], [b"b", b"{"], [b"a b", b"{}"]], now_ns=0)
    with capture_logs() as logged:
        bus_log.rejected(tick.rejections, endpoint="tcp://127.0.0.1:5556", now=0.0)

    assert [
        ("event_rejected", "invalid_json", "a", "tcp://127.0.0.1:5556"),
        ("event_rejected", "bad_topic", "a b", "tcp://127.0.0.1:5556"),
    ] == found(logged, "reason", "topic", "endpoint")
