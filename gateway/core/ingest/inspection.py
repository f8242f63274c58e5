"""Shows the frames of a message to people: their sizes, and what is inside, also of binary ones."""

import re
from collections.abc import Sequence

from gateway.core.protocol.envelope import is_envelope


_FRAMES_MAX = 8
_CHARS_MAX = 100
_BYTES_MAX = 24
_AROUND_BYTES = 12
_BYTE = re.compile(r"\(byte (\d+)\)$")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_NOT_JSON = re.compile(rb"-?(?:NaN|Infinity|inf|nan)|True|False|None|'")
_WITHOUT_BREAKS = dict.fromkeys(map(ord, "\t\r\n"))
_FORMATS = (
    (b"\x1f\x8b", "gzip"),
    (b"\x78\x9c", "zlib"),
    (b"\x78\x01", "zlib"),
    (b"\x78\xda", "zlib"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xef\xbb\xbf", "UTF-8 with a byte order mark"),
    (b"\x80\x04\x95", "Python pickle"),
    (b"\x80\x05\x95", "Python pickle"),
)


def describe_frames(frames: Sequence[bytes]) -> str:
    """Return all frames of a message on one line, as in ``2 frames: `logs` (4 bytes), hex 0a ff (2 bytes)``."""
    shown = [describe_frame(frame) for frame in frames[:_FRAMES_MAX]]
    if len(frames) > _FRAMES_MAX:
        shown.append("…")
    return f"{len(frames)} frame{'s' if len(frames) != 1 else ''}: {', '.join(shown)}"


def describe_frame(frame: bytes) -> str:
    """Return a frame's text, or its first bytes in hexadecimal with its format if that is known, and its size."""
    size = f"({len(frame)} byte{'s' if len(frame) != 1 else ''})"
    if not frame:
        return "empty (0 bytes)"
    if is_envelope(frame):
        return f"an envelope {size}"
    text = _text(frame)
    if text is not None:
        return f"`{text[:_CHARS_MAX]}{'…' if len(text) > _CHARS_MAX else ''}` {size}"
    name = format_of(frame)
    start = f"hex {frame[:_BYTES_MAX].hex(' ')}{' …' if len(frame) > _BYTES_MAX else ''}"
    return f"{name + ', ' if name else ''}{start} {size}"


def format_of(frame: bytes) -> str:
    """Return the name of a binary frame's format, as its first bytes tell; "" if they do not."""
    return next((name for magic, name in _FORMATS if frame.startswith(magic)), "")


def topic_problem(topic: bytes, bytes_max: int) -> str:
    """Return what is wrong with a topic that is not valid, to follow it."""
    if not topic:
        return "it is empty"
    if len(topic) > bytes_max:
        return f"it has {len(topic)} bytes, more than {bytes_max}"
    if wrong := sorted(set(re.sub(r"[A-Za-z0-9._-]", "", topic.decode(errors="replace")))):
        return f"it has {', '.join(map(repr, wrong))}"
    return "it has an empty segment"


def json_problem(payload: bytes, error: str) -> str:
    """Return why a payload is not JSON; `error` is the decoder's text, with the byte if it knows it."""
    if ("truncated" in error or "surrogate" in error) and (half := _SURROGATE.search(payload)):
        return f"a string has half of a surrogate pair, {half[0].decode()}, which is no character"
    if "truncated" in error:
        return "the JSON text ends too early" if payload.strip() else "the payload is empty"
    at = _BYTE.search(error)
    if at is None:
        return error
    place = int(at[1])
    if wrong := _NOT_JSON.match(payload, max(place - 1, 0)) or _NOT_JSON.match(payload, place):
        return f"{wrong[0].decode()} is not JSON (byte {wrong.start()}); send null, true, false, a number or a string"
    start = max(place - _AROUND_BYTES, 0)
    return f"{error}, near {describe_frame(payload[start : place + _AROUND_BYTES]).rpartition(' (')[0]}"


def _text(frame: bytes) -> str | None:
    """Return the begin of a frame as text with its control characters escaped, None if it is binary."""
    cut = frame[: 4 * _CHARS_MAX + 4]
    try:
        text = cut.decode()
    except UnicodeDecodeError as error:
        if len(cut) == len(frame) or error.start < len(cut) - 3:
            return None
        text = cut[: error.start].decode()  # a character was cut in two
    if text.isprintable():  # ~50x faster than character by character: there may be a flood of rejections
        return text
    if not text.translate(_WITHOUT_BREAKS).isprintable():
        return None
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: _CHARS_MAX + 1])
