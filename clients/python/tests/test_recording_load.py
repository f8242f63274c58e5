"""A recorder that is killed repeatedly under load records each event once, or its gap, and replays them in order."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from mcap.reader import make_reader
from neurograph_client import Client, Event
from neurograph_client.items import Position
from neurograph_client.recording.files import read
from neurograph_client.recording.parts import parts_of, positions_of

from tests.conftest import Launch, NewPublisher
from tests.support.command import Command, command, run
from tests.support.publisher import Publisher
from tests.support.sizes import full


COUNT = full(20_000, 5_000)
PER_SECOND = 10_000
KILLS = 2
_TURN_SECONDS = 0.05


def publish(bus: Publisher) -> None:
    """Publish at a fixed rate, or as fast as this machine can if that is slower."""
    began, sent = time.monotonic(), 0
    while sent < COUNT:
        due = min(COUNT, int((time.monotonic() - began) * PER_SECOND))
        bus.send_numbered("run", range(sent, due), enveloped=True)
        sent = due
        time.sleep(_TURN_SECONDS)


def accounted(files: Iterable[Path]) -> tuple[list[int], int]:
    """Return the numbers of the recorded events, and the offset up to which each is recorded once or in a gap, in order."""
    numbers, reached = [], 0
    for record in (record for path in files for record in read(path)):
        if record.kind == "event":
            assert record.message["offset"] == reached + 1
            reached += 1
            numbers.append(record.message["data"]["n"])
        elif record.kind == "gap":
            assert record.message["from"] == reached + 1
            reached = record.message["to"]
    return numbers, reached


def recorded(out: Path, offset: int, *, files: int) -> Callable[[Command], bool]:
    """Return a condition: the recording on the disk has this many files and has reached this offset."""

    def reached(_: Command) -> bool:
        parts = parts_of(out)
        return len(parts) == files and positions_of(parts[-1]).get("run", Position("", 0)).offset >= offset

    return reached


async def test_a_recorder_killed_under_load_has_each_event_or_its_gap(
    launch: Launch, publisher: NewPublisher, tmp_path: Path
) -> None:
    held = {"history.events_max": COUNT, "history.bytes_max": 1_000_000_000}
    gateway, other = await launch(settings=held), await launch(settings=held)
    bus = await publisher(gateway.bus_in)
    bus.send_numbered("first", range(1))
    await gateway.holds("first", 1)
    out = tmp_path / "run.mcap"
    arguments = ["record", str(out), "run", "--last", str(COUNT), "--url", gateway.url]
    publishing = asyncio.create_task(asyncio.to_thread(publish, bus))
    for kill in range(KILLS):
        async with command(*arguments, *["--resume"] * bool(kill)) as recording:
            await recording.until(recorded(out, COUNT * (kill + 1) // (KILLS + 2), files=kill + 1))
            recording.process.kill()
            await recording.exited()
    await publishing
    await gateway.holds("run", COUNT)
    async with command(*arguments, "--resume") as recording:
        await recording.until(recorded(out, COUNT, files=KILLS + 1))
        recording.interrupt()
        assert 0 == await recording.exited()
    parts = parts_of(out)
    numbers, reached = accounted(parts)

    assert (KILLS + 1, COUNT) == (len(parts), reached)
    assert numbers == sorted(set(numbers))
    assert numbers == [n for path in parts for n in by_the_formats_own_library(path)]

    status, said = await run("replay", *map(str, parts), "--speed", "0", "--bus", other.bus_in)
    assert 0 == status, said.errors
    async with Client(other.url) as client:
        replayed = await client.history("run", last=COUNT)
    assert numbers == [one.data["n"] for one in replayed if isinstance(one, Event)]


def by_the_formats_own_library(path: Path) -> list[int]:
    """Return the numbers of a file's events, read by the MCAP library in the order of the index at its end."""
    with path.open("rb") as file:
        reader = make_reader(file)
        summary = reader.get_summary()
        assert summary is not None
        assert summary.statistics is not None
        found = [json.loads(message.data)["data"]["n"] for _, _, message in reader.iter_messages(topics=["run"])]
    assert summary.statistics.message_count >= len(found)
    return found
