"""`gateway record`, `replay` and `inspect` have each event once, in order, or its gap; also after kill -9."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil
import pytest
from mcap.reader import make_reader
from neurograph_client.items import Event, Gap, Position
from neurograph_client.recording.files import Record, RecordingError, read, record_of
from neurograph_client.recording.parts import Recorder, parts_of, positions_of

from tests.conftest import Connect, Launch, NewPublisher
from tests.support.addresses import ipc
from tests.support.command import Command, command, run
from tests.support.publisher import Publisher
from tests.support.waiting import eventually


def event(channel: str, offset: int, data: Any = None, **fields: Any) -> Event[Any]:
    stamp = "2026-11-28T12:00:00.123456789Z"
    message = {"type": "event", "channel": channel, "offset": offset, "timestamp": stamp, "data": data, **fields}
    return Event(channel, "e1", offset, fields.get("event_type"), stamp, data, message)


def numbers(files: Iterable[Path], channel: str) -> list[int]:
    """Return ``data.n`` of a channel's events in all files."""
    found = [record for path in files for record in read(path) if record.kind == "event"]
    return [record.message["data"]["n"] for record in found if record.channel == channel]


def holds(path: Path, channel: str, number: int) -> Callable[[Command], bool]:
    """Return a condition: the recording on the disk has this event."""

    def reached(_: Command) -> bool:
        return number in numbers(parts_of(path), channel)

    return reached


# -- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["run.mcap", "run.jsonl"])
def test_a_file_is_read_as_it_was_written(tmp_path: Path, name: str) -> None:
    written: list[Event[Any] | Gap] = [
        event("a", 1, {"x": 1.5}, event_type="t"),
        Gap("a", "e1", 2, 4, 3, "bus_loss"),
        event("b", 9, b"\x00\xff"),
    ]
    recorder = Recorder(tmp_path / name)
    recorder.begin({"a": Position("e1", 0)})
    recorder.write(written)
    recorder.close()
    start, begun, first, gap, last = read(tmp_path / name)

    assert ("positions", {}) == (start.kind, start.message["positions"])
    assert {"a": {"epoch": "e1", "offset": 0}} == begun.message["positions"]
    assert record_of(written[0], first.received_ns) == first
    assert record_of(written[1], gap.received_ns) == gap
    assert ("AP8=", "e1") == (last.message["data_base64"], last.message["epoch"])
    assert 1_795_867_200_123_456_000 == first.published_ns


@pytest.mark.parametrize("name", ["run.mcap", "run.jsonl"])
@pytest.mark.parametrize("lost", [1, 9, 60])
def test_a_truncated_file_is_repaired_and_continued(tmp_path: Path, name: str, lost: int) -> None:
    path = tmp_path / name
    recorder = Recorder(path)
    for offset in range(1, 101):
        recorder.write([event("a", offset, {"n": offset})])
        recorder.flush()
    recorder.close()
    path.write_bytes(path.read_bytes()[:-lost] if name.endswith("jsonl") else path.read_bytes()[: 9_000 - lost])

    again = Recorder(path, resume=True)
    reached = again.positions["a"].offset
    again.write([event("a", offset, {"n": offset}) for offset in range(reached + 1, 111)])
    again.close()

    assert 20 < reached < 100
    assert [path, path.with_name(f"run.2{path.suffix}")] == parts_of(path)
    assert [*range(1, 111)] == numbers(parts_of(path), "a")
    if name.endswith("mcap"):
        with path.open("rb") as file:
            summary = make_reader(file).get_summary()  # needs the end of the file, which had been cut off
        assert summary is not None
        assert summary.statistics is not None
        assert reached + 1 == summary.statistics.message_count  # one record of positions


def test_files_are_rotated_and_each_knows_all_positions(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    recorder = Recorder(path, rotate_bytes=2000)
    recorder.write([event("once", 7)])
    for offset in range(1, 61):
        recorder.write([event("a", offset, {"n": offset})])
        recorder.flush()
    recorder.close()

    assert len(parts_of(path)) > 3
    assert {"once": Position("e1", 7), "a": Position("e1", 60)} == positions_of(parts_of(path)[-1])


def test_a_recording_knows_the_positions_of_all_sources(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    recorder = Recorder(path)
    recorder.begin({"a": Position("e1", 1, {"e2": 4})})
    recorder.write([event("a", 2, epoch="e1")])
    recorder.close()

    assert {"a": Position("e1", 2, {"e2": 4})} == recorder.positions == positions_of(path)


def test_a_recording_knows_that_a_source_ended(tmp_path: Path) -> None:
    """The gateway's messages show it by a missing epoch; in a recording each event has its epoch."""
    path = tmp_path / "run.jsonl"
    recorder = Recorder(path)
    recorder.begin({"a": Position("e0", 1)})
    recorder.write([event("a", 1, epoch="e1"), event("a", 2), event("a", 3)])
    recorder.close()

    assert {"a": Position("e1", 3)} == recorder.positions == positions_of(path)


def test_a_recording_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "run.mcap").write_bytes(b"precious")

    with pytest.raises(RecordingError, match=r"run\.mcap exists: continue it with --resume, or name another file"):
        Recorder(tmp_path / "run.mcap")


@pytest.mark.parametrize("name", ["run.mcap", "run.jsonl"])
async def test_a_file_that_is_not_a_recording_is_named_in_the_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x89PNG rubbish\n" * 10)
    status, said = await run("inspect", str(tmp_path / name))

    assert 1 == status
    assert said.errors.startswith(f"Error: {tmp_path / name}: ")
    assert "Traceback" not in said.errors


# -- commands -------------------------------------------------------------------------------------


async def test_a_recording_continues_after_its_last_event_after_kill_9(
    launch: Launch, publisher: NewPublisher, tmp_path: Path
) -> None:
    gateway = await launch(settings={"history.events_max": 3000})
    bus = await publisher(gateway.bus_in)
    bus.send_numbered("run", range(10))
    await gateway.holds("run", 10)
    out = tmp_path / "run.mcap"
    arguments = ["record", str(out), "run", "--last", "10", "--url", gateway.url]
    async with command(*arguments) as recording:
        await recording.until(holds(out, "run", 9))
        bus.send_numbered("run", range(10, 2000))
        await recording.until(lambda _: len(numbers([out], "run")) > 10)
        recording.process.kill()
        await recording.exited()
    bus.send_numbered("run", range(2000, 2500))
    async with command(*arguments, "--resume") as recording:
        await recording.until(holds(out, "run", 2499))
        bus.send_numbered("run", range(2500, 2510))
        await recording.until(holds(out, "run", 2509))
        recording.interrupt()
        assert 0 == await recording.exited()
        assert "events" in recording.errors

    assert [*range(2510)] == numbers(parts_of(out), "run")
    assert [] == [record for path in parts_of(out) for record in read(path) if record.kind == "gap"]


async def test_evicted_events_are_a_gap_in_the_recording(
    launch: Launch, publisher: NewPublisher, tmp_path: Path
) -> None:
    gateway = await launch(settings={"history.events_max": 100})
    bus = await publisher(gateway.bus_in)
    out = tmp_path / "run.jsonl"
    arguments = ["record", str(out), "run", "--url", gateway.url]
    bus.send_numbered("run", range(1))
    await gateway.holds("run", 1)
    async with command(*arguments, "--last", "1") as recording:
        await recording.until(holds(out, "run", 0))
        recording.process.send_signal(signal.SIGTERM)
        assert 0 == await recording.exited()
    bus.send_numbered("run", range(1, 501))
    await gateway.holds("run", 501)
    async with command(*arguments, "--resume") as recording:
        await recording.until(holds(out, "run", 500))
        recording.interrupt()
        assert 0 == await recording.exited()
    [gap] = [record.message for path in parts_of(out) for record in read(path) if record.kind == "gap"]

    assert (2, 401, 400, "evicted") == (gap["from"], gap["to"], gap["count"], gap["reason"])
    assert [0, *range(401, 501)] == numbers(parts_of(out), "run")


async def test_a_replay_publishes_the_same_events_in_the_same_order(
    launch: Launch, connect: Connect, tmp_path: Path
) -> None:
    out = tmp_path / "run.mcap"
    recorder = Recorder(out)
    recorded = [
        event("robots.a", 1, {"n": 1}, event_type="moved", extra=[1, None]),
        event("robots.b", 5, {"n": 2}, event_type="moved"),
        event("robots.a", 2, {"n": 3}, event_type="moved"),
        event("bare", 1, [1, 2]),
        event("bytes", 1, b"\x01\x02"),
        event("$personal", 1, "hush", event_type="note"),
    ]
    recorder.write(recorded)
    recorder.close()
    gateway = await launch()
    client = await connect("robots.*", "bare", "bytes", to=gateway)
    status, said = await run("replay", str(out), "--bus", gateway.bus_in, "--speed", "0")
    received = [await client.expect("event") for _ in range(5)]

    def of(channel: str) -> list[dict[str, Any]]:
        return [one for one in received if one["channel"] == channel]

    assert (0, "published 5 events on 4 channels; 1 personal messages left out\n") == (status, said.errors)
    assert [1, 3] == [one["data"]["n"] for one in of("robots.a")]
    assert [[1, None]] == [one["extra"] for one in of("robots.a") if "extra" in one]
    assert "2026-11-28T12:00:00.123456789Z" == of("robots.b")[0]["timestamp"]
    assert [1, 2] == of("bare")[0]["data"]
    assert "AQI=" == of("bytes")[0]["data_base64"]


async def test_a_replay_without_a_gateway_is_an_error(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    recorder = Recorder(out)
    recorder.write([event("a", 1)])
    recorder.close()
    endpoint = ipc(tmp_path, "nobody")
    status, said = await run("replay", str(out), "--bus", endpoint, "--wait", "0.1")

    assert (1, f"Error: no gateway at {endpoint} subscribed within 0.1 s\n") == (status, said.errors)


async def test_a_replay_with_too_long_a_wait_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    out.touch()
    status, said = await run("replay", str(out), "--wait", "3601")

    assert 2 == status
    assert "'--wait': 3601.0 is not in the range 0<=x<=3600" in said.errors


async def test_a_replay_can_begin_and_end_within_a_recording(launch: Launch, connect: Connect, tmp_path: Path) -> None:
    out = tmp_path / "run.jsonl"
    lines = [{"received_ns": n * 1_000_000_000, **event("a", n, {"n": n}).message, "epoch": "e"} for n in range(1, 10)]
    out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    gateway = await launch()
    client = await connect("a", to=gateway)
    arguments = ["--from", "+2", "--to", "1970-01-01T00:00:06Z", "--speed", "0"]
    await run("replay", str(out), "--bus", gateway.bus_in, *arguments)

    assert [3, 4, 5] == [one["data"]["n"] for one in await client.events("a", 3)]


async def test_a_bus_is_recorded_without_a_running_gateway(tmp_path: Path) -> None:
    endpoint, out = ipc(tmp_path, "bus"), tmp_path / "run.jsonl"
    bus = Publisher(endpoint, bind=True)
    try:
        async with command("record", str(out), "--bus", endpoint) as recording:
            await bus.subscribed()
            bus.send_numbered("run", range(5))
            await recording.until(holds(out, "run", 4))
            recording.interrupt()
            assert 0 == await recording.exited()
    finally:
        bus.close()


async def test_the_gateway_of_a_killed_recorder_exits(tmp_path: Path) -> None:
    endpoint, out = ipc(tmp_path, "bus"), tmp_path / "run.jsonl"
    bus = Publisher(endpoint, bind=True)
    try:
        async with command("record", str(out), "--bus", endpoint) as recording:
            await bus.subscribed()
            bus.send_numbered("run", range(1))
            await recording.until(holds(out, "run", 0))
            [gateway] = psutil.Process(recording.process.pid).children()
            recording.process.kill()
            await recording.exited()
            await eventually(lambda: not gateway.is_running() or gateway.status() == psutil.STATUS_ZOMBIE)
    finally:
        bus.close()


async def test_inspect_shows_channels_rates_and_gaps(tmp_path: Path) -> None:
    out = tmp_path / "run.mcap"
    recorder = Recorder(out)
    recorder.write([*(event("busy", n) for n in range(1, 1001)), Gap("quiet", "e1", 1, 3, 3, "bus_loss")])
    recorder.close()
    status, said = await run("inspect", str(out))
    _, as_json = await run("inspect", "--json", str(out))
    [busy, quiet] = [line.split() for line in said.lines if line.startswith(("busy", "quiet"))]

    assert 0 == status
    assert said.lines[0].startswith("1,000 events in 0.0 s from ")
    assert ["busy", "1,000", "1,000.0", "0"] == busy[:4]
    assert ("quiet", "0", "3", "bus_loss") == (quiet[0], quiet[1], quiet[3], quiet[-1])
    assert 3 == as_json.messages[0]["channels"]["quiet"]["missing"]


def test_an_mcap_file_names_the_fields_of_each_channel(tmp_path: Path) -> None:
    out = tmp_path / "run.mcap"
    recorder = Recorder(out)
    recorder.write([event("metrics", 1, {"cpu_percent": 1.5, "hosts": ["a"], "none": None})])
    recorder.close()
    with out.open("rb") as file:
        [(schema, channel, message)] = make_reader(file).iter_messages(topics=["metrics"])

    assert schema is not None
    data = json.loads(schema.data)["properties"]["data"]["properties"]
    assert ("jsonschema", "json", 1) == (schema.encoding, channel.message_encoding, message.sequence)
    assert {"type": "number"} == data["cpu_percent"]
    assert {"type": "array", "items": {"type": "string"}} == data["hosts"]


def test_a_record_without_a_timestamp_has_the_time_of_its_receipt() -> None:
    assert 7 == Record("gap", 7, {"channel": "a"}).published_ns


# -- bench ----------------------------------------------------------------------------------------


@pytest.mark.long
async def test_a_benchmark_counts_each_delivery(launch: Launch) -> None:
    gateway = await launch()
    arguments = [
        "--publishers",
        "2",
        "--subscribers",
        "3",
        "--rate",
        "200",
        "--seconds",
        "0.5",
        "--bus",
        gateway.bus_in,
    ]
    status, said = await run("bench", "--url", gateway.url, "--json", *arguments)
    [figures] = said.messages

    assert (0, "") == (status, said.errors)
    assert figures["published"] > 50
    assert (3 * figures["published"], 0) == (figures["delivered"], figures["missing"])
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]
