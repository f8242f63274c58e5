"""A recording of several files that goes on where it stopped, also after its process was killed."""

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from neurograph_client.items import Event, Gap, Position, behind
from neurograph_client.recording.files import (
    RecordingError,
    RecordingFile,
    create,
    is_complete,
    positions_record,
    read,
    record_of,
)


def parts_of(path: Path) -> list[Path]:
    """Return the files of a recording that exist, in order: out.mcap, out.2.mcap, out.3.mcap and so on."""
    found = [path] if path.exists() else []
    while (part := _part(path, len(found) + 1)).exists():
        found.append(part)
    return found


def _part(path: Path, number: int) -> Path:
    return path if number == 1 else path.with_name(f"{path.stem}.{number}{path.suffix}")


def positions_of(path: Path) -> dict[str, Position]:
    """Return how far a file brings each channel.

    Raises:
        RecordingError: It is not a recording, or it is damaged.
        OSError: It cannot be read.
    """
    found: dict[str, Position] = {}
    for record in read(path):
        if record.kind == "positions":
            places = record.message["positions"].items()
            found |= {channel: Position(**at) for channel, at in places}
        elif (reached := record.behind(found.get(record.channel))) is not None:
            found[record.channel] = reached
    return found


def mend(path: Path) -> None:
    """Give a file whose writer was killed the end that it lacks; what was being written last is left out."""
    mended = path.with_name(f"{path.stem}.mended{path.suffix}")
    mended.unlink(missing_ok=True)
    file = create(mended)
    for record in read(path):
        file.write(record)
    file.close()
    mended.replace(path)


class Recorder:
    """Writes events and gaps to `path`, and begins a further file at a size or an age, if that is asked for.

    Each file begins with the positions of all channels, so the last one is enough to go on. With `resume`, an
    existing recording is continued: subscribe with ``since=recorder.positions``.

    Raises:
        RecordingError: `path` exists and `resume` is not set, or its last file is not a recording.
        OSError: A file cannot be read or written.
    """

    def __init__(
        self, path: Path, *, resume: bool = False, rotate_bytes: int | None = None, rotate_seconds: float | None = None
    ) -> None:
        self.positions: dict[str, Position] = {}
        """How far each channel is recorded."""
        self.events = self.gaps = self.missing = 0
        """What was written: events, gaps, and the events that these report as missing, as far as that is known."""
        self._path = path
        self._rotate_bytes = rotate_bytes
        self._rotate_seconds = rotate_seconds
        parts = parts_of(path)
        if parts and not resume:
            raise RecordingError(f"{path} exists: continue it with --resume, or name another file")
        if parts:
            if not is_complete(parts[-1]):
                mend(parts[-1])
            self.positions = positions_of(parts[-1])
        self._begin_part(len(parts) + 1)

    def _begin_part(self, number: int) -> None:
        self._number = number
        self.path = _part(self._path, number)
        """The file that is written now."""
        self._file: RecordingFile = create(self.path)
        self._began = time.monotonic()
        self._file.write(positions_record(self.positions, time.time_ns()))
        self._file.flush()

    @property
    def bytes_written(self) -> int:
        """The size of the file that is written now, as of the last flush."""
        return self.path.stat().st_size

    def begin(self, positions: Mapping[str, Position]) -> None:
        """Note where channels begin that are not recorded yet."""
        new = {channel: position for channel, position in positions.items() if channel not in self.positions}
        if new:
            self.positions |= new
            self._file.write(positions_record(new, time.time_ns()))

    def write(self, items: Iterable[Event[Any] | Gap]) -> None:
        """Write what was received now."""
        received_ns = time.time_ns()
        for item in items:
            record = record_of(item, received_ns)
            self._file.write(record)
            before = self.positions.get(item.channel)
            reached = behind(before, item)
            if reached is not None:
                self.positions[item.channel] = reached
                if before is not None and before.others and record.behind(before) != reached:
                    # Other sources ended. In the gateway's message a missing epoch says so; here each event has one.
                    self._file.write(positions_record({item.channel: reached}, received_ns))
            if isinstance(item, Event):
                self.events += 1
            else:
                self.gaps += 1
                self.missing += item.count or 0

    def flush(self) -> None:
        """Hand all that was written to the operating system, and begin a further file if it is time."""
        self._file.flush()
        too_large = self._rotate_bytes is not None and self.bytes_written >= self._rotate_bytes
        too_old = self._rotate_seconds is not None and time.monotonic() - self._began >= self._rotate_seconds
        if too_large or too_old:
            self.close()
            self._begin_part(self._number + 1)

    def close(self) -> None:
        """End the file; it is on the disk then, not only with the operating system."""
        self._file.close()
        with self.path.open("rb") as file:
            os.fsync(file.fileno())
