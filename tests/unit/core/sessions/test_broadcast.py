"""Events of clients: one target each, and with an idempotency key each event once."""

from __future__ import annotations

import pytest
from msgspec import Raw

from gateway.core.protocol.errors import ErrorCode, RequestError
from gateway.core.protocol.messages import Broadcast, Publish
from gateway.core.sessions.broadcast import Broadcaster, Sender
from gateway.core.sessions.idempotency import AGE_NS, IdempotencyKeys
from tests.support.core import Core, Peer, make_hub, open_identity


ALICE = Sender(open_identity("alice"))
BOB = Sender(open_identity("bob"))


def event(number: int = 1, *, key: str | None = "k1", channel: str = "chat") -> Broadcast:
    return Broadcast(event=Raw(b'{"n":%d}' % number), channel=channel, idempotency_key=key)


def offsets(hub: Core, channel: str = "chat") -> int:
    return hub.logs.by_name[channel].position.offset


def test_a_repetition_gets_the_first_answer_and_publishes_nothing() -> None:
    hub = make_hub()
    broadcaster = Broadcaster(hub, hub.pipeline)
    first = broadcaster.send(event(), ALICE, now_ns=0)
    again = broadcaster.send(event(), ALICE, now_ns=AGE_NS - 1)

    assert first == again
    assert 1 == offsets(hub)


def test_events_without_a_key_are_all_published() -> None:
    hub = make_hub()
    broadcaster = Broadcaster(hub, hub.pipeline)
    for _ in range(2):
        broadcaster.send(event(key=None), ALICE, now_ns=0)

    assert 2 == offsets(hub)


def test_a_key_that_was_used_for_another_event_is_refused() -> None:
    hub = make_hub()
    broadcaster = Broadcaster(hub, hub.pipeline)
    broadcaster.send(event(1), ALICE, now_ns=0)
    for other in (event(2), event(1, channel="other")):
        with pytest.raises(RequestError, match="'k1' was used for another event") as refused:
            broadcaster.send(other, ALICE, now_ns=0)
        assert ErrorCode.INVALID_FIELD is refused.value.code


def test_users_do_not_share_their_keys() -> None:
    hub = make_hub()
    broadcaster = Broadcaster(hub, hub.pipeline)
    broadcaster.send(event(1), ALICE, now_ns=0)
    broadcaster.send(event(2), BOB, now_ns=0)

    assert 2 == offsets(hub)


def test_a_request_that_failed_leaves_its_key_unused() -> None:
    hub = make_hub()
    broadcaster = Broadcaster(hub, hub.pipeline)
    with pytest.raises(RequestError):
        broadcaster.send(event(channel="metrics"), ALICE, now_ns=0)
    broadcaster.send(event(), ALICE, now_ns=0)

    assert 1 == offsets(hub)


def test_keys_are_forgotten_after_their_age_and_beyond_their_number() -> None:
    keys, hub = IdempotencyKeys(keys_max=2), make_hub()
    result = Broadcaster(hub, hub.pipeline).send(event(), ALICE, now_ns=0)
    for number in range(3):
        keys.keep(event(key=str(number)), ALICE.identity, result, now_ns=0)

    assert 2 == len(keys)
    assert keys.result(event(key="0"), ALICE.identity, now_ns=0) is None
    assert result == keys.result(event(key="2"), ALICE.identity, now_ns=0)
    assert keys.result(event(key="2"), ALICE.identity, now_ns=AGE_NS) is None
    assert 0 == len(keys)


def test_a_publish_message_is_handed_on_and_counted_by_its_own_rate() -> None:
    hub = make_hub()
    peer = Peer(hub, "a")
    session = peer.connect()
    peer.take()
    text = '{"type":"publish","channel":"chat","event":{"n":1},"id":7}'
    published = hub.receive(session, text, now_ns=0)

    assert isinstance(published, Publish)
    assert ("chat", []) == (published.channel, peer.take())
    assert 1 == hub.counts.messages["publish"]
