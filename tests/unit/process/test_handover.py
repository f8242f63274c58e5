"""What a process gets from the one that started it, if that is not as it should be."""

from __future__ import annotations

import os
import socket

import pytest

from gateway.process.handover import Predecessor, inherit


@pytest.mark.parametrize(
    ("family", "kind"), [(socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_UNIX, socket.SOCK_STREAM)]
)
def test_an_inherited_socket_that_no_client_could_connect_to_is_named(
    family: socket.AddressFamily, kind: socket.SocketKind
) -> None:
    """Not by UDP, and not by a socket that does not listen, or has no port."""
    number = socket.socket(family, kind).detach()
    environ = {"NEUROGRAPH_HANDOVER": f"{number},{number}"}

    with pytest.raises(OSError, match=f"inherited socket: descriptor {number} is not a TCP socket that listens"):
        inherit(environ)
    assert environ == {}, "its children do not inherit it"


def test_a_descriptor_that_is_not_open_is_refused() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)

    with pytest.raises(OSError, match=rf"inherited socket: descriptor {reading}: .*Bad file descriptor"):
        inherit({"NEUROGRAPH_HANDOVER": f"{writing},{reading}"})


async def test_a_predecessor_that_has_ended_is_noticed() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        with pytest.raises(BrokenPipeError):
            await Predecessor(ours).release_bus()


async def test_a_predecessor_that_ends_instead_of_an_answer_is_noticed() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionError, match="the process to succeed has ended"):
            await Predecessor(ours).release_bus()
