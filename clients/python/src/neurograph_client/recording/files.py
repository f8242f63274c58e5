"""One file of a recording: MCAP, which Foxglove and ROS tools read, or JSON lines."""

import json
import struct
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import orjson
from mcap.exceptions import EndOfFile, McapError
from mcap.records import Channel, Chunk, Message
from mcap.stream_reader import StreamReader, breakup_chunk
from mcap.writer import MCAP0_MAGIC, Writer

from neurograph_client.items import Event, Gap, Position, position_behind


GAPS, POSITIONS = "$gaps", "$positions"
"""Topics of a file that are no channels: gaps, and where each channel's recording begins."""

_CHUNK_BYTES = 256 * 1024
_SCHEMA_LEVELS_MAX = 8
_JSON_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array"}

Kind = Literal["event", "gap", "positions"]


class RecordingError(Exception):
    """A file is no recording, or cannot be written; the text says which file and why."""


@dataclass(frozen=True, slots=True)
class Record:
    """An event, a gap, or the positions (by channel) behind which the file's events begin.

    `message` is the gateway's message, with the epoch in each event. `received_ns` is when it was received,
    in unix time, nanoseconds.
    """

    kind: Kind
    received_ns: int
    message: dict[str, Any]

    @property
    def channel(self) -> str:
        """The channel of an event or a gap."""
        return str(self.message["channel"])

    def behind(self, before: Position | None) -> Position | None:
        """Return how far an event or a gap brings its channel from a position."""
        return position_behind(before, self.message, self.message["epoch"])

    @property
    def published_ns(self) -> int:
        """An event's own time, in unix time, nanoseconds; of others and where it has none, when it was received."""
        try:
            moment = datetime.fromisoformat(self.message["timestamp"])
        except (KeyError, ValueError):
            return self.received_ns
        return max(0, round(moment.timestamp() * 1_000_000)) * 1000


def record_of(item: Event[Any] | Gap, received_ns: int) -> Record:
    """Return what a file keeps of an event or a gap."""
    if isinstance(item, Event):
        return Record("event", received_ns, {**item.message, "epoch": item.epoch})
    gap = {"type": "gap", "channel": item.channel, "epoch": item.epoch, "from": item.from_, "to": item.to}
    return Record("gap", received_ns, {**gap, "count": item.count, "reason": item.reason})


def positions_record(positions: dict[str, Position], received_ns: int) -> Record:
    """Return the record with which each file begins."""
    places = {channel: at.as_json() for channel, at in positions.items()}
    return Record("positions", received_ns, {"type": "positions", "positions": places})


class RecordingFile(Protocol):
    """A file that is being written."""

    def write(self, record: Record) -> None: ...

    def flush(self) -> None:
        """Hand all that was written to the operating system: it survives the end of this process."""

    def close(self) -> None: ...


def create(path: Path) -> RecordingFile:
    """Begin a file: JSON lines if its name ends in .jsonl, else MCAP.

    Raises:
        OSError: It exists already, or cannot be written.
    """
    file = path.open("xb")
    return _JsonLines(file) if path.suffix == ".jsonl" else _Mcap(file)


def read(path: Path) -> Iterator[Record]:
    """Iterate over the records of a file, up to where its writer was killed, if it was.

    Raises:
        RecordingError: It is not a recording, or it is damaged.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        yield from _read_json_lines(file, path) if path.suffix == ".jsonl" else _read_mcap(file, path)


def is_complete(path: Path) -> bool:
    """Tell whether the file was closed by its writer."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - len(MCAP0_MAGIC)))
        end = file.read()
    if path.suffix == ".jsonl":
        return end[-1:] in {b"", b"\n"}
    return size > len(MCAP0_MAGIC) and end == MCAP0_MAGIC  # with which it also begins


# -- JSON lines ------------------------------------------------------------------------------------


class _JsonLines:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, record: Record) -> None:
        self._file.write(_encode({"received_ns": record.received_ns, **record.message}) + b"\n")

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _read_json_lines(file: BinaryIO, path: Path) -> Iterator[Record]:
    kinds: dict[str, Kind] = {"event": "event", "gap": "gap", "positions": "positions"}
    for number, line in enumerate(file, 1):
        if not line.endswith(b"\n"):
            return  # its writer was killed
        try:
            message = json.loads(line)  # also NaN and long integers, which were valid in no event
            yield Record(kinds[message["type"]], message.pop("received_ns"), message)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RecordingError(f"{path}: line {number} is not a record of a recording") from None


# -- MCAP ------------------------------------------------------------------------------------------


class _Mcap:
    """Each channel is one of the file, with a JSON schema made from its first event."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._writer = Writer(file, chunk_size=_CHUNK_BYTES)
        self._writer.start(profile="neurograph", library="neurograph-client")
        self._channels: dict[str, int] = {}

    def write(self, record: Record) -> None:
        message = record.message
        topic = {"gap": GAPS, "positions": POSITIONS}.get(record.kind) or record.channel
        number = self._channels.get(topic)
        if number is None:
            number = self._channels[topic] = self._add_channel(topic, message)
        data = _encode(message)
        sequence = message.get("offset", 0) & 0xFFFF_FFFF
        self._writer.add_message(number, record.received_ns, data, publish_time=record.published_ns, sequence=sequence)

    def flush(self) -> None:
        self._writer.flush()  # type: ignore[no-untyped-call]  # the library leaves it without types

    def close(self) -> None:
        self._writer.finish()  # type: ignore[no-untyped-call]
        self._file.close()

    def _add_channel(self, topic: str, first: dict[str, Any]) -> int:
        schema = orjson.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **_schema(first, 0)})
        return self._writer.register_channel(topic, "json", self._writer.register_schema(topic, "jsonschema", schema))


def _read_mcap(file: BinaryIO, path: Path) -> Iterator[Record]:
    topics: dict[int, str] = {}
    try:
        for found in StreamReader(file, emit_chunks=True).records:
            for record in breakup_chunk(found, validate_crc=True) if isinstance(found, Chunk) else (found,):
                if isinstance(record, Channel):
                    topics[record.id] = record.topic
                elif isinstance(record, Message):
                    kinds: dict[str, Kind] = {GAPS: "gap", POSITIONS: "positions"}
                    kind = kinds.get(topics[record.channel_id], "event")
                    yield Record(kind, record.log_time, json.loads(record.data))
    except (EndOfFile, struct.error):
        return  # its writer was killed: a record stops in the middle
    except (McapError, ValueError, KeyError) as error:
        raise RecordingError(f"{path}: not a recording, or damaged: {error}") from None


def _schema(value: Any, level: int) -> dict[str, Any]:
    """Return a JSON schema of values like this one, so that tools can offer its fields."""
    if isinstance(value, dict) and level < _SCHEMA_LEVELS_MAX:
        return {"type": "object", "properties": {name: _schema(each, level + 1) for name, each in value.items()}}
    kind = _JSON_TYPES.get(type(value))
    if isinstance(value, list) and value and level < _SCHEMA_LEVELS_MAX:
        return {"type": "array", "items": _schema(value[0], level + 1)}
    return {} if kind is None else {"type": kind}


def _encode(message: dict[str, Any]) -> bytes:
    """Return the message as JSON, with bytes as base64 under the name that the protocol has for them."""
    if isinstance(message.get("data"), bytes):
        message = {**message, "data_base64": b64encode(message["data"]).decode()}
        del message["data"]
    return orjson.dumps(message)
