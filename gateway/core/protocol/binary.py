"""Events that carry bytes: base64 in JSON, and one binary message for clients that ask for that.

In JSON, the event has ``data_base64`` in place of ``data``, always as the first of its `fields`. The binary
message is the length of a header in 4 bytes, the header, and the bytes; the header is the event as JSON
without ``data_base64`` (docs/protocol.md, part 2).
"""

import re
from base64 import b64decode, b64encode

import msgspec

from gateway.core.protocol.frames import binary_frame, text_payload


MEMBER = "data_base64"
MARK = b'"data_base64":"'
"""Frames without it carry no bytes."""

_EVENT = re.compile(
    rb'(\{"type":"event","channel":"[^"]*","offset":\d+(?:,"epoch":"[^"]*")?),"data_base64":"([A-Za-z0-9+/=]*)"'
)
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode


def bytes_fields(payload: bytes) -> bytes:
    """Return the fields of an event that carries bytes, with `data_base64` first.

    `payload` is a JSON object with that member, as text.

    Raises:
        ValueError: `data_base64` is not base64.
    """
    members = _decode_members(payload)
    text = _decode_text(members.pop(MEMBER))
    if bytes(members.get("timestamp", b"")) == b"null":
        del members["timestamp"]
    try:
        found = b64encode(b64decode(text, validate=True))
    except ValueError as error:
        raise ValueError(f"`{MEMBER}` must be base64 with padding (RFC 4648, section 4): {error}") from None
    others = [b",%b:%b" % (msgspec.json.encode(name), value) for name, value in members.items()]
    return b'%b%b"%b' % (MARK, found, b"".join(others))


def with_bytes(frame: bytes) -> bytes:
    """Return the binary frame of an event that carries bytes; any other text frame as it is."""
    if MARK not in frame:
        return frame
    payload = text_payload(frame)
    event = _EVENT.match(payload)
    if event is None:  # the words stand elsewhere in an event
        return frame
    header = event[1] + payload[event.end() :]
    return binary_frame(len(header).to_bytes(4) + header + b64decode(event[2]))
