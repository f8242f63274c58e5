"""Sessions as the engine keeps them, and the events that it numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from gateway.core.cluster import sessions as kept
from gateway.core.cluster.numbered import NumberedEvent, new_event, numbered
from gateway.core.cluster.once import Once
from gateway.core.log.log import ChannelLog
from gateway.core.log.retention import Retention
from gateway.core.protocol.channels import EVERYONE, PERSONAL
from gateway.core.protocol.errors import RequestError
from gateway.core.protocol.events import Event
from gateway.core.protocol.messages import Broadcast, Position
from gateway.core.sessions.permissions import Claims, Grants, Identity, Policy
from gateway.core.sessions.requests import ConnectRequest
from gateway.core.sessions.session import Session
from tests.support.core import Core, Peer, make_hub, open_identity, publish


POLICY = Policy({"all": Grants(subscribe=(">",))}, unauthenticated_role=None)


def of_user(name: str) -> Identity:
    return POLICY.identity(Claims(user_id=name, expires_ns=2**62))


def deliver_numbered(hub: Core, session: Session, offset: int) -> None:
    """Deliver a personal message that the engine has numbered."""
    event = new_event(session.personal, PERSONAL, NumberedEvent(7, offset, b'"data":1'), now_ns=0)
    assert event is not None
    hub.deliver_personal(session, event)


def confirm(hub: Core, session: Session) -> None:
    """Let a client answer a ping behind all that there is."""
    hub.fanout.flush(now_ns=0)
    session.on_ping(b"1", hub.heads())
    hub.on_pong(session, b"1")


def test_a_session_goes_on_at_another_hub_with_all_that_it_had() -> None:
    here, there = make_hub(epoch="e1"), make_hub(epoch="e2")
    peer = Peer(here, "p")
    session = peer.connect(user_id="ada")
    peer.send(type="subscribe", channels=["robots", {"channel": "logs.*", "filter": "data.n > 1", "rate": 2}])
    publish(here, "robots", 3)
    confirm(here, session)
    content = kept.encode(session)
    request = ConnectRequest("new id", "new secret", open_identity(), session=session.secret)
    restored = kept.restore(there, session.client_id, content, request, engine=7, now_ns=0)

    assert restored is there.store.of_secret(session.secret, now_ns=0)
    assert (session.client_id, "ada") == (restored.client_id, restored.user_id)
    assert session.subscriptions == restored.subscriptions
    assert session.known["robots"].position == restored.elsewhere["robots"]
    assert kept.encode(restored) == content, "a third gateway may go on with it"
    assert session.secret not in content.decode()


def test_what_the_other_hub_does_not_know_is_reported() -> None:
    """The positions that the client has confirmed are of the other gateway's own numbers."""
    here, there = make_hub(epoch="e1"), make_hub(epoch="e2")
    peer = Peer(here, "p")
    session = peer.connect()
    peer.send(type="subscribe", channels=["robots"])
    publish(here, "robots", 3)
    confirm(here, session)
    request = ConnectRequest("new id", "new secret", open_identity(), session=session.secret)
    kept.restore(there, session.client_id, kept.encode(session), request, engine=7, now_ns=0)
    publish(there, "robots", 2)
    moved = Peer(there, "q")
    moved.connect(session=session.secret)
    subscribed = next(one for one in moved.received if one["type"] == "subscribed")

    assert subscribed["recovered"] == {"robots": False}
    assert [("robots", "epoch")] == [(one["channel"], one["reason"]) for one in moved.received if one["type"] == "gap"]


@pytest.mark.parametrize(("engine", "recovered"), [(7, {}), (8, {EVERYONE: False})])
def test_a_session_of_another_epoch_may_have_missed_the_first_message_to_everyone(
    engine: int, recovered: dict[str, bool]
) -> None:
    """If its client has confirmed none: those that the engine has lost are at no gateway."""
    here, there = make_hub(epoch="e1"), make_hub(epoch="e2")
    peer = Peer(here, "p")
    session = peer.connect()
    session.engine = 7
    request = ConnectRequest("new id", "new secret", open_identity(), session=session.secret)
    restored = kept.restore(there, session.client_id, kept.encode(session), request, engine=engine, now_ns=0)
    moved = Peer(there, "q")
    moved.connect(session=session.secret)
    subscribed = [one for one in moved.received if one["type"] == "subscribed"]
    gaps = [(one["channel"], one["reason"]) for one in moved.received if one["type"] == "gap"]

    assert 7 == restored.engine
    assert [recovered] * len(recovered) == [one["recovered"] for one in subscribed]
    assert [(channel, "epoch") for channel in recovered] == gaps


def test_a_client_that_names_personal_messages_learns_that_they_are_not_known_here() -> None:
    there = make_hub(epoch="e2")
    request = ConnectRequest("new id", "new secret", open_identity(), session="the secret")
    kept.restore(there, "p-1", b'{"user_id":null,"subscriptions":[],"positions":{}}', request, engine=7, now_ns=0)
    moved = Peer(there, "q")
    moved.connect(session="the secret", since={PERSONAL: Position(f"{7:016x}", 6)})
    subscribed, gap = moved.received[1:]

    assert subscribed["recovered"] == {PERSONAL: False}
    assert ("gap", PERSONAL, "epoch") == (gap["type"], gap["channel"], gap["reason"])


@given(st.text(max_size=3), st.text(max_size=3))
def test_only_the_same_user_may_take_a_session(first: str, second: str) -> None:
    mine, others = of_user(first), of_user(second)

    assert mine.is_same_as(others) == (kept.identity_key(mine) == kept.identity_key(others))
    assert kept.identity_key(mine) != kept.identity_key(POLICY.anonymous)
    assert "" == kept.identity_key(open_identity("whoever"))


def test_a_secret_is_not_in_the_engine() -> None:
    assert "secret" not in kept.secret_key("a secret")
    assert kept.secret_key("a secret") != kept.secret_key("another secret")


@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.integers(1, 6)), max_size=30))
def test_an_event_that_the_engine_numbered_is_appended_once(arrivals: list[tuple[int, int]]) -> None:
    """However often, late and in whatever order it comes, each is in the log at most once, and a hole is a gap."""
    log = ChannelLog(PERSONAL, epoch="own", retention=Retention())
    for epoch, offset in arrivals:
        event = new_event(log, PERSONAL, NumberedEvent(epoch, offset, b'"data":1'), now_ns=0)
        assert (event is None) == (offset <= (log.reached(epoch) or 0))
        if event is not None:
            log.append(event)
    for epoch in (1, 2):
        held = [one for one in log.held(log.cursor_at(0)) if one.source == f"{epoch:016x}" and one.is_event]
        assert [one.offset for one in held] == sorted({one.offset for one in held})


def test_what_the_engine_has_dropped_is_missing_also_before_the_first_event_that_comes() -> None:
    log = ChannelLog(PERSONAL, epoch="own", retention=Retention())
    for epoch, offset in ((1, 4), (2, 3)):
        event = new_event(log, PERSONAL, NumberedEvent(epoch, offset, b'"data":1'), now_ns=0)
        assert event is not None
        assert [(one.first, one.last) for one in event.missing] == [(1, offset - 1)]
        log.append(event)


def test_an_entry_of_another_kind_is_refused() -> None:
    with pytest.raises(KeyError):
        numbered({"epoch": b"1"})
    with pytest.raises(ValueError, match="invalid literal"):
        numbered({"epoch": b"x", "offset": b"1", "event": b""})


def test_a_key_is_for_one_event_of_one_user() -> None:
    event = Broadcast(event=Raw(b"1"), everyone=True, idempotency_key="k")
    same = Broadcast(event=Raw(b"1"), everyone=True, idempotency_key="k")
    other = Broadcast(event=Raw(b"2"), everyone=True, idempotency_key="k")
    ada, eve = of_user("ada"), of_user("eve")

    assert Once.of(event, ada) == Once.of(same, ada)
    assert Once.of(event, ada).key == Once.of(other, ada).key != Once.of(event, eve).key
    assert Once.of(event, ada).content != Once.of(other, ada).content
    assert "" == Once.of(Broadcast(event=Raw(b"1"), everyone=True), ada).key
    assert 7 == Once.of(event, ada).checked(7)
    with pytest.raises(RequestError, match="'k' was used for another event"):
        Once.of(other, ada).checked(-1)


@pytest.mark.parametrize(("confirmed", "brings"), [(0, False), (1, False), (1, True)])
def test_a_personal_message_that_only_the_other_hub_numbered_is_reported(confirmed: int, *, brings: bool) -> None:
    """Whether or not its client has confirmed an earlier one, which the engine numbered, and brings its position."""
    here, there = make_hub(epoch="e1"), make_hub(epoch="e2")
    peer = Peer(here, "p")
    session = peer.connect()
    for n in range(1, confirmed + 1):
        deliver_numbered(here, session, n)
        confirm(here, session)
    here.deliver_personal(session, Event(PERSONAL, b'"data":0', 1))
    request = ConnectRequest("new id", "new secret", open_identity(), session=session.secret)
    restored = kept.restore(there, session.client_id, kept.encode(session), request, engine=7, now_ns=0)
    for n in range(1, confirmed + 1):
        deliver_numbered(there, restored, n)
    moved = Peer(there, "q")
    since = {PERSONAL: Position(f"{7:016x}", confirmed)} if brings else None
    moved.connect(session=session.secret, since=since)
    there.fanout.flush(now_ns=0)

    gaps = [(one["epoch"], one["reason"]) for one in moved.received if one["type"] == "gap"]

    assert "epoch" == gaps[0][1]
    assert [(f"{7:016x}", "filtered")] * confirmed == gaps[1:], "the next event is of this source, and does not name it"


def test_what_only_this_hub_has_numbered_and_the_client_has_not_confirmed_is_counted() -> None:
    here = make_hub(epoch="e1")
    peer = Peer(here, "p")
    session = peer.connect()
    assert 0 == kept.only_here(session)
    deliver_numbered(here, session, 1)
    here.deliver_personal(session, Event(PERSONAL, b'"data":0', 1))
    confirm(here, session)
    deliver_numbered(here, session, 2)
    assert 0 == kept.only_here(session)
    for _ in range(2):
        here.deliver_personal(session, Event(PERSONAL, b'"data":0', 1))
    assert 2 == kept.only_here(session)
    session.numbered_written = 2

    assert 1 == kept.only_here(session)


def test_a_personal_message_that_was_lost_with_another_gateway_is_a_gap() -> None:
    hub = make_hub()
    peer = Peer(hub, "p")
    session = peer.connect()
    for offset, fields in ((1, b""), (2, b'"data":1'), (3, b""), (5, b""), (6, b'"data":1')):
        one = NumberedEvent(7, offset, fields)
        event = new_event(session.personal, PERSONAL, one, now_ns=0, unknown=True)
        assert event is not None
        hub.deliver_personal(session, event)
        hub.fanout.flush(now_ns=0)
    gaps = [one for one in peer.received if one["type"] == "gap"]

    assert [2, 6] == [one["offset"] for one in peer.received if one["type"] == "event"]
    assert "epoch" == gaps[0]["reason"], "it is not known what was before the first one"
    assert [(1, 1, 1), (3, 3, 1), (4, 4, 1), (5, 5, 1)] == [(one["from"], one["to"], one["count"]) for one in gaps[1:]]
    assert {"bus_loss"} == {one["reason"] for one in gaps[1:]}
