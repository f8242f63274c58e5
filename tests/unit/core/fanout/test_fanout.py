"""Cohorts: what is joined once, what each reader gets, and in how many writes."""

from __future__ import annotations

from gateway.core.fanout.cohorts import Reader
from gateway.core.sessions.requests import ConnectRequest
from tests.support.core import Core, Peer, Writer, make_hub, open_identity, publish


class Sink:
    """A socket that is never full, and keeps the objects that are written to it."""

    def __init__(self, hub: Core, name: str, *channels: str) -> None:
        self.written: list[bytes] = []
        connect_request = ConnectRequest(client_id=name, secret=name, identity=open_identity(), channels=channels)
        self.session = hub.connect(connect_request, self._reader, now_ns=0)
        self.written.clear()

    def _reader(self) -> Reader:
        return Reader(writer=Writer(self._write), on_lag=lambda: None)

    def _write(self, data: bytes) -> None:
        self.written.append(data)


class Failing(Sink):
    """A socket that fails once its client is connected."""

    def _write(self, data: bytes) -> None:
        if b'"type":"event"' in data:
            raise RuntimeError("the handler is closed")


def test_a_tick_is_one_write_of_the_same_object_per_client() -> None:
    hub = make_hub()
    sinks = [Sink(hub, f"c{n}", "robots", "metrics") for n in range(5)]
    publish(hub, "robots", 50)

    assert [len(sink.written) for sink in sinks] == [1] * 5
    assert len({id(sink.written[0]) for sink in sinks}) == 1


def test_views_that_select_the_same_events_share_their_bytes() -> None:
    hub = make_hub()
    one, other = Sink(hub, "one", "robots"), Sink(hub, "other", "robots", "logs")
    publish(hub, "robots", 3)

    assert one.written[0] is other.written[0]
    assert len(list(hub.fanout.cohorts)) == 2


def test_a_cohort_without_members_is_forgotten() -> None:
    hub = make_hub()
    for number in range(100):
        peer = Peer(hub, f"p{number}")
        peer.connect(f"channel.{number}")
        peer.disconnect()

    assert list(hub.fanout.cohorts) == []


def test_subscribers_are_counted_by_name_and_by_wildcard_live_and_lagging() -> None:
    hub = make_hub()
    publish(hub, "robots")
    Sink(hub, "a", "robots")
    Sink(hub, "b", "*", "robots")
    lagging = Peer(hub, "c")
    lagging.connect("robots", "metrics")
    lagging.writing_paused = True
    publish(hub, "robots")
    counts = hub.subscriber_counts()

    assert counts["robots"] == hub.subscribers("robots") == 3
    assert counts["metrics"] == hub.subscribers("metrics") == 2
    assert counts["$everyone"] == hub.subscribers("$everyone") == 3


def test_a_cohort_without_wildcards_does_not_remember_other_channels() -> None:
    hub = make_hub(channels_max=500)
    Sink(hub, "a", "robots")
    for number in range(400):
        publish(hub, f"c{number}")
    [cohort] = hub.fanout.cohorts

    assert not cohort.has_wildcards
    assert not cohort._channel_views


def test_a_lagging_reader_reads_its_channels_in_turn() -> None:
    """A channel with many events does not keep the others from being read."""
    hub = make_hub()
    peer = Peer(hub, "p")
    session = peer.connect("robots", "logs.a")
    peer.writing_paused = True
    publish(hub, "robots", 900)
    publish(hub, "logs.a", 1)
    assert session.reader is not None
    hub.fanout.read(session.reader, hub.fanout.logs_of(session.reader), bytes_max=10_000)
    cursors = session.reader.cursors

    assert cursors is not None
    assert cursors["logs.a"].at == 1
    assert 0 < cursors["robots"].at < 900


def test_one_read_is_limited_however_many_channels_there_are() -> None:
    hub = make_hub(channels_max=200)
    peer = Peer(hub, "p")
    session = peer.connect(">")
    peer.writing_paused = True
    for number in range(150):
        hub.tick([[b"c%d" % number, b'"%b"' % (b"x" * 9000)]], now_ns=0)
    assert session.reader is not None
    seen = 0
    while True:
        data, count, _ = hub.fanout.read(session.reader, hub.fanout.logs_of(session.reader), bytes_max=20_000)
        if not data:
            break
        assert len(data) < 20_000 + 10_000
        seen += count

    assert seen == 150


def test_a_socket_that_fails_does_not_affect_the_others() -> None:
    hub = make_hub()
    good = [Sink(hub, f"good{n}", "robots") for n in range(2)]
    bad = Failing(hub, "bad", "robots")
    last = Sink(hub, "last", "robots")
    publish(hub, "robots", 3)

    assert [len(sink.written) for sink in (*good, last)] == [1, 1, 1]
    assert bad.session.reader in hub.fanout.lagging, "it gets the event later"
    assert hub.fanout.take_tally().events == 9
