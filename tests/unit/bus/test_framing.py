"""Messages are read as they were sent, whatever stands before them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from gateway.bus.framing import Frames, MessageReader
from gateway.core.protocol.envelope import Envelope


Pipe = tuple["zmq.Socket[bytes]", MessageReader]

NUMBERED = [b"logs", b"{}", Envelope(1, 1, 1).pack()]

frames = st.sampled_from([b"metrics", b"5", b'{"a":1}', b"", NUMBERED[2]]) | st.binary(max_size=40)
messages = st.lists(st.just(NUMBERED) | st.lists(frames, min_size=1, max_size=7), max_size=30)


@pytest.fixture(scope="module")
def pipe() -> Iterator[Pipe]:
    with zmq.Context() as context, context.socket(zmq.PAIR) as one, context.socket(zmq.PAIR) as end:
        one.bind("inproc://framing")
        end.connect("inproc://framing")
        yield one, MessageReader(end)


def through(pipe: Pipe, sent: Sequence[Frames], at_once: int = 20) -> list[Frames]:
    """Send messages, then read them, so many at once."""
    socket, reader = pipe
    for message in sent:
        socket.send_multipart(message)
    found: list[Frames] = []
    while True:
        batch = list(reader.read(at_once))
        assert len(batch) == reader.count <= at_once
        found += batch
        if not reader.more:
            return found


@given(sent=messages, at_once=st.integers(1, 40))
def test_messages_are_read_as_they_were_sent(pipe: Pipe, sent: list[Frames], at_once: int) -> None:
    assert sent == through(pipe, sent, at_once)


@pytest.mark.parametrize(
    "message",
    [
        [b"cam.left", b'{"w":2}', b"\xff\xd8 an image"],
        [b"metrics"],
        [b"metrics", b"{}", NUMBERED[2], b"more"],
        [b"metrics", b"logs", b"{}"],
        [NUMBERED[2]],
        [b"{}", NUMBERED[2]],
        [b"t"] * 300,
    ],
)
def test_a_message_is_the_same_alone_and_behind_any_other(pipe: Pipe, message: Frames) -> None:
    for before in ([], [NUMBERED], [NUMBERED[:2]], [NUMBERED, NUMBERED[:1]]):
        sent = [*before, message, NUMBERED]
        assert sent == through(pipe, sent)


def test_a_read_ends_when_its_time_is_up_and_the_next_one_goes_on(pipe: Pipe) -> None:
    socket, reader = pipe
    for number in range(5):
        socket.send_multipart([b"robots", b"%d" % number])
    found = [list(reader.read(20, seconds_max=0.0)) for _ in range(5)]

    assert [[[b"robots", b"%d" % number]] for number in range(5)] == found
    assert [] == list(reader.read(20))
    assert not reader.more


def test_what_another_publisher_sends_meanwhile_comes_with_the_next_read() -> None:
    """It does not wait behind what the first one has sent."""
    with (
        zmq.Context() as context,
        context.socket(zmq.XPUB) as first,
        context.socket(zmq.XPUB) as other,
        context.socket(zmq.SUB) as end,
    ):
        end.subscribe("")
        for publisher, endpoint in ((first, "inproc://first"), (other, "inproc://other")):
            publisher.linger = 0
            publisher.bind(endpoint)
            end.connect(endpoint)
            publisher.recv()  # the subscription
        reader = MessageReader(end)
        for number in range(90):
            first.send_multipart([b"many", b"%d" % number])
        before = list(reader.read(10))
        other.send_multipart([b"robots", b"1"])
        after = list(reader.read(10))

    assert [b"robots", b"1"] not in before
    assert [b"robots", b"1"] in after
