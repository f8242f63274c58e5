"""A view, a reader or a connect that fails does not affect other clients."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from gateway.core.fanout.cohorts import Reader, ReaderState
from gateway.core.fanout.filters import Filter
from gateway.core.fanout.views import Subscription
from gateway.core.protocol.errors import CloseCode
from gateway.core.sessions.broadcast import Broadcaster
from gateway.core.sessions.requests import ConnectRequest
from tests.support.core import Core, Peer, make_hub, open_identity, publish
from tests.support.publisher import envelope


class BugError(Exception):
    """An error that no part of the gateway expects."""


def fail(event: Mapping[str, object]) -> bool:
    raise BugError


class Broken(Peer):
    """A peer whose view fails with every event."""

    def __init__(self, hub: Core, *, rate: float | None = None) -> None:
        super().__init__(hub, "broken")
        self.failed = 0
        session = self.connect()
        view = frozenset({Subscription("robots", Filter("a bug", fail), rate)})
        assert session.reader is not None
        self.reader: Reader = session.reader
        self.reader.on_failure = self._count
        hub.fanout.subscribe(self.reader, view, {})

    def _count(self) -> None:
        self.failed += 1


@pytest.mark.parametrize("rate", [None, 1.0])
def test_readers_of_a_view_that_fails_are_removed_and_the_others_get_every_event(rate: float | None) -> None:
    hub = make_hub()
    errors: list[Exception] = []
    hub.fanout.on_failure = errors.append
    witnesses = [Peer(hub, "first"), Peer(hub, "last")]
    witnesses[0].connect("robots")
    broken = Broken(hub, rate=rate)
    witnesses[1].connect("robots", "logs.a")
    publish(hub, "robots", 3)
    publish(hub, "robots", 2)

    assert (broken.failed, broken.reader.state) == (1, ReaderState.DETACHED)
    assert [type(error) for error in errors] == [BugError]
    assert hub.fanout.take_tally().failed == 1
    for witness in witnesses:
        assert [m["offset"] for m in witness.take() if m["type"] == "event"] == [1, 2, 3, 4, 5]


def test_a_reader_that_fails_while_it_catches_up_does_not_affect_the_others() -> None:
    hub = make_hub()
    witness = Peer(hub, "witness")
    witness.connect("robots")
    broken = Broken(hub)
    broken.writing_paused = True
    hub.fanout.flush_reader(broken.reader)
    publish(hub, "logs.a", 1)
    publish(hub, "robots", 1)

    assert broken.failed == 1
    assert [m["offset"] for m in witness.take() if m["type"] == "event"] == [1]


class Lost(Peer):
    """A peer whose socket is closed, which nobody knows yet: its writes fail."""

    closed = False

    def _write(self, data: bytes) -> None:
        if self.closed:
            raise BugError
        super()._write(data)


def test_a_personal_message_that_cannot_be_written_costs_others_nothing_of_its_batch() -> None:
    hub = make_hub()
    errors: list[Exception] = []
    hub.fanout.on_failure = errors.append
    Broadcaster(hub, hub.pipeline)  # takes personal messages of the bus
    witness, lost = Peer(hub, "witness"), Lost(hub, "lost")
    witness.connect("robots")
    session = lost.connect("other")
    lost.closed = True
    personal = {"client_id": session.client_id, "event_type": "x", "data": {}}
    batch = [
        [b"robots", b"1", envelope(1, 1)],
        [b"$personal", json.dumps(personal).encode()],
        [b"robots", b"2", envelope(1, 2)],
    ]
    hub.tick(batch, now_ns=0)
    hub.tick([[b"robots", b"3", envelope(1, 3)]], now_ns=0)

    assert [1, 2, 3] == [m["offset"] for m in witness.take() if m["type"] == "event"]
    assert [BugError] == [type(error) for error in errors]


def test_a_reader_that_cannot_be_closed_either_costs_others_nothing() -> None:
    hub = make_hub()
    witness, first, second = Peer(hub, "witness"), Broken(hub), Broken(hub)

    def fail_again() -> None:
        raise BugError

    first.reader.on_failure = fail_again
    witness.connect("robots")
    publish(hub, "robots", 2)

    assert (1, ReaderState.DETACHED) == (second.failed, first.reader.state)
    assert [1, 2] == [m["offset"] for m in witness.take() if m["type"] == "event"]


def no_reader() -> Reader:
    raise BugError


def test_nothing_is_kept_of_a_client_whose_connect_fails() -> None:
    hub = make_hub()
    request = ConnectRequest(client_id="c", secret="s", identity=open_identity("ada"))
    for _ in range(3):
        with pytest.raises(BugError):
            hub.connect(request, no_reader, now_ns=0)

    assert not hub.sessions
    assert hub.store.of_client("c") is None
    assert hub.clients_of("ada") == 0


def test_a_session_whose_resume_failed_is_forgotten() -> None:
    hub = make_hub()
    peer = Peer(hub, "p")
    secret = peer.connect("robots").secret
    peer.disconnect()
    request = ConnectRequest(client_id="c", secret="new", identity=open_identity(), session=secret)
    with pytest.raises(BugError):
        hub.connect(request, no_reader, now_ns=0)
    peer.take()
    peer.connect(session="new")

    assert peer.take()[0]["resumed"] is False
    assert hub.store.of_client("c") is None


def test_a_client_whose_connect_fails_is_reported_as_disconnected() -> None:
    hub = make_hub()
    witness = Peer(hub, "witness")
    witness.connect("connections")
    with pytest.raises(BugError):
        hub.connect(ConnectRequest("c", "s", open_identity()), no_reader, now_ns=0)
    last = witness.take()[-1]

    assert last["event_type"] == "client.disconnected"
    assert last["data"]["code"] == CloseCode.INTERNAL
