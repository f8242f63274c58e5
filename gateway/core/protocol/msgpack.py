"""The protocol in MessagePack: each message of the WebSocket as one binary message (docs/protocol.md, part 2).

Events are encoded from their text frames, each once for all clients that ask for it; for others nothing is done."""

from collections.abc import Callable
from datetime import datetime
from math import isfinite

import msgspec

from gateway.core.protocol.binary import MEMBER, with_bytes
from gateway.core.protocol.encoders import Encoder, NewestCache
from gateway.core.protocol.errors import ErrorCode, RequestError
from gateway.core.protocol.frames import binary_frame, is_binary, text_payload


NAME = "msgpack"

_encode_json = msgspec.json.Encoder(enc_hook=repr).encode
_decode_json = msgspec.json.Decoder().decode
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
_INTEGERS = range(-(2**63), 2**64)


class NotFinite(ValueError):
    """JSON has no such number."""


def to_json(payload: bytes, *, nan_is_null: bool = False) -> bytes:
    """Convert MessagePack: bytes and extensions become base64, keys become strings.

    Raises:
        NotFinite: A number is NaN or infinite, and `nan_is_null` is not set.
        ValueError: It is no valid MessagePack.
        RecursionError: It is nested too deeply.
    """
    try:
        return _encode_json(_plain(_decode(payload), nan_is_null))
    except (msgspec.DecodeError, TypeError) as error:  # TypeError: a key that is a map
        raise ValueError(str(error)) from error


def message_to_json(payload: bytes) -> bytes:
    """Convert a client's message. If the event that it publishes is bytes, or has bytes as its `data`, the
    event has `data_base64` instead.

    Raises:
        RequestError: It is no valid MessagePack, or JSON cannot hold it.
    """
    try:
        message = _decode(payload)
        if isinstance(message, dict) and message.get("type") == "publish" and "event" in message:
            message["event"] = _event(message["event"])
        return _encode_json(_plain(message, nan_is_null=False))
    except RecursionError as error:
        raise RequestError(ErrorCode.INVALID_MSGPACK, "the message is nested too deeply") from error
    except (msgspec.DecodeError, TypeError, ValueError) as error:
        raise RequestError(ErrorCode.INVALID_MSGPACK, f"no valid MessagePack for JSON: {error}") from error


def _event(event: object) -> object:
    if isinstance(event, bytes):
        return {MEMBER: _base64(event)}
    if isinstance(event, dict) and isinstance(event.get("data"), bytes) and MEMBER not in event:
        return {MEMBER: _base64(event["data"]), **{key: one for key, one in event.items() if key != "data"}}
    return event


def _base64(data: bytes) -> str:
    return str(msgspec.to_builtins(data))


def _plain(value: object, nan_is_null: bool) -> object:
    """Return a value that JSON can hold."""
    match value:
        case dict():
            found = {_key(key): _plain(one, nan_is_null) for key, one in value.items()}
            if len(found) < len(value):
                raise ValueError("two keys of a map are the same as JSON strings")
            return found
        case list() | tuple():
            return [_plain(one, nan_is_null) for one in value]
        case bytes():
            return {"base64": value}
        case msgspec.msgpack.Ext(code=code, data=data):
            return {"ext": code, "base64": bytes(data)}
        case float() if not isfinite(value):
            if nan_is_null:
                return None
            raise NotFinite(f"{value} is no JSON")
        case _:
            return value


def _key(key: object) -> str:
    match key:
        case str():
            return key
        case bytes():
            try:
                return key.decode()
            except UnicodeDecodeError:
                return key.hex()
        case datetime():
            return key.isoformat()
        case _:
            return _encode_json(_plain(key, True)).decode()


class MsgpackEncoders:
    """Encodes frames in MessagePack, each of the newest once for all connections."""

    def __init__(self, compress: Callable[[bytes, int], bytes]) -> None:
        self._compress = compress
        self._encoders: dict[int | None, Encoder] = {}
        self._cache: NewestCache[bytes, tuple[bytes, bool]] = NewestCache()

    def encoder(self, bits: int | None) -> Encoder:
        """Return the encoder for all connections whose clients have a window of so many bits for compressed
        messages; None for those that have none."""
        if bits not in self._encoders:
            self._encoders[bits] = Encoder(lambda frame: self._frame(frame, bits))
        return self._encoders[bits]

    def _frame(self, frame: bytes, bits: int | None) -> bytes:
        found = self._cache.get(frame)
        if found is None:
            made = from_frame(frame)
            found = self._cache.add(frame, made, len(frame) + len(made[0]))
        packed, carries_bytes = found
        # Bytes are images and the like, which are compressed already.
        return packed if bits is None or carries_bytes else self._compress(packed, bits)


def from_frame(frame: bytes) -> tuple[bytes, bool]:
    """Return the frame of a message in MessagePack, and whether it is an event that carries bytes, as its `data`."""
    frame = with_bytes(frame)
    payload = text_payload(frame)
    if not is_binary(frame):
        return binary_frame(_packed(_decode_json(payload))), False
    end = 4 + int.from_bytes(payload[:4])
    return binary_frame(_packed({**_decode_json(payload[4:end]), "data": payload[end:]})), True


def _packed(message: object) -> bytes:
    try:
        return _encode(message)
    except OverflowError:  # ingest accepts integers that fit a double
        return _encode(_without_large_integers(message))


def _without_large_integers(value: object) -> object:
    match value:
        case dict():
            return {key: _without_large_integers(one) for key, one in value.items()}
        case list():
            return [_without_large_integers(one) for one in value]
        case int() if value not in _INTEGERS:
            return float(value)
        case _:
            return value
