"""What the kernel says of a socket, held against what its peer does."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterator

import pytest

from gateway.web.sockets.kernel import Sending, sending


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks the Linux kernel")

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two ends of a TCP connection; the far one takes little."""
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as far:
        far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        far.connect(listening.getsockname())
        near, _ = listening.accept()
        with near:
            near.setblocking(False)
            yield near, far


def fill(near: socket.socket) -> int:
    """Write until the kernel takes no more; return how many bytes it took."""
    count = 0
    while True:
        try:
            count += near.send(bytes(65_536))
        except BlockingIOError:
            return count


def test_what_the_peer_reads_is_accepted_until_nothing_is_unsent(pair: Pair) -> None:
    near, far = pair
    written = fill(near)
    full = sending(near)
    assert 0 < full.unsent <= written
    assert sending(near).accepted == full.accepted, "it has read nothing"
    read = 0
    while read < written:
        read += len(far.recv(1024))

    assert sending(near).unsent == 0
    assert sending(near).accepted - full.accepted > written / 2


def test_a_reset_is_seen_without_reading(pair: Pair) -> None:
    near, far = pair
    assert not sending(near).reset
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()

    assert sending(near).reset


def test_nothing_is_known_of_a_closed_socket(pair: Pair) -> None:
    near, _ = pair
    near.close()

    assert sending(near) == Sending()
