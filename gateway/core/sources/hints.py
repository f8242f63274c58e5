"""Which settings of a source would help with a message that was rejected without one."""

from collections.abc import Sequence

from gateway.core.sources.payload import is_json, is_text, without_nan


_LOOKED_AT_BYTES = 65_536
_WHERE = "for this endpoint in [[bus.sources]]"


def hint(reason: str, frames: Sequence[bytes]) -> str:
    """Return what to set, to follow the reason's sentence; empty if no setting would help."""
    payload = frames[1] if len(frames) > 1 else b""
    match reason:
        case "frame_count" if len(frames) == 1:
            what = 'if topic and payload share the frame, set framing = "single" and `split`'
        case "frame_count" if len(frames) > 1:
            what = "name what each frame is with `frames`"
        case "bad_topic":
            what = _topic_hint(frames[0] if frames else b"")
        case "bad_envelope":
            what = 'if the third frame is no envelope, name the frames, as in frames = ["topic", "payload", "-"]'
        case "invalid_json" | "invalid_utf8":
            what = payload_hint(payload)
        case _:
            return ""
    return f"; {what} {_WHERE}" if what else ""


def payload_hint(payload: bytes) -> str:
    """Return what to set for a payload that is no JSON; empty if it is empty, or looks like JSON that was cut or misspelt."""
    if not payload.strip():
        return ""
    if payload.startswith(b"\x1f\x8b"):
        return 'it looks compressed: set compression = "gzip"'
    if payload.startswith((b"\x78\x01", b"\x78\x9c", b"\x78\xda")):
        return 'it looks compressed: set compression = "zlib"'
    if len(payload) > _LOOKED_AT_BYTES:
        return ""
    if not is_text(payload):
        return 'if it is MessagePack, set payload = "msgpack", else "raw",'
    if is_json(without_nan(payload)):
        return 'or set nan = "null"'
    if payload.startswith((b"{", b"[")):
        lines = [line for line in payload.splitlines() if line.strip()]
        return 'these are several JSON texts: set documents = "several"' if all(map(is_json, lines)) else ""
    return 'it looks like text: set payload = "text" or "auto"'


def _topic_hint(topic: bytes) -> str:
    if not topic:
        return "name the channel of empty topics with `empty_topic`"
    if b"/" in topic:
        return 'set separator = "/"'
    return "a source maps any topic to a channel: add one"
