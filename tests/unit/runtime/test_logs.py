"""The log: what reaches the stream, and what must never."""

import contextlib
import json
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from gateway.runtime import logs


class Stream:
    """What a log is written to: a pipe, or a terminal."""

    def __init__(self, *, terminal: bool = False) -> None:
        self._reading, self.descriptor = os.openpty() if terminal else os.pipe()
        os.set_blocking(self._reading, False)
        self._text = b""
        _open.append(self)

    def getvalue(self, *, flush: bool = True) -> str:
        for handler in logging.getLogger().handlers if flush else ():
            handler.flush()
        with contextlib.suppress(BlockingIOError):
            self._text += os.read(self._reading, 1_000_000)
        return self._text.decode()

    def close(self) -> None:
        for descriptor in {self._reading, self.descriptor}:
            os.close(descriptor)


_open: list[Stream] = []


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    while _open:
        _open.pop().close()
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def written(event: str, *, format: str = "json", **values: Any) -> str:
    """What the log writes for one event."""
    stream = Stream()
    logs.set_up("info", format, stream.descriptor)  # type: ignore[arg-type]  # the tests name both formats
    logs.logger("test").info(event, **values)
    return stream.getvalue()


def test_a_line_for_machines_is_one_json_object() -> None:
    line = written("listening", url="http://127.0.0.1:8000", count=3)

    record = json.loads(line)
    assert record.pop("timestamp").endswith("Z")
    assert {
        "message": "listening",
        "level": "info",
        "logger": "test",
        "url": "http://127.0.0.1:8000",
        "count": 3,
    } == record


def test_a_terminal_gets_readable_lines_and_anything_else_gets_json() -> None:
    terminal, pipe = Stream(terminal=True), Stream()
    for stream in (terminal, pipe):
        logs.set_up("info", "auto", stream.descriptor)
        logs.logger("test").info("listening")

    assert "listening" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")
    assert "listening" == json.loads(pipe.getvalue())["message"]


def test_what_is_less_severe_than_the_level_is_left_out() -> None:
    stream = Stream()
    logs.set_up("warning", "json", stream.descriptor)

    logs.logger("test").info("left out")
    logs.logger("test").warning("kept")

    assert ["kept"] == [json.loads(line)["message"] for line in stream.getvalue().splitlines()]


def test_what_libraries_log_takes_the_same_way() -> None:
    stream = Stream()
    logs.set_up("info", "json", stream.descriptor)

    logging.getLogger("aiohttp.server").error("Error from %s", "10.0.0.1")

    record = json.loads(stream.getvalue())
    assert ("Error from 10.0.0.1", "error", "aiohttp.server") == (record["message"], record["level"], record["logger"])


def test_python_warnings_take_the_same_way() -> None:
    stream = Stream()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logs.set_up("info", "json", stream.descriptor)
        warnings.warn("old", UserWarning, stacklevel=1)
        logging.captureWarnings(False)

    assert "UserWarning: old" in json.loads(stream.getvalue())["message"]


def test_a_second_set_up_replaces_the_first() -> None:
    first, second = Stream(), Stream()
    logs.set_up("info", "json", first.descriptor)
    logs.set_up("info", "json", second.descriptor)

    logs.logger("test").info("once")

    assert "" == first.getvalue()
    assert 1 == second.getvalue().count("once")


@given(event=st.text(), key=st.text(min_size=1), value=st.text() | st.binary())
@pytest.mark.parametrize("format", ["console", "json"])
def test_nothing_from_outside_can_forge_a_line_or_drive_a_terminal(
    format: str, event: str, key: str, value: str | bytes
) -> None:
    """Whatever a topic, a name or an address holds, a record stays one line without control characters."""
    stream = Stream()
    logs.set_up("info", format, stream.descriptor)  # type: ignore[arg-type]  # the tests name both formats
    logging.getLogger("test").info("%s", event)
    logs.logger("test").info("event", values={key: value})

    lines = stream.getvalue().split("\n")
    assert 3 == len(lines)
    assert all(line.isprintable() for line in lines)


def test_the_lines_of_a_traceback_cannot_pass_for_records() -> None:
    stream = Stream()
    logs.set_up("info", "console", stream.descriptor)

    try:
        raise ValueError("bad\n2026-11-23T12:00:00Z [info] forged \x1b[31m")
    except ValueError:
        logs.logger("test").exception("failed")

    first, *others = stream.getvalue().rstrip("\n").split("\n")
    assert "failed" in first
    assert all(line.startswith("  ") for line in others)
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("format", ["console", "json"])
@pytest.mark.parametrize("key", ["token", "Token", "session", "secret", "password", "authorization", "access_token"])
def test_secrets_are_cut_out_wherever_their_name_shows(format: str, key: str) -> None:
    line = written("x", format=format, **{key: "s3cret"}, headers=[{key: "s3cret"}])

    assert "s3cret" not in line
    assert "[redacted]" in line


def test_secrets_are_cut_out_of_addresses() -> None:
    line = written("GET /ws?token=s3cret&channels=a", path="/ws?channels=a&session=s3cret")

    assert "s3cret" not in line
    assert 2 == line.count("channels=a")


def test_what_only_sounds_like_a_secret_is_kept() -> None:
    assert {"sessions": 3, "session_ttl_seconds": 300}.items() <= json.loads(
        written("x", sessions=3, session_ttl_seconds=300)
    ).items()


def test_a_structure_without_end_is_cut_off() -> None:
    endless: dict[str, Any] = {}
    endless["again"] = endless

    assert "[too deep]" in written("x", endless=endless)


def test_a_text_without_end_is_cut_off() -> None:
    record = json.loads(written("x", topic="a" * 10_000))

    assert "a" * 4096 + "… (5904 more)" == record["topic"]


def test_at_most_so_many_messages_pass_per_interval_and_key() -> None:
    limit = logs.Throttle(count=2, interval_seconds=10)

    assert [0, 0, None, None] == [limit.allow("a", now=float(second)) for second in range(4)]
    assert 0 == limit.allow("b", now=3.0)


def test_the_first_message_of_the_next_interval_tells_how_many_were_suppressed() -> None:
    limit = logs.Throttle(count=1, interval_seconds=10)
    for second in range(4):
        limit.allow("a", now=float(second))

    assert 3 == limit.allow("a", now=10.0)
    assert 0 == limit.allow("a", now=20.0)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 5))))
def test_every_message_is_let_through_or_counted(steps: list[tuple[str, float]]) -> None:
    """The records that were logged, those reported as suppressed, and those not reported yet are all there were."""
    limit = logs.Throttle(count=2, interval_seconds=3)
    now = passed = told = unreported = 0.0
    for key, pause in steps:
        now += pause
        answer = limit.allow(key, now=now)
        if answer is None:
            unreported += 1
        else:
            passed, told, unreported = passed + 1, told + answer, unreported - answer

    assert len(steps) == passed + told + unreported
    assert unreported >= 0


def test_keys_make_room_for_others() -> None:
    limit = logs.Throttle(count=1, interval_seconds=10, keys_max=2)
    for key in "abc":
        limit.allow(key, now=0.0)

    assert 0 == limit.allow("a", now=1.0)  # forgotten, so it begins anew
    assert limit.allow("c", now=1.0) is None


def test_a_pipe_that_nobody_reads_delays_no_record_and_gets_the_number_of_those_dropped() -> None:
    stream = Stream()
    logs.set_up("info", "json", stream.descriptor)
    for number in range(3000):
        logs.logger("test").info("a" * 1000, number=number)
    while "log_records_dropped" not in stream.getvalue(flush=False):
        logs.logger("test").info("more")
    records = [json.loads(line) for line in stream.getvalue().splitlines()]
    numbers = [one["number"] for one in records if "number" in one]
    dropped = [one["count"] for one in records if one["message"] == "log_records_dropped"]

    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 500
    assert dropped[0] >= 3000 - len(numbers)


def test_a_full_disk_costs_nothing_but_the_records() -> None:
    descriptor = os.open("/dev/full", os.O_WRONLY)
    logs.set_up("info", "json", descriptor)
    for _ in range(10):
        logs.logger("test").info("lost")
    for handler in logging.getLogger().handlers:
        handler.close()
    os.close(descriptor)


def test_a_failure_that_many_clients_cause_is_not_logged_for_each() -> None:
    stream = Stream()
    logs.set_up("info", "json", stream.descriptor)
    for _ in range(50):
        try:
            raise ValueError("again")
        except ValueError:
            logs.logger("test").exception("connection_failed")
            logging.getLogger("asyncio").exception("Exception in callback")
    logs.logger("test").error("connection_failed")
    records = [json.loads(line) for line in stream.getvalue().splitlines()]

    assert [one["message"] for one in records].count("Exception in callback") == 5
    assert [one["message"] for one in records].count("connection_failed") == 6
