"""Messages are read as they were sent, though not every frame is asked whether it is the last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from gateway.bus.framing import Frames, MessageReader
from gateway.core.protocol.envelope import Envelope, is_envelope


NAMES = ("metrics", "logs", "a.b-c_d", "NGE1-is-a-name-of-32-characters-", "$heartbeat")
JSON_NAMES = ("5", "true")
PAYLOADS = (b'{"a":1}', b"[]", b"5", b"true", b"null", b'"metrics"', b"-0.5", b"{}" * 20)

Pipe = tuple["zmq.Socket[bytes]", MessageReader]

numbers = st.integers(1, 2**53)
envelopes = st.builds(Envelope, st.integers(0, 2**64 - 1), numbers, numbers).map(Envelope.pack)
payloads = st.sampled_from(PAYLOADS)
topics = st.sampled_from(NAMES).map(str.encode)
plain = st.tuples(topics, payloads).map(list)
numbered = st.tuples(topics, payloads, envelopes).map(list)

any_topics = st.sampled_from(NAMES + JSON_NAMES).map(str.encode)
events = st.tuples(any_topics, payloads).map(list) | st.tuples(any_topics, payloads, envelopes).map(list)
anything = st.binary(max_size=40) | any_topics | payloads | envelopes
rubbish = st.lists(anything, min_size=1, max_size=7).filter(lambda it: not is_envelope(it[0]))


@pytest.fixture(scope="module")
def pipe() -> Iterator[Pipe]:
    with zmq.Context() as context, context.socket(zmq.PAIR) as one, context.socket(zmq.PAIR) as end:
        one.bind("inproc://framing")
        end.connect("inproc://framing")
        yield one, MessageReader(end)


def through(pipe: Pipe, messages: Sequence[Frames], at_once: int = 20) -> list[Frames]:
    """Send messages, then read them, so many at once; no frame is lost or moved."""
    socket, reader = pipe
    for message in messages:
        socket.send_multipart(message)
    found: list[Frames] = []
    more = True
    while more:
        batch, more = reader.read(at_once)
        found += batch
    assert list(chain(*messages)) == list(chain(*found))
    return found


@given(messages=st.lists(events, max_size=30), at_once=st.integers(1, 40))
def test_events_are_read_as_they_were_sent(pipe: Pipe, messages: list[Frames], at_once: int) -> None:
    assert messages == through(pipe, messages, at_once)


@given(
    messages=st.lists(st.tuples(st.just(True), numbered | plain) | st.tuples(st.just(False), rubbish)),
    at_once=st.integers(1, 40),
)
def test_rubbish_costs_no_event_of_others(pipe: Pipe, messages: list[tuple[bool, Frames]], at_once: int) -> None:
    found = iter(through(pipe, [message for _, message in messages], at_once))

    for is_event, message in messages:
        assert not is_event or message in found, message


NUMBERED = [b"logs", b"{}", Envelope(1, 1, 1).pack()]


@pytest.mark.parametrize(
    "message",
    [
        [b"metrics"],
        [b"metrics", b"{}", b"no envelope"],
        [b"metrics", b"{}", Envelope(1, 1, 1).pack(), b"more"],
        [b"metrics", b"{}", Envelope(1, 1, 1).pack(), b"and", b"more"],
        [b"no topic", b"{}", Envelope(1, 1, 1).pack()],
        [b"", b"", b""],
        [b"t"] * 300,
    ],
)
def test_what_is_no_event_comes_as_it_is_to_be_rejected(pipe: Pipe, message: Frames) -> None:
    plain = NUMBERED[:2]
    assert [NUMBERED, plain, message, plain] == through(pipe, [NUMBERED, plain, message, plain])


@pytest.mark.parametrize("last", [b"NGE9" + bytes(28), Envelope(1, 1, 1).pack() + b"x"])
def test_a_bad_envelope_is_one_also_behind_a_good_one(pipe: Pipe, last: bytes) -> None:
    messages = [NUMBERED, [b"metrics", b"{}", last], NUMBERED]
    assert messages == through(pipe, messages)


def test_a_message_of_one_frame_takes_no_event_with_it(pipe: Pipe) -> None:
    """A port scanner's, between events of publishers that number them and of those that do not."""
    plain, scanner = [b"metrics", b"{}"], [b"\x01\xff"]
    messages = [NUMBERED, plain, scanner, NUMBERED, scanner, plain, NUMBERED, scanner, NUMBERED]
    assert messages == through(pipe, messages)
