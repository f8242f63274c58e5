"""From a payload to JSON.

Bytes that JSON cannot hold are an object with one member: ``{"base64": "…"}``; a payload that is bytes as a whole
becomes an event that carries bytes, with `data_base64`."""

import json
import re
from collections.abc import Callable

import msgspec

from gateway.core.protocol import msgpack
from gateway.core.protocol.binary import MEMBER
from gateway.core.protocol.nesting import STRING
from gateway.core.sources.errors import Unreadable
from gateway.core.sources.spec import Payload, Spec


DOCUMENTS_MAX = 10_000
"""JSON texts in one payload."""

Convert = Callable[[bytes], bytes]

_encode = msgspec.json.Encoder(enc_hook=repr).encode
_decode_any = msgspec.json.Decoder(msgspec.Raw).decode
_scan = json.JSONDecoder().raw_decode

_NOT_JSON_NUMBER = re.compile(STRING + rb"|-?\b(?:NaN|Infinity)\b", re.DOTALL)
_CONTROL_BYTES = bytes({*range(32)} - set(b"\t\n\r\x1b"))
_MAP_OR_ARRAY = bytes({*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF})
"""First bytes of MessagePack that is a map or an array."""
_SPACE = re.compile(r"[ \t\n\r]*")


def make_payload(spec: Spec) -> Callable[[bytes], list[bytes]]:
    """Return a function from a payload to its JSON texts, one for each event; it raises `Unreadable`.

    With ``payload = "json"`` the texts need not be valid: ingest checks them."""
    convert = make_convert(spec.payload, nan_is_null=spec.nan == "null", raw=raw_to_event)
    if spec.documents == "several":
        return lambda payload: _several(convert(payload))
    return lambda payload: [convert(payload)]


def make_convert(payload: Payload, *, nan_is_null: bool, raw: Convert | None = None) -> Convert:
    """Return a function from bytes of one kind to JSON; `raw` converts those that are nothing else."""
    raw = raw or raw_to_json

    def from_json(payload: bytes) -> bytes:
        return without_nan(payload) if nan_is_null else payload

    def from_msgpack(payload: bytes) -> bytes:
        return msgpack_to_json(payload, nan_is_null=nan_is_null)

    def from_anything(payload: bytes) -> bytes:
        if not payload:
            return b"null"
        if is_text(payload):
            found = from_json(payload)
            return found if is_json(found) else text_to_json(payload)
        if payload[0] in _MAP_OR_ARRAY:
            try:
                return from_msgpack(payload)
            except Unreadable:
                pass
        return raw(payload)

    kinds: dict[Payload, Convert] = {
        "json": from_json,
        "text": text_to_json,
        "msgpack": from_msgpack,
        "raw": raw,
        "hex": hex_to_json,
        "auto": from_anything,
    }
    return kinds[payload]


def is_json(payload: bytes) -> bool:
    try:
        _decode_any(payload)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def is_text(payload: bytes) -> bool:
    """Return whether bytes are UTF-8 without control characters other than those of terminals."""
    if len(payload.translate(None, _CONTROL_BYTES)) != len(payload):
        return False
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def text_to_json(payload: bytes) -> bytes:
    try:
        return _encode(payload.decode())
    except UnicodeDecodeError as error:
        raise Unreadable("invalid_utf8", f'{error}; set payload = "raw" or "auto" in [[bus.sources]]') from error


def raw_to_json(payload: bytes) -> bytes:
    return _encode({"base64": payload})


def raw_to_event(payload: bytes) -> bytes:
    """Return an event that carries bytes (`gateway.core.protocol.binary`)."""
    return _encode({MEMBER: payload})


def hex_to_json(payload: bytes) -> bytes:
    return b'"%b"' % payload.hex().encode()


def without_nan(payload: bytes) -> bytes:
    """Replace NaN and infinities, as Python's `json` writes them, by null."""
    if b"NaN" not in payload and b"Infinity" not in payload:
        return payload
    return _NOT_JSON_NUMBER.sub(lambda match: match[0] if match[0].startswith(b'"') else b"null", payload)


def msgpack_to_json(payload: bytes, *, nan_is_null: bool) -> bytes:
    """Convert MessagePack: bytes and extensions become base64, keys become strings."""
    try:
        return msgpack.to_json(payload, nan_is_null=nan_is_null)
    except RecursionError as error:
        raise Unreadable("nested_too_deeply", "the MessagePack is nested too deeply") from error
    except msgpack.NotFinite as error:
        raise Unreadable("number_out_of_range", f'{error}; set nan = "null" in [[bus.sources]]') from error
    except ValueError as error:
        raise Unreadable("invalid_msgpack", f"no valid MessagePack: {error}") from error


def _several(payload: bytes) -> list[bytes]:
    """Split JSON texts that follow one another, with or without white space between them."""
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise Unreadable("invalid_utf8", str(error)) from error
    found: list[bytes] = []
    at = _after_space(text, 0)
    while at < len(text):
        if len(found) >= DOCUMENTS_MAX:
            raise Unreadable("too_many_documents", f"the payload has more than {DOCUMENTS_MAX} JSON texts")
        try:
            _, end = _scan(text, at)
        except RecursionError as error:
            raise Unreadable("nested_too_deeply", "a JSON text is nested too deeply") from error
        except ValueError as error:
            raise Unreadable("invalid_json", f"in JSON text {len(found) + 1}: {error}") from error
        found.append(text[at:end].encode())
        at = _after_space(text, end)
    if not found:
        raise Unreadable("invalid_json", "the payload has no JSON text")
    return found


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
