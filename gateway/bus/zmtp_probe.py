"""Finds out what listens at an endpoint, with the first bytes of ZMTP 3 (ZeroMQ RFC 23 and 37).

libzmq does not say why a handshake fails. The probe reads the peer's greeting, and without encryption
its READY command, which names the kind of its socket; then it closes the connection. It sends no READY,
so it never counts as a subscriber."""

import asyncio
import contextlib
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal


SECONDS = 3.0
"""The probe ends after about this time, whatever the other side does."""

Receiver = Literal["sub", "pull"]
"""The kind of the gateway's own socket."""
SENDERS: Mapping[Receiver, Sequence[str]] = {"sub": ("PUB", "XPUB"), "pull": ("PUSH",)}
"""The kinds of sockets that each can receive from."""

State = Literal["unreachable", "silent", "hung", "closed", "foreign", "zmtp"]

_SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
_VERSION = b"\x03\x00"
_OPENING_BYTES = 64
_REST = b"NULL".ljust(20, b"\0") + bytes(32)
_KINDS_2 = ("PAIR", "PUB", "SUB", "REQ", "REP", "DEALER", "ROUTER", "PULL", "PUSH", "XPUB", "XSUB")
"""The kinds of sockets by their numbers in ZMTP 2 (RFC 15)."""
_COMMAND, _LONG = 4, 2
_SHOWN_BYTES = 64
_HTTP_REQUEST = b"GET / HTTP/1.0\r\n\r\n"
_COMMAND_BYTES_MAX = 4096


@dataclass(frozen=True, slots=True)
class Peer:
    """What listens at an endpoint."""

    state: State
    """``unreachable``, ``silent`` (sends nothing), ``hung`` (begins ZeroMQ's greeting and does not end it), ``closed``
    (before it has sent that), ``foreign`` (not ZeroMQ) or ``zmtp``."""
    detail: str = ""
    """Why it is unreachable, or what it is instead, as in "an HTTP server"."""
    version: str = ""
    """The version of ZMTP."""
    mechanism: str = ""
    """``NULL``, ``CURVE``, ``PLAIN`` or ``GSSAPI``."""
    kind: str = ""
    """The kind of its socket, as in ``PUB``; empty if it was not sent, as under encryption."""


async def probe(endpoint: str, *, seconds: float = SECONDS) -> Peer:
    """Return what listens at a ``tcp://`` or ``ipc://`` endpoint."""
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await _connect(endpoint)
    except TimeoutError:
        return Peer("unreachable", f"it does not answer within {seconds:g} s")
    except (OSError, ValueError) as error:
        return Peer("unreachable", _reason(error))
    try:
        peer = await identify(reader, writer, seconds=seconds)
    finally:
        await _close(writer)
    return await _ask_for_http(endpoint, seconds) if peer.state == "silent" else peer


async def identify(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, seconds: float = SECONDS) -> Peer:
    """Exchange greetings on an open connection, and return what the other side is."""
    received = bytearray()
    # After the mechanism of a peer that has another one libzmq would close the connection at once; so the
    # rest is only sent when the peer has sent its own.
    writer.write(_SIGNATURE + _VERSION)
    full = await _receive(reader, received, _OPENING_BYTES, seconds / 3)
    if not full and _is_signature(received):
        writer.write(_REST)  # some wait for the whole greeting
        await _receive(reader, received, _OPENING_BYTES, seconds / 3)
    if not received:
        return Peer("closed" if reader.at_eof() else "silent")
    if not _is_signature(received):
        return Peer("foreign", _foreign(bytes(received)))
    if len(received) > 11 and received[10] < 3:
        number = received[11]
        kind = _KINDS_2[number] if number < len(_KINDS_2) else ""
        return Peer("zmtp", version="2.0", mechanism="NULL", kind=kind)
    if len(received) < _OPENING_BYTES:
        return Peer("closed" if reader.at_eof() else "hung")
    version, mechanism = (
        f"{received[10]}.{received[11]}",
        bytes(received[12:32]).rstrip(b"\0").decode("ascii", "replace"),
    )
    kind = ""
    if mechanism == "NULL":
        if full:
            writer.write(_REST)
        kind = await _read_kind(reader, received, seconds / 3)
    return Peer("zmtp", version=version, mechanism=mechanism, kind=kind)


def problem(peer: Peer, *, curve: bool, receiver: Receiver = "sub") -> str:
    """Return why a gateway that connects cannot receive from this peer, and what to do; "" if it can.

    `curve` says whether the gateway uses CURVE at this endpoint."""
    match peer.state:
        case "unreachable":
            return f"Nobody can be reached there: {peer.detail}."
        case "silent":
            return "It accepts connections and sends nothing: not ZeroMQ, or a process that hangs."
        case "hung":
            return "It begins ZeroMQ's greeting and does not end it: a process that hangs."
        case "closed":
            return "It closes every connection without a byte: not ZeroMQ, or a proxy without a publisher behind it."
        case "foreign":
            return f"The peer is {peer.detail}, not ZeroMQ; give the port of the publisher's ZeroMQ socket."
    if peer.mechanism == "CURVE":
        return "" if curve else "The peer uses CURVE; set bus.curve_key_file to use it, too."
    if peer.mechanism != "NULL":
        return f"The peer uses the mechanism {peer.mechanism}; the gateway has only NULL (none) and CURVE."
    if curve:
        return "The peer does not use CURVE; the gateway does."
    return kind_problem(peer.kind, receiver) if peer.kind else ""


def kind_problem(kind: str, receiver: Receiver = "sub") -> str:
    """Return what is wrong with a peer's kind of socket; "" if the receiver can receive from it."""
    if kind in SENDERS[receiver]:
        return ""
    said = f"The peer is a {kind} socket; the gateway's {receiver.upper()} receives from {senders(receiver)} only"
    if kind in {"SUB", "XSUB", "PULL"}:
        return f"{said}. It is a receiver itself, perhaps another gateway: connect to the publisher instead."
    if kind == "PUSH":
        return (
            f'{said}. Make it a PUB, or read it by a source with socket = "pull"; '
            "with PUSH each event reaches one of several gateways only."
        )
    if kind in SENDERS["sub"]:
        return f'{said}. Remove socket = "pull" from the source.'
    if kind == "ROUTER":
        return f"{said}. Perhaps it is the port for replay: give the port of the events instead."
    return f"{said}."


def senders(receiver: Receiver) -> str:
    """Return the kinds of sockets that it can receive from, in words."""
    return " and ".join(SENDERS[receiver])


async def _connect(endpoint: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    scheme, _, rest = endpoint.partition("://")
    if scheme == "ipc":
        path = "\0" + rest[1:] if rest.startswith("@") else rest
        return await asyncio.open_unix_connection(path)
    host, _, port = rest.rpartition(":")
    return await asyncio.open_connection(host.strip("[]"), int(port))


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def _receive(reader: asyncio.StreamReader, received: bytearray, wanted: int, seconds: float) -> bool:
    """Read until `wanted` bytes are there, or what comes is not ZeroMQ; return whether they are."""
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(seconds):
            while len(received) < wanted and _is_signature(received):
                chunk = await reader.read(4096)
                if not chunk:
                    break
                received += chunk
    return len(received) >= wanted


def _is_signature(received: bytearray) -> bool:
    """Tell whether these bytes are, or may become, the begin of a greeting."""
    return _SIGNATURE[:1].startswith(received[:1]) and _SIGNATURE[9:].startswith(received[9:10])


async def _read_kind(reader: asyncio.StreamReader, received: bytearray, seconds: float) -> str:
    """Return the kind of socket in the peer's READY command, "" if none comes."""
    at = _OPENING_BYTES
    if not await _receive(reader, received, at + 2, seconds) or not received[at] & _COMMAND:
        return ""
    head = 9 if received[at] & _LONG else 2
    if not await _receive(reader, received, at + head, seconds):
        return ""
    size = int.from_bytes(received[at + 1 : at + head])
    if size > _COMMAND_BYTES_MAX or not await _receive(reader, received, at + head + size, seconds):
        return ""
    return properties(bytes(received[at + head : at + head + size])).get("socket-type", "")


def properties(command: bytes) -> dict[str, str]:
    """Return the properties of a READY command, by their names in lower case; what is malformed is left out."""
    found: dict[str, str] = {}
    if command[:1] != b"\x05" or command[1:6] != b"READY":
        return found
    at = 6
    with contextlib.suppress(IndexError, struct.error):
        while at < len(command):
            name = command[at + 1 : at + 1 + command[at]].decode("ascii", "replace").lower()
            at += 1 + command[at]
            (size,) = struct.unpack_from(">I", command, at)
            found[name] = command[at + 4 : at + 4 + size].decode("ascii", "replace")
            at += 4 + size
    return found


async def _ask_for_http(endpoint: str, seconds: float) -> Peer:
    """See whether a silent peer is an HTTP server that waits for a whole request."""
    received = b""
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(seconds / 3):
            reader, writer = await _connect(endpoint)
            try:
                writer.write(_HTTP_REQUEST)
                received = await reader.read(4096)
            finally:
                await _close(writer)
    if received.startswith(_SIGNATURE[:1]):
        return Peer("hung")
    return Peer("foreign", _foreign(received)) if received else Peer("silent")


def _foreign(received: bytes) -> str:
    for start, name in (
        (b"HTTP/", "an HTTP server"),
        (b"\x15\x03", "a TLS server"),
        (b"SSH-", "an SSH server"),
        (b"-ERR", "a Redis server"),
        (b"AMQP", "an AMQP broker"),
        (b"INFO {", "a NATS server"),
    ):
        if received.startswith(start):
            return name
    return f"a program that begins with {received[:_SHOWN_BYTES]!r}"


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)  # asyncio's own text names the call and the address
    return (isinstance(error, OSError) and error.strerror) or str(error)
