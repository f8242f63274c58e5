"""Messages that clients publish arrive at an inbox once and in order, or as a gap."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq
from neurograph_publisher import Gap, Inbox, Message, PublisherError, envelope, heartbeat, replay

from tests.support.waiting import DEADLINE_SECONDS, scaled


WITHIN = scaled(DEADLINE_SECONDS)


class Sender:
    """The gateway's end of the bus, which can leave out messages."""

    def __init__(self, folder: Path, *, incarnation: int = 1) -> None:
        self.endpoint = f"ipc://{folder}/out"
        self.incarnation = incarnation
        self.requests: list[replay.Request] = []
        self.held = replay.Store(1000)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self._context.socket(zmq.XPUB)
        self.router = self._context.socket(zmq.ROUTER)
        for socket in (self.socket, self.router):
            socket.linger = 1000
        self.socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        self.socket.bind(self.endpoint)
        self.router.bind(f"{self.endpoint}.replay")
        self.sequences: dict[str, int] = {}

    def subscribed(self) -> None:
        """Wait until an inbox has subscribed to heartbeats, and send one."""
        while self.socket.recv() != b"\x01" + heartbeat.TOPIC:
            pass
        self.beat()

    def beat(self, *, interval: float = 1.0, replays: bool = True) -> None:
        found = heartbeat.payloads(
            incarnation=self.incarnation,
            name="gateway",
            interval=interval,
            replay=f"{self.endpoint}.replay" if replays else None,
            replay_key=None,
            sequences=self.sequences,
        )
        for payload in found:
            self.socket.send_multipart([heartbeat.TOPIC, payload])

    def restart(self, *, incarnation: int) -> None:
        self.incarnation, self.sequences, self.held = incarnation, {}, replay.Store(1000)

    def send(self, number: int, channel: str = "core", *, lost: bool = False, held: bool = True) -> None:
        event = {"event_type": "t", "timestamp": "now", "data": number, "client_id": "c", "user_id": None}
        sequence = self.sequences[channel] = self.sequences.get(channel, 0) + 1
        frame = envelope.pack(incarnation=self.incarnation, sequence=sequence, time_ns=1)
        payload = json.dumps(event).encode()
        if held:
            self.held.append(channel.encode(), sequence, payload, frame)
        if not lost:
            self.socket.send_multipart([channel.encode(), payload, frame])

    def answer(self, inbox: Inbox) -> None:
        """Let the inbox read until it sends a replay request, and answer it; until then it must deliver nothing."""
        until = time.monotonic() + WITHIN
        while not self.router.poll(10):
            assert inbox.receive(0) is None
            assert time.monotonic() < until, "the inbox sent no replay request in time"
        asker, *frames = self.router.recv_multipart()
        request = replay.parse(frames)
        assert request is not None
        self.requests.append(request)
        found = self.held.read(request.topic, request.first, request.last)
        self.router.send_multipart([asker, *replay.reply(request, self.incarnation, found)])

    def close(self) -> None:
        self._context.destroy()


@pytest.fixture
def sender() -> Iterator[Sender]:
    with tempfile.TemporaryDirectory(prefix="ng-") as folder:  # short, as paths of Unix sockets have a limit
        sender = Sender(Path(folder))
        yield sender
        sender.close()


@pytest.fixture
def inbox(sender: Sender) -> Iterator[Inbox]:
    with Inbox(sender.endpoint, "core", "chat.*") as inbox:
        sender.subscribed()
        assert inbox.wait_for_gateway(WITHIN)
        yield inbox


def received(inbox: Inbox, count: int) -> list[object]:
    """Return the next items: the numbers of messages, and gaps."""
    found = [inbox.receive(WITHIN) for _ in range(count)]
    return [item.data if isinstance(item, Message) else item for item in found]


def test_messages_arrive_in_order_with_who_sent_them(sender: Sender, inbox: Inbox) -> None:
    for number in (1, 2):
        sender.send(number)
    sender.send(3, "core2")
    sender.send(4, "chat.a")
    first = inbox.receive(WITHIN)

    assert isinstance(first, Message)
    assert ("core", "t", 1, "c", None, None) == (
        first.channel,
        first.event_type,
        first.data,
        first.client_id,
        first.user_id,
        first.reply_to,
    )
    assert [2, 4] == received(inbox, 2)
    assert inbox.receive(0) is None


def test_a_lost_message_is_requested_and_delivered_in_its_place(sender: Sender, inbox: Inbox) -> None:
    sender.send(1)
    for number in (2, 3):
        sender.send(number, lost=True)
    sender.send(4)
    assert [1] == received(inbox, 1)
    assert inbox.receive(0) is None
    sender.answer(inbox)

    assert [2, 3, 4] == received(inbox, 3)
    assert [(2, 3)] == [(one.first, one.last) for one in sender.requests]


def test_the_loss_of_the_last_message_shows_in_a_heartbeat(sender: Sender, inbox: Inbox) -> None:
    sender.send(1, lost=True)
    sender.beat()
    assert inbox.receive(0.1) is None
    sender.answer(inbox)

    assert [1] == received(inbox, 1)


def test_messages_that_are_no_longer_held_are_a_gap(sender: Sender, inbox: Inbox) -> None:
    for number in (1, 2):
        sender.send(number, lost=True, held=False)
    sender.send(3, lost=True)
    sender.send(4)
    assert inbox.receive(0.1) is None
    sender.answer(inbox)

    assert [Gap("core", 1, 2, "lost"), 3, 4] == received(inbox, 3)


def test_a_gateway_that_does_not_answer_causes_a_gap_and_later_messages_arrive(sender: Sender, inbox: Inbox) -> None:
    sender.send(1, lost=True)
    sender.send(2)

    assert [Gap("core", 1, 1, "lost"), 2] == received(inbox, 2)


def test_repetitions_are_dropped(sender: Sender, inbox: Inbox) -> None:
    sender.send(1)
    for frames in [sender.held.read(b"core", 1, 1)] * 2:
        sender.socket.send_multipart([b"core", *frames])
    sender.send(2)

    assert [1, 2] == received(inbox, 2)
    assert inbox.receive(0) is None


def test_messages_published_before_the_inbox_are_not_reported_as_missing(sender: Sender) -> None:
    for number in (1, 2):
        sender.send(number)
    with Inbox(sender.endpoint, "core") as inbox:
        sender.subscribed()
        assert inbox.wait_for_gateway(WITHIN)
        sender.send(3)

        assert [3] == received(inbox, 1)


def test_a_restarted_gateway_is_a_gap_and_its_new_messages_are_complete(sender: Sender, inbox: Inbox) -> None:
    sender.send(1)
    assert [1] == received(inbox, 1)
    sender.restart(incarnation=2)
    sender.send(11, lost=True)
    sender.beat()
    assert [Gap("core", 2, None, "restart")] == received(inbox, 1)
    sender.answer(inbox)

    assert [11] == received(inbox, 1)


def test_a_gateway_that_sends_a_farewell_causes_no_gap(sender: Sender, inbox: Inbox) -> None:
    sender.send(1)
    sender.beat(interval=0)
    sender.incarnation, sender.sequences = 2, {}
    sender.beat()
    sender.send(11)

    assert [1, 11] == received(inbox, 2)


def test_a_later_inbox_continues_after_the_position_of_an_earlier_one(sender: Sender, inbox: Inbox) -> None:
    """It gets everything published meanwhile, also on new channels, and nothing older."""
    for number in (1, 2):
        sender.send(number)
    assert [1] == received(inbox, 1)
    kept = json.loads(json.dumps(inbox.positions))
    assert [2] == received(inbox, 1)
    inbox.close()
    sender.send(3, lost=True)
    sender.send(4, "chat.a", lost=True)
    with Inbox(sender.endpoint, "core", "chat.*", since=kept) as again:
        sender.subscribed()
        for _ in range(2):
            sender.answer(again)
        found = received(again, 3)
        sender.send(5)
        assert [5] == received(again, 1)

    assert {2, 3, 4} == set(found)
    assert found.index(2) < found.index(3)
    assert {sender.endpoint: {"core": f"{1:016x}:4", "chat.a": f"{1:016x}:1"}} == again.positions


def test_a_later_inbox_reports_a_gateway_that_restarted_and_gets_all_its_messages(sender: Sender, inbox: Inbox) -> None:
    sender.send(1)
    assert [1] == received(inbox, 1)
    kept = inbox.positions
    inbox.close()
    sender.restart(incarnation=2)
    sender.send(2, lost=True)
    with Inbox(sender.endpoint, "core", since=kept) as again:
        sender.subscribed()
        assert [Gap("core", 2, None, "restart")] == received(again, 1)
        sender.answer(again)
        assert [2] == received(again, 1)


def test_an_event_before_the_first_heartbeat_waits_for_it(sender: Sender) -> None:
    """Only the heartbeat has the endpoint for requesting earlier messages."""
    sender.send(1, lost=True)
    with Inbox(sender.endpoint, "core", since={sender.endpoint: {}}) as again:
        while sender.socket.recv() != b"\x01" + heartbeat.TOPIC:
            pass
        sender.send(2)
        assert again.receive(0.1) is None
        sender.beat()
        sender.answer(again)

        assert [1, 2] == received(again, 2)


def test_positions_are_checked(sender: Sender) -> None:
    with pytest.raises(PublisherError, match="tcp://elsewhere is not one of the endpoints"):
        Inbox(sender.endpoint, since={"tcp://elsewhere": {}})
    with pytest.raises(PublisherError, match="'7' is no position"):
        Inbox(sender.endpoint, since={sender.endpoint: {"core": "7"}})


def test_messages_in_an_unknown_format_are_counted_and_skipped(sender: Sender, inbox: Inbox) -> None:
    sender.socket.send_multipart([heartbeat.TOPIC, b"{}"])
    sender.socket.send_multipart([b"core", b"x", b"y", b"z"])
    sender.socket.send_multipart([b"core"])
    sender.send(1)

    assert [1] == received(inbox, 1)
    assert 3 == inbox.rejected


def test_bad_arguments_are_errors() -> None:
    with pytest.raises(PublisherError, match="is not a channel or pattern"):
        Inbox("tcp://127.0.0.1:1", "a b")
    with pytest.raises(PublisherError, match="Invalid argument"):
        Inbox("nowhere")
