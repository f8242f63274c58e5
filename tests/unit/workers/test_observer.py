"""What a worker reports of its clients: changes, which together are all that there is."""

from __future__ import annotations

from gateway.core.fanout.views import Subscription
from gateway.core.log.sources import Cursor
from gateway.core.sessions.observer import LocalObserver
from gateway.workers import messages
from gateway.workers.parent import WorkerObserver
from tests.support.core import Core, Peer, make_hub, publish


class Reports:
    """A worker's hub, and its reports put together as the parent does."""

    def __init__(self) -> None:
        self.hub: Core = make_hub()
        self.sent: list[messages.Message] = []
        self.observer = WorkerObserver(LocalObserver(self.hub.logs, self.hub.fanout), send=self.sent.append)
        self.hub.observer = self.observer
        self.subscriptions: dict[str, Subscription] = {}
        self.known: dict[str, Cursor] = {}

    def take(self) -> list[messages.Message]:
        taken, self.sent[:] = self.sent.copy(), []
        for message in taken:
            if isinstance(message, messages.Changed):
                for pattern in message.removed:
                    del self.subscriptions[pattern]
                self.subscriptions |= {one.pattern: one for one in message.subscriptions}
                self.known |= message.known
            if isinstance(message, messages.Confirmed):
                self.known = message.known
        return taken


def test_reports_of_changes_add_up_to_the_session() -> None:
    reports = Reports()
    peer = Peer(reports.hub, "p")
    session = peer.connect("metrics", "robots.*")
    publish(reports.hub, "robots.a", 2)
    reports.take()
    peer.send(type="subscribe", channels=["robots.a", "metrics"], filter="data.x > 1", last=1)
    reports.take()
    session.on_ping(b"1", reports.hub.heads())
    reports.hub.on_pong(session, b"1")
    reports.observer.send_confirmed()
    publish(reports.hub, "robots.a", 1)
    peer.send(type="unsubscribe", channels=["robots.*"])
    reports.take()

    assert reports.subscriptions == session.subscriptions
    assert session.known.items() <= reports.known.items()
    known = session.known
    peer.disconnect()
    reports.take()
    assert known.items() <= reports.known.items()


def test_a_report_does_not_repeat_what_was_reported() -> None:
    """However many channels a client has, a further one costs the parent one."""
    reports = Reports()
    peer = Peer(reports.hub, "p")
    for number in range(10):
        publish(reports.hub, f"a.x{number}")
    session = peer.connect("a.>", last=3)
    reports.take()
    peer.send(type="subscribe", channels=["metrics"])
    [message] = reports.take()

    assert isinstance(message, messages.Changed)
    assert [one.pattern for one in message.subscriptions] == ["metrics"]
    assert message.known.keys() == {"metrics"}
    assert len(session.known) > 10


def test_what_a_client_names_and_does_not_exist_is_not_kept() -> None:
    reports = Reports()
    peer = Peer(reports.hub, "p")
    session = peer.connect()
    before = len(session.known)
    for start in range(0, 3000, 1000):
        names = {f"a.x{number}": {"epoch": "e1", "offset": 0} for number in range(start, start + 1000)}
        [reply] = peer.send(type="subscribe", channels=["a.>"], since=names)
        assert reply["recovered"] == dict.fromkeys(names, True)
    session.on_ping(b"1", reports.hub.heads())
    session.on_pong(b"1")
    publish(reports.hub, "a.x7")

    assert len(session.known) <= before + len(reports.hub.logs.by_name)
    assert peer.take()[-1]["channel"] == "a.x7"
    assert sum(len(one.known) for one in reports.take() if isinstance(one, messages.Changed)) < 50
