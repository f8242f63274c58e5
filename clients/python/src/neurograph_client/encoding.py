"""Messages as JSON, or as MessagePack by msgspec, which is imported when it is first needed."""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Literal

import orjson


Encoding = Literal["json", "msgpack"]

MSGPACK = "neurograph.msgpack"
"""The subprotocol in which every message is MessagePack."""


def subprotocols(encoding: Encoding) -> tuple[str, ...]:
    """Return what to offer; a gateway that does not know the first chooses the second, and speaks JSON."""
    return (MSGPACK, "neurograph") if encoding == "msgpack" else ()


def check_installed(encoding: Encoding) -> None:
    """Raise ImportError, with what to do, if the library for an encoding is not installed."""
    if encoding == "msgpack":
        try:
            import msgspec.msgpack  # noqa: F401
        except ImportError as error:
            raise ImportError("MessagePack needs msgspec: pip install 'neurograph-client[msgpack]'") from error


def to_json(message: Mapping[str, Any]) -> bytes:
    """Encode a message; an event that is bytes, or has bytes as its `data`, has them in base64."""
    event = message.get("event")
    if isinstance(event, bytes):
        event = {"data_base64": b64encode(event).decode()}
    elif isinstance(event, dict) and isinstance(event.get("data"), bytes):
        event = {**event, "data_base64": b64encode(event["data"]).decode()}
        del event["data"]
    return orjson.dumps(message if event is None else {**message, "event": event})


def to_msgpack(message: Mapping[str, Any]) -> bytes:
    import msgspec.msgpack

    return msgspec.msgpack.encode(message)


def from_msgpack(data: bytes) -> dict[str, Any]:
    """Return what a binary message says.

    Raises:
        ValueError: It is no MessagePack.
    """
    import msgspec.msgpack

    message: dict[str, Any] = msgspec.msgpack.decode(data)
    return message
