"""From the frames of a message to its parts."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from gateway.core.sources.errors import Unreadable
from gateway.core.sources.spec import ROLES, Spec


class Parts(NamedTuple):
    """The parts of one message; each is None if the message does not have it."""

    topic: bytes | None = None
    payload: bytes | None = None
    sequence: bytes | None = None
    members: Sequence[tuple[str, bytes]] = ()
    """Frames that are members of `data`."""
    more: Sequence[bytes] = ()
    """Frames beyond the ones that are named."""


Decoder = Callable[[Sequence[bytes]], Iterable[tuple[bytes | str | None, bytes | str]]]
"""A decoder of another package: from the frames of a message to a topic and a payload for each event."""
Framing = Callable[[Sequence[bytes]], Iterable[Parts]]

_SHOWN_BYTES = 40

_decode_any = msgspec.json.Decoder(msgspec.Raw).decode


def make_framing(spec: Spec, decoder: Decoder | None = None) -> Framing:
    """Return the function that finds a message's parts; it raises `Unreadable`."""
    if decoder is not None:
        return _decoded(spec.decoder, decoder)
    return _single(spec) if spec.framing == "single" else _multipart(spec)


def _multipart(spec: Spec) -> Framing:
    roles = spec.frames
    count = len(roles)
    expected = ", ".join("ignored" if role == "-" else role for role in roles)
    without_topic = tuple(role for role in roles if role != "topic") if spec.topic else roles
    named = tuple(role for role in roles if role not in ROLES)

    def read(frames: Sequence[bytes]) -> Iterable[Parts]:
        found = roles
        if len(frames) < count:
            found = without_topic
        if len(frames) < len(found) or (len(frames) > count and spec.more_frames == "reject"):
            raise Unreadable("frame_count", _count_text(frames, f"this source expects {count} ({expected})"))
        parts = dict(zip(found, frames, strict=False))
        more = frames[count:] if spec.more_frames == "members" else ()
        members = tuple((name, parts[name]) for name in named)
        yield Parts(parts.get("topic"), parts.get("payload"), parts.get("sequence"), members, more)

    return read


def _single(spec: Spec) -> Framing:
    split = spec.split.encode()

    def read(frames: Sequence[bytes]) -> Iterable[Parts]:
        if len(frames) != 1:
            raise Unreadable("frame_count", _count_text(frames, 'this source expects 1 (framing = "single")'))
        frame = frames[0]
        if not split:
            return (Parts(payload=frame),)
        topic, payload = _split_json(frame) if split == b"json" else _split_at(frame, split)
        if topic is None and not spec.topic:
            raise Unreadable(
                "bad_topic",
                f"{frame[:_SHOWN_BYTES]!r} has no {spec.split!r} behind a topic; "
                "set `split` to what separates them, or `topic` for messages without one",
            )
        return (Parts(topic, payload),)

    return read


def _split_at(frame: bytes, separator: bytes) -> tuple[bytes | None, bytes]:
    topic, found, payload = frame.partition(separator)
    return (topic, payload) if found else (None, frame)


def _split_json(frame: bytes) -> tuple[bytes | None, bytes]:
    """Split before the first bracket, if JSON begins there: a line of text may have brackets, too."""
    start = min((at for at in (frame.find(b"{"), frame.find(b"[")) if at >= 0), default=0)
    topic, payload = frame[:start].strip(), frame[start:]
    if not topic:
        return None, frame
    try:
        _decode_any(payload)
    except msgspec.DecodeError:
        return None, frame
    return topic, payload


def _decoded(name: str, decoder: Decoder) -> Framing:
    def read(frames: Sequence[bytes]) -> Iterable[Parts]:
        try:
            found = [(_bytes(topic), _bytes(payload)) for topic, payload in decoder(frames)]
        except Exception as error:  # whatever another package's code raises must not stop the gateway
            raise Unreadable("decoder_failed", f"the decoder {name!r} failed: {error!r}") from error
        for topic, payload in found:
            if payload is None:
                raise Unreadable("decoder_failed", f"the decoder {name!r} returned None as payload")
            yield Parts(topic, payload)

    return read


def _bytes(text: object) -> bytes | None:
    match text:
        case None | bytes():
            return text
        case str():
            return text.encode()
        case bytearray() | memoryview():
            return bytes(text)
        case _:
            raise TypeError(f"expected bytes or str, not {type(text).__name__}")


def _count_text(frames: Sequence[bytes], expected: str) -> str:
    return f"the message has {len(frames)} frames, {expected}; {count_remedy(len(frames))} in [[bus.sources]]"


def count_remedy(frames: int) -> str:
    """Say which setting reads messages with this many frames."""
    if frames == 1:
        return 'if topic and payload share the frame, set framing = "single" and `split`'
    if frames == 2:
        return 'if these are topic and payload, set frames = ["topic", "payload"]'
    return "name all frames in `frames`, or set `more_frames`"
