"""What the kernel knows of a socket: what is unsent, how far its peer reads, and whether it was reset.

Bytes that a transport has written wait in the kernel, up to `clients.send_buffer_bytes`, and then in the peer's
kernel. A slow client answers a ping only when it has read all of them."""

import socket
import struct
import sys
from typing import NamedTuple


if sys.platform == "linux":
    import fcntl

_UNSENT = 0x5411
"""SIOCOUTQ: bytes that the peer has not acknowledged (tcp(7))."""
_INFO_BYTES = 232
_STATE = struct.Struct("@B")
_ACKNOWLEDGED, _ACKNOWLEDGED_AT = struct.Struct("@Q"), 120
_WINDOW, _WINDOW_AT = struct.Struct("@I"), 228
_CLOSED = 7
"""TCP_CLOSE; the offsets are those of struct tcp_info in linux/tcp.h, Linux 5.4 or later."""


class Sending(NamedTuple):
    """How far a socket has come in sending what was written to it."""

    unsent: int = 0
    """Bytes that the peer's kernel does not have."""
    accepted: int = 0
    """Up to which byte the peer accepts data: it grows when the peer's program reads, and only then."""
    reset: bool = False


def sending(one: socket.socket) -> Sending:
    """Return what the kernel says; nothing on other systems than Linux, or if the socket is closed."""
    if sys.platform != "linux":
        return Sending()
    try:
        [unsent] = struct.unpack("@i", fcntl.ioctl(one, _UNSENT, bytes(4)))
        info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    except (OSError, ValueError):
        return Sending()
    if len(info) < _INFO_BYTES:
        return Sending(unsent)
    [state], [window] = _STATE.unpack_from(info), _WINDOW.unpack_from(info, _WINDOW_AT)
    [acknowledged] = _ACKNOWLEDGED.unpack_from(info, _ACKNOWLEDGED_AT)
    return Sending(unsent, acknowledged + window, state == _CLOSED)
