"""What to change about a message that is rejected: for the doctor, and beside each rejection."""

import re
from collections.abc import Sequence

from gateway.core.ingest.inspection import describe_frame, format_of
from gateway.core.protocol.envelope import is_envelope
from gateway.core.protocol.events import STANDARD


_LOOKED_AT_BYTES = 512
"""A message is rejected at the speed of the bus, however large it is."""


def remedy(reason: str, frames: Sequence[bytes]) -> str:
    """Return what to change about a message that was rejected for a reason."""
    topic, payload = (frame[:_LOOKED_AT_BYTES] for frame in (*frames, b"", b"")[:2])
    match reason:
        case "invalid_event" if (name := topic.decode(errors="replace")) in STANDARD:
            return f"{name} is a typed channel (docs/protocol.md, Events): send such events, or use another topic"
        case "oversized":
            return "raise ingest.payload_bytes_max, or publish less at once"
        case "nested_too_deeply":
            return "raise ingest.nesting_max, or send flatter values"
        case "too_many_channels":
            return "raise ingest.channels_max, or use fewer topics"
        case "failed":
            return "report it as a fault of the gateway, with the message"
        case "number_out_of_range":
            return "send such numbers as strings"
        case "reserved_field":
            return "rename these members, or put them into data"
        case "bad_heartbeat":
            return "send heartbeats as docs/protocol.md describes them, or use another topic"
        case "bad_envelope" if is_envelope(frames[2]):
            return "count each topic's sequence numbers from 1"
        case "too_many_streams":
            return "raise ingest.streams_max, or let fewer publishers use fewer topics"
        case "invalid_json" | "invalid_utf8" if payload.lstrip().startswith((b"{", b"[", b'"')):
            return "write the payload with a JSON library, in UTF-8"
        case "bad_sequence" | "bad_compression" | "invalid_msgpack" | "too_many_documents" | "decoder_failed":
            return "correct the settings of the endpoint's source, see docs/decoders.md"
        case "invalid_event":
            return "send an event as docs/protocol.md describes it"
    return advice(frames)


def advice(frames: Sequence[bytes]) -> str:
    """Return what a message that the gateway rejects seems to be, and what to change."""
    if len(frames) == 1:
        [frame] = frames
        if name := format_of(frame):
            return f"one frame of {name}, without a topic: send the topic as the first frame, and JSON as the second"
        if separator := re.match(rb"[!-9;-Z^-z|~]{1,255}([ \t:{\[])", frame):  # a topic, and what ends it
            between = {b" ": "a space", b"\t": "a tab", b":": "a colon"}.get(separator[1], "the begin of the JSON")
            return f"topic and payload in one frame, separated by {between}: send them as two frames (send_multipart)"
        return "one frame without a topic: send the topic as the first frame, and JSON as the second (send_multipart)"
    if not frames:
        return "a message without frames: send a topic and a payload"
    topic, payload = frames[0][:_LOOKED_AT_BYTES], frames[1][:_LOOKED_AT_BYTES]
    if not topic:
        return "the topic is empty: give each kind of event a topic, such as `sensors.temperature`"
    if wrong := sorted(set(re.sub(r"[A-Za-z0-9._-]", "", topic.decode(errors="replace")))):
        return f"the topic has {', '.join(map(repr, wrong))}: use letters, digits, `_`, `-`, and dots between segments"
    if len(frames) > 3:
        return "more frames than a topic, a payload and an envelope: put the data into one frame of JSON"
    if len(frames) == 3 and not is_envelope(frames[2]):
        return f"the third frame is no envelope but {describe_frame(frames[2])}: leave it out, or send an envelope"
    if name := format_of(payload):
        return f"the payload is {name}: send JSON"
    if payload[:1] and (payload[0] >= 0x80 or 0 < payload[0] < 9):
        return "the payload is binary, perhaps MessagePack or protobuf: send JSON"
    return "the payload is text that is not JSON: send it as a JSON string, in quotation marks"
