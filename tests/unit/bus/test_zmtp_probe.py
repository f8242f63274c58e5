"""What listens at an endpoint is named: the kind of socket, its mechanism, or what it is instead of ZeroMQ."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from gateway.bus.zmtp_probe import Peer, kind_problem, probe, problem, properties
from tests.support.addresses import free_tcp


Listen = Callable[[int], "zmq.Socket[bytes]"]


@pytest.fixture
def listen() -> Iterator[Listen]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with context, ExitStack() as stack:
        yield lambda kind: stack.enter_context(context.socket(kind))


@asynccontextmanager
async def answering(answer: bytes, *, after: bytes = b"") -> AsyncIterator[str]:
    """A TCP port that answers with these bytes, once it has received `after`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received = b""
        while after not in received and (chunk := await reader.read(4096)):
            received += chunk
        if after in received:
            writer.write(answer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize("kind", ["PUB", "XPUB", "PUSH", "ROUTER", "SUB", "REP"])
@pytest.mark.parametrize("scheme", ["tcp", "ipc"])
async def test_the_kind_of_a_socket_is_named(kind: str, scheme: str, listen: Listen, tmp_path: Path) -> None:
    socket = listen(getattr(zmq, kind))
    socket.bind("tcp://127.0.0.1:*" if scheme == "tcp" else f"ipc://{tmp_path}/s")
    peer = await probe(socket.getsockopt_string(zmq.LAST_ENDPOINT))

    assert (peer.state, peer.mechanism, peer.kind) == ("zmtp", "NULL", kind)
    assert (problem(peer, curve=False) == "") == (kind in {"PUB", "XPUB"})
    assert "does not use CURVE" in problem(peer, curve=True)


async def test_a_socket_with_curve_is_named(listen: Listen) -> None:
    socket = listen(zmq.PUB)
    socket.curve_publickey, socket.curve_secretkey = zmq.curve_keypair()
    socket.curve_server = 1
    socket.bind("tcp://127.0.0.1:*")
    peer = await probe(socket.getsockopt_string(zmq.LAST_ENDPOINT))

    assert peer.mechanism == "CURVE"
    assert "set bus.curve_key_file" in problem(peer, curve=False)
    assert problem(peer, curve=True) == ""


@pytest.mark.parametrize(
    ("answer", "after", "name"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff", "an HTTP server"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"GET / ", "an HTTP server"),
        (b"SSH-2.0-x\r\n", b"", "an SSH server"),
        (b"hello\r\n", b"", r"begins with b'hello\r\n'"),
    ],
)
async def test_what_is_not_zeromq_is_named(answer: bytes, after: bytes, name: str) -> None:
    async with answering(answer, after=after) as endpoint:
        peer = await probe(endpoint, seconds=1.5)

    assert peer.state == "foreign"
    assert name in peer.detail
    assert "not ZeroMQ" in problem(peer, curve=False)


async def test_a_port_that_sends_nothing_is_named() -> None:
    async with answering(b"", after=b"never") as endpoint:
        peer = await probe(endpoint, seconds=0.3)

    assert peer.state == "silent"


async def test_why_nobody_can_be_reached_is_named(tmp_path: Path) -> None:
    refused = await probe(free_tcp())
    missing = await probe(f"ipc://{tmp_path}/none")

    assert (refused.state, refused.detail) == ("unreachable", "Connection refused")
    assert (missing.state, missing.detail) == ("unreachable", "No such file or directory")
    assert "Connection refused" in problem(refused, curve=False)


async def test_an_old_peer_names_its_kind_by_a_number() -> None:
    """ZMTP 2, as libzmq 3 and JeroMQ of those years spoke it."""
    async with answering(b"\xff" + bytes(8) + b"\x7f\x01\x08\x00\x00") as endpoint:
        peer = await probe(endpoint, seconds=0.6)

    assert peer == Peer("zmtp", version="2.0", mechanism="NULL", kind="PUSH")


async def test_a_peer_that_breaks_off_within_its_greeting_is_named() -> None:
    async with answering(b"\xff" + bytes(8) + b"\x7f\x03", after=b"\x7f") as endpoint:
        peer = await probe(endpoint, seconds=1.5)

    assert peer == Peer("closed")
    assert "closes every connection" in problem(peer, curve=False)


@pytest.mark.parametrize("first", [b"\xff", b"G"])
async def test_a_peer_that_hangs_within_its_greeting_is_named(first: bytes) -> None:
    """Also if it takes so long that it is asked for HTTP meanwhile, and if it would answer that."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found = await reader.read(1)
        if found == first:
            writer.write(b"\xff" + bytes(8) + b"\x7f\x03")
        elif found == b"G":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await reader.read(-1)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        peer = await probe(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}", seconds=0.3)

    assert peer == Peer("hung")
    assert "hangs" in problem(peer, curve=False)
    assert "a process that hangs" in problem(peer, curve=False)


def test_a_mechanism_that_the_gateway_does_not_have_is_named() -> None:
    assert "mechanism PLAIN" in problem(Peer("zmtp", version="3.0", mechanism="PLAIN"), curve=False)


def test_each_wrong_kind_is_named_with_its_remedy() -> None:
    assert "another gateway" in kind_problem("SUB")
    assert "Make it a PUB" in kind_problem("PUSH")
    assert "replay" in kind_problem("ROUTER")
    assert kind_problem("XPUB") == ""


def test_a_pull_socket_receives_from_a_push_and_from_no_publisher() -> None:
    assert kind_problem("PUSH", "pull") == ""
    assert 'Remove socket = "pull"' in kind_problem("PUB", "pull")
    assert "receives from PUSH only" in kind_problem("PULL", "pull")


@given(st.binary(max_size=60))
def test_no_ready_command_breaks_the_probe(rest: bytes) -> None:
    properties(b"\x05READY" + rest)
    properties(rest)
