"""The pipe between processes: whole messages in order; a process that does not read is given up."""

from __future__ import annotations

import asyncio
import socket

import msgspec

from gateway.workers import messages
from gateway.workers.pipe import Pipe, Unreadable, framed
from tests.support.waiting import eventually


class End:
    """One end of a link, and what came to it."""

    def __init__(self, **how: int) -> None:
        self.heard: list[messages.ToParent | Unreadable] = []
        self.wake_ups = 0
        self.lost = 0
        decoder = msgspec.msgpack.Decoder(messages.ToParent)
        self.pipe: Pipe[messages.ToParent] = Pipe(decoder, on_messages=self._take, on_lost=self._end, **how)

    def _take(self, received: list[messages.ToParent | Unreadable]) -> None:
        self.heard += received
        self.wake_ups += 1
        if any(isinstance(one, messages.Ready) for one in received):
            raise ValueError("of no use here")

    def _end(self) -> None:
        self.lost += 1


async def linked(**how: int) -> tuple[End, End]:
    one, other = End(**how), End(**how)
    for end, sock in zip((one, other), socket.socketpair(), strict=True):
        await end.pipe.open(sock)
    return one, other


async def test_messages_arrive_whole_and_in_order_whatever_their_size() -> None:
    one, other = await linked()
    sent = [messages.Confirmed(["x" * size], {}) for size in (0, 1, 300, 70_000, 3_000_000, 5)]
    for message in sent:
        one.pipe.send(message)
    await eventually(lambda: len(other.heard) == len(sent))

    assert sent == other.heard
    one.pipe.close()
    await eventually(lambda: other.lost == 1)


async def test_a_message_may_come_in_any_pieces() -> None:
    end = End()
    data = framed(messages.Released(7)) + framed(messages.Drained(8))
    for at in range(len(data)):
        end.pipe.data_received(data[at : at + 1])

    assert [messages.Released(7), messages.Drained(8)] == end.heard


async def test_what_came_together_is_handed_over_together() -> None:
    end = End()
    end.pipe.data_received(framed(messages.Released(1)) + framed(messages.Released(2)))

    assert (2, 1) == (len(end.heard), end.wake_ups)


async def test_a_peer_that_does_not_read_is_given_up_at_the_limit() -> None:
    """The others must not wait for it, and memory is bounded."""
    ours, theirs = socket.socketpair()
    end = End(unread_bytes_max=1_000_000)
    await end.pipe.open(ours)
    for _ in range(100):
        end.pipe.send(messages.Confirmed(["x" * 100_000], {}))
    await eventually(lambda: end.lost == 1)
    theirs.close()


async def test_a_sender_that_waits_goes_on_when_the_peer_reads_or_disconnects() -> None:
    ours, theirs = socket.socketpair()
    end = End()
    await end.pipe.open(ours)
    end.pipe.send(messages.Confirmed(["x" * 8_000_000], {}))
    waiting = asyncio.create_task(end.pipe.flows())
    await asyncio.sleep(0)
    assert not waiting.done()
    theirs.close()
    await waiting


async def test_a_message_that_cannot_be_handled_ends_the_link() -> None:
    """What both sides hold could differ from then on."""
    one, other = await linked()
    one.pipe.send(messages.Ready())
    await eventually(lambda: one.lost == other.lost == 1)


async def test_what_a_peer_sends_is_a_sign_of_it() -> None:
    """Each counts once, and not only when its message is whole."""
    ours, theirs = socket.socketpair()
    end = End()
    await end.pipe.open(ours)
    assert not end.pipe.has_progressed()
    theirs.send(framed(messages.Released(7))[:-1])
    await eventually(end.pipe.has_progressed)

    assert not end.pipe.has_progressed()
    end.pipe.close()
    theirs.close()


async def test_what_a_peer_reads_is_a_sign_of_it_and_what_the_kernel_takes_for_it_is_none() -> None:
    ours, theirs = socket.socketpair()
    end = End()
    await end.pipe.open(ours)
    end.pipe.send(messages.Released(7))
    assert not end.pipe.has_progressed()
    end.pipe.send(messages.Confirmed(["x" * 5_000_000], {}))
    end.pipe.has_progressed()
    assert not end.pipe.has_progressed()
    theirs.recv(1_000_000)
    await eventually(end.pipe.has_progressed)

    assert not end.heard
    end.pipe.abort()
    theirs.close()
