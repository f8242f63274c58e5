"""Which settings would read the messages of an unknown publisher.

Presets are tried if a message looks like theirs, then one table of steps that is made by looking at the
frames. What is suggested has been tried: it decodes the message."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from gateway.core.protocol.channels import is_topic
from gateway.core.protocol.envelope import is_envelope
from gateway.core.sources.compression import make_decompress
from gateway.core.sources.errors import Unreadable
from gateway.core.sources.payload import is_json, is_text, make_convert, without_nan
from gateway.core.sources.presets import PRESETS
from gateway.core.sources.source import Steps
from gateway.core.sources.spec import Spec


Table = dict[str, object]
Frames = Sequence[bytes]

BYTES_MAX = 1024 * 1024
NAME = "events"
"""The topic that is suggested where a message has none."""

_LEVEL = re.compile(rb"(^|\.)(DEBUG|INFO|WARN|WARNING|ERROR|CRITICAL)(\.|$)")
_BITCOIN = {b"hashblock", b"hashtx", b"rawblock", b"rawtx", b"sequence", b"hashwallettx"}
_PUPIL = re.compile(rb"(gaze|pupil|fixations?|blinks?|frame|notify|surfaces|logging|hmd_eye)\.")
_SYSLOG = re.compile(rb"<\d{1,3}>|[A-Z][a-z]{2} [ \d]\d \d\d:|\d{4}-\d\d-\d\dT|[\w.-]*syslog[\w.-]*\{")
_TOPIC_BYTES_MAX = 255
_SAMPLE_BYTES = 4
_ID_BYTES_MAX = 16
_NUMBERS_MAX = {4: 2**24, 8: 2**40}
"""Sizes of sequence numbers, and what they are below."""

_LOOKS: Mapping[str, Callable[[Frames], bool]] = {
    "pyzmq-log": lambda frames: len(frames) == 2 and bool(_LEVEL.search(frames[0])),
    "jupyter-iopub": lambda frames: len(frames) >= 7 and frames[1] == b"<IDS|MSG>",
    "vllm-kv": lambda frames: len(frames) == 3 and len(frames[1]) == 8 and frames[2][:1] in {b"\x92", b"\x93"},
    "bitcoin": lambda frames: len(frames) == 3 and len(frames[2]) == 4 and frames[0] in _BITCOIN,
    "pupil": lambda frames: len(frames) > 1 and bool(_PUPIL.match(frames[0])) and _is_msgpack(frames[1]),
    "frigate": lambda frames: len(frames) == 1 and bool(re.match(rb"[a-z_]+/\w* ?\{", frames[0])),
    "eddn": lambda frames: len(frames) == 1 and _decompressed(frames[0], "zlib").startswith(b'{"$schemaRef"'),
    "rsyslog": lambda frames: len(frames) == 1 and bool(_SYSLOG.match(frames[0])),
    "gnuradio": lambda frames: 0 < len(frames) < 3 and _is_samples(frames[-1]) and all(map(_is_key, frames[:-1])),
    "monero": lambda frames: len(frames) == 1 and frames[0].startswith((b"json-full-", b"json-minimal-")),
}


@dataclass(frozen=True)
class Suggestion:
    """Settings that read a message, and what comes of it; without settings, the endpoint needs no source."""

    settings: Mapping[str, object]
    channel: str
    data: bytes
    """The first event's payload, in JSON."""


def as_toml(source: Mapping[str, object]) -> str:
    """Return the table of a source for the configuration file."""
    return "\n".join(["[[bus.sources]]", *(f"{name} = {json.dumps(value)}" for name, value in source.items())]) + "\n"


def suggest(frames: Frames) -> list[Suggestion]:
    """Return what would read a message, the best first; empty if nothing was found."""
    if _needs_no_source(frames):
        return [Suggestion({}, frames[0].decode(), frames[1])]
    presets: Iterator[Table] = ({"preset": name} for name, looks in _LOOKS.items() if looks(frames))
    tried = (_try(table, frames) for table in (*presets, *_composed(frames)))
    return [found for found in tried if found is not None]


def _needs_no_source(frames: Frames) -> bool:
    return (
        2 <= len(frames) <= 3
        and is_topic(frames[0].decode("ascii", "replace"))
        and is_json(frames[1])
        and all(map(is_envelope, frames[2:]))
    )


def _try(table: Table, frames: Frames) -> Suggestion | None:
    """Read a message with a table; None if it does not fit."""
    settings = {**PRESETS.get(str(table.get("preset")), {}), **table}
    settings.pop("preset", None)
    try:
        steps = Steps(msgspec.convert(settings, Spec), bytes_max=BYTES_MAX)
        decoded = [one for one in steps.decode(frames) if one.payloads]
    except Unreadable:
        return None
    if not decoded or not all(is_json(payload) for one in decoded for payload in one.payloads):
        return None
    return Suggestion(table, decoded[0].channel, decoded[0].payloads[0])


def _composed(frames: Frames) -> Iterator[Table]:
    """Yield tables made by looking at the frames."""
    if len(frames) == 1:
        yield from _of_single_frame(frames[0])
    elif frames:
        roles = _roles(frames)
        parts = dict(zip(roles, frames, strict=True))
        table: Table = {} if roles == ["topic", "payload"] else {"frames": roles}
        if "sequence" in parts:
            table["sequence"] = _sequence(parts["sequence"])
        yield {**table, **_topic_settings(parts.get("topic")), **_payload_settings(parts.get("payload", b""))}


def _of_single_frame(frame: bytes) -> Iterator[Table]:
    for split in ("\t", ":", "json", " "):
        at = (re.search(rb"[{\[]", frame) if split == "json" else re.search(split.encode(), frame)) or None
        topic = frame[: at.start()].strip() if at else b""
        if at and _is_key(topic) and topic:
            payload = frame[at.start() :] if split == "json" else frame[at.end() :]
            if split in "\t " or is_json(payload):
                table: Table = {"framing": "single", "split": split}
                yield {**table, **_topic_settings(topic), **_payload_settings(payload)}
                break
    yield {"framing": "single", "topic": NAME, **_payload_settings(frame)}


def _roles(frames: Frames) -> list[str]:
    """Return what each of several frames probably is."""
    roles = {at: f"frame{at}" if frame and is_text(frame) else "-" for at, frame in enumerate(frames)}
    free = list(roles)
    if _is_key(frames[0]):
        roles[free.pop(0)] = "topic"
    number = next((at for at in free if _is_number(frames[at])), None)
    if number is not None and len(free) > 1:
        roles[number] = "sequence"
        free.remove(number)
    roles[max(free, key=lambda at: _payload_rank(frames[at]))] = "payload"
    return list(roles.values())


def _payload_rank(frame: bytes) -> tuple[int, int]:
    """Return how much a frame looks like the payload, and not like an id or a header."""
    if _is_msgpack(frame):
        return 4, len(frame)
    if not is_text(frame):
        return 3 if len(frame) > _ID_BYTES_MAX else 1, len(frame)
    return 2 if is_json(frame) else 0, len(frame)


def _is_number(frame: bytes) -> bool:
    below = _NUMBERS_MAX.get(len(frame), 0)
    return min(int.from_bytes(frame, "big"), int.from_bytes(frame, "little")) < below and not is_text(frame)


def _sequence(number: bytes) -> str:
    order = "be" if int.from_bytes(number, "big") <= int.from_bytes(number, "little") else "le"
    return f"{order}{8 * len(number)}"


def _topic_settings(topic: bytes | None) -> Table:
    if topic is None:
        return {"topic": NAME}
    if not topic:
        return {"empty_topic": NAME}
    return next(({"separator": one} for one in ("/", " ") if one.encode() in topic), {})


def _payload_settings(payload: bytes) -> Table:
    for compression in ("gzip", "zlib"):
        if found := _decompressed(payload, compression):
            return {"compression": compression, **_payload_settings(found)}
    if is_json(payload):
        return {}
    if is_json(without_nan(payload)):
        return {"nan": "null"}
    if _is_msgpack(payload):
        return {"payload": "msgpack"}
    if payload.startswith((b"{", b"[")) and all(is_json(line) for line in payload.splitlines() if line.strip()):
        return {"documents": "several"}
    if is_text(payload):
        return {"payload": "text"}
    return {"payload": "raw"}


def _is_key(frame: bytes) -> bool:
    """Return whether a frame can be a topic; it may be empty."""
    return len(frame) <= _TOPIC_BYTES_MAX and is_text(frame) and not re.search(rb"[{\[\n]", frame)


def _is_msgpack(payload: bytes) -> bool:
    """Return whether bytes are a MessagePack map or array; nearly any bytes are some MessagePack."""
    found = make_convert("auto", nan_is_null=True)(payload)
    return not is_text(payload) and not found.startswith(b'{"base64":')


def _is_samples(frame: bytes) -> bool:
    return (
        len(frame) >= _SAMPLE_BYTES and len(frame) % _SAMPLE_BYTES == 0 and not (is_text(frame) or _is_msgpack(frame))
    )


def _decompressed(payload: bytes, compression: str) -> bytes:
    """Return what was compressed; empty if nothing was."""
    if not payload.startswith((b"\x1f\x8b", b"\x78")):
        return b""
    try:
        return make_decompress("gzip" if compression == "gzip" else "zlib", bytes_max=BYTES_MAX)(payload)
    except Unreadable:
        return b""
