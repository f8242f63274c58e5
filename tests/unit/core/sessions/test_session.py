"""Clients' messages and the replies; sessions that are resumed after a disconnect."""

from functools import partial
from typing import Any

import pytest
from msgspec import Raw

from gateway.core.fanout.cohorts import Reader
from gateway.core.protocol.envelope import Envelope
from gateway.core.protocol.messages import Broadcast, Position
from gateway.core.sessions.requests import ConnectRequest
from tests.support.core import SECOND, Peer, Writer, make_hub, open_identity, publish


def kinds(messages: list[dict[str, Any]]) -> list[str]:
    return [message["type"] for message in messages]


def offsets(messages: list[dict[str, Any]], channel: str = "robots") -> list[int]:
    return [m["offset"] for m in messages if m["type"] == "event" and m["channel"] == channel]


def test_the_first_message_is_connected_with_the_limits() -> None:
    peer = Peer(make_hub(), "ann")
    session = peer.connect(user_id="ann")
    [connected] = peer.take()

    assert connected["type"] == "connected"
    assert connected["client_id"] == session.client_id
    assert connected["user_id"] == "ann"
    assert connected["session"] == session.secret
    assert connected["resumed"] is False
    assert connected["limits"] == {"message_bytes_max": 65536, "subscriptions_max": 8}


def test_subscribed_has_the_positions_behind_which_nothing_is_missed() -> None:
    hub = make_hub()
    publish(hub, "robots", 3)
    peer = Peer(hub, "p")
    peer.connect()
    [subscribed] = peer.send(type="subscribe", channels=["robots", "later"], id=7)
    publish(hub, "robots")
    publish(hub, "later")

    assert subscribed["id"] == 7
    assert subscribed["channels"] == ["robots", "later"]
    assert subscribed["positions"] == {"robots": {"epoch": "e1", "offset": 3}, "later": {"epoch": "e1", "offset": 0}}
    assert subscribed["recovered"] == {}
    assert subscribed["denied"] == []
    assert offsets(peer.received) == [4]
    assert offsets(peer.received, "later") == [1]


def test_an_event_that_two_subscriptions_select_is_delivered_once() -> None:
    hub = make_hub()
    peer = Peer(hub, "p")
    peer.connect("robots", "*", ">")
    publish(hub, "robots")

    assert offsets(peer.received) == [1]


@pytest.mark.parametrize(("last", "expected"), [(0, []), (1, [5]), (3, [3, 4, 5]), (99, [2, 3, 4, 5])])
def test_last_starts_with_the_newest_events_held(last: int, expected: list[int]) -> None:
    hub = make_hub(events_max=4)
    publish(hub, "robots", 5)
    peer = Peer(hub, "p")
    peer.connect()
    got = peer.send(type="subscribe", channels=["robots"], last=last)

    assert kinds(got) == ["subscribed"] + ["event"] * len(expected)
    assert offsets(got) == expected


@pytest.mark.parametrize(
    ("since", "recovered", "gap", "expected"),
    [
        ({"epoch": "e1", "offset": 3}, True, None, [4, 5]),
        ({"epoch": "e1", "offset": 5}, True, None, []),
        ({"epoch": "e1", "offset": 1}, True, None, [2, 3, 4, 5]),
        ({"epoch": "e1", "offset": 0}, False, (1, 1, "evicted"), [2, 3, 4, 5]),
        ({"epoch": "e0", "offset": 4}, False, (None, 1, "epoch"), [2, 3, 4, 5]),
        ({"epoch": "e1", "offset": 6}, False, (None, 1, "epoch"), [2, 3, 4, 5]),
    ],
)
def test_a_client_that_resumes_gets_every_event_or_a_gap(
    since: dict[str, Any], recovered: bool, gap: tuple[int | None, int | None, str] | None, expected: list[int]
) -> None:
    hub = make_hub(events_max=4)
    publish(hub, "robots", 5)
    peer = Peer(hub, "p")
    peer.connect()
    got = peer.send(type="subscribe", channels=["robots"], since=since)

    assert got[0]["recovered"] == {"robots": recovered}
    gaps = [(m["from"], m["to"], m["reason"]) for m in got if m["type"] == "gap"]
    assert gaps == ([gap] if gap else [])
    assert offsets(got) == expected


def test_a_channel_that_is_new_to_a_wildcard_starts_at_its_beginning_also_if_that_is_evicted() -> None:
    hub = make_hub(events_max=4)
    publish(hub, "logs.b", 6)
    peer = Peer(hub, "p")
    peer.connect()
    got = peer.send(type="subscribe", channels=["logs.*"], since={})

    assert {"logs.b": {"epoch": "e1", "offset": 0}} == got[0]["positions"]
    assert [(1, 2, "evicted")] == [(m["from"], m["to"], m["reason"]) for m in got if m["type"] == "gap"]
    assert [3, 4, 5, 6] == offsets(got, "logs.b")


def test_positions_of_channels_that_do_not_exist_leave_nothing_in_a_session() -> None:
    """Each is answered, and a client may name others in its next message."""
    hub = make_hub()
    peer = Peer(hub, "p")
    peer.connect("robots")
    opened = set(hub.logs.by_name)
    for message in range(20):
        since = {f"logs.c{message}n{n}": {"epoch": "e1", "offset": 1} for n in range(200)}
        answer, *gaps = peer.send(type="subscribe", channels=["logs.*"], since=since)
        assert answer["recovered"] == dict.fromkeys(since, False)
        assert {"gap"} == set(kinds(gaps))

    assert peer.session is not None
    assert not {name for name in peer.session.known if name.startswith("logs.c")}
    assert opened == set(hub.logs.by_name)


def test_a_wildcard_resumes_known_channels_at_their_positions_and_new_ones_at_their_start() -> None:
    hub = make_hub()
    publish(hub, "logs.a", 5)
    publish(hub, "logs.b", 2)
    peer = Peer(hub, "p")
    peer.connect()
    got = peer.send(type="subscribe", channels=["logs.*"], since={"logs.a": {"epoch": "e1", "offset": 4}})

    assert got[0]["recovered"] == {"logs.a": True, "logs.b": True}
    assert offsets(got, "logs.a") == [5]
    assert offsets(got, "logs.b") == [1, 2]


def test_unsubscribed_has_what_was_removed_and_no_event_follows() -> None:
    hub = make_hub()
    peer = Peer(hub, "p")
    peer.connect("robots", "logs.*")
    [reply] = peer.send(type="unsubscribe", channels=["robots", "never"], id="x")
    publish(hub, "robots")

    assert reply["channels"] == ["robots"]
    assert reply["id"] == "x"
    assert offsets(peer.received) == []
    [subscriptions] = peer.send(type="get_subscriptions")
    assert subscriptions["channels"] == ["logs.*"]


def test_a_pong_has_positions_so_that_quiet_channels_resume_too() -> None:
    hub = make_hub()
    publish(hub, "robots", 3)
    peer = Peer(hub, "p")
    peer.connect("robots")
    [pong] = peer.send(type="ping", id=1)

    assert pong["type"] == "pong"
    assert pong["positions"]["robots"] == {"epoch": "e1", "offset": 3}


@pytest.mark.parametrize(
    ("text", "code", "id_"),
    [
        ("", "invalid_json", None),
        ("{", "invalid_json", None),
        ('{"type":"ping","x":' + "[" * 5000, "invalid_json", None),
        ("[]", "invalid_field", None),
        ('{"id":3}', "unknown_type", 3),
        ('{"type":"shout","id":"a"}', "unknown_type", "a"),
        ('{"type":5}', "unknown_type", None),
        ('{"type":"subscribe","id":1}', "invalid_field", 1),
        ('{"type":"subscribe","channels":"metrics","id":1}', "invalid_field", 1),
        ('{"type":"subscribe","channels":[]}', "invalid_field", None),
        ('{"type":"subscribe","channels":[5]}', "invalid_field", None),
        ('{"type":"subscribe","channels":["a"],"last":-1}', "invalid_field", None),
        ('{"type":"subscribe","channels":["a"],"since":5}', "invalid_field", None),
        ('{"type":"subscribe","channels":["a"],"since":{"epoch":1,"offset":1}}', "invalid_field", None),
        ('{"type":"subscribe","channels":["*"],"since":{"epoch":"e","offset":1}}', "invalid_field", None),
        ('{"type":"subscribe","channels":["a","b"],"since":{"epoch":"e","offset":1}}', "invalid_field", None),
        ('{"type":"subscribe","channels":["a b"],"id":4}', "invalid_channel", 4),
        ('{"type":"subscribe","channels":["$everyone"]}', "invalid_channel", None),
        ('{"type":"subscribe","channels":["a","b","c","d","e","f","g","h","i"]}', "too_many_subscriptions", None),
        ('{"type":"subscribe","channels":["a"],"filter":"x >"}', "invalid_filter", None),
        ('{"type":"subscribe","channels":["a"],"rate":0}', "invalid_field", None),
        ('{"type":"ping","id":[1]}', "invalid_field", None),
    ],
)
def test_an_invalid_message_gets_an_error_and_changes_nothing(text: str, code: str, id_: int | str | None) -> None:
    hub = make_hub()
    peer = Peer(hub, "p")
    session = peer.connect("robots")
    peer.take()
    hub.receive(session, text, now_ns=0)
    [error] = peer.take()

    assert error["type"] == "error"
    assert error["code"] == code
    assert error.get("id") == id_
    assert error["message"]
    assert [*session.subscriptions] == ["robots"]
    publish(hub, "robots")
    assert offsets(peer.take()) == [1]


def test_a_resumed_session_has_its_subscriptions_positions_and_personal_messages() -> None:
    hub = make_hub()
    peer = Peer(hub, "p")
    session = peer.connect("robots", user_id="ann")
    publish(hub, "robots", 2)
    positions = session.positions()
    peer.disconnect()
    publish(hub, "robots", 2)
    send_broadcast(hub, user_id="ann")
    peer.take()
    peer.connect(session=session.secret, since=positions, now_ns=299 * SECOND)
    connected, subscribed, *events = peer.take()

    assert connected["resumed"] is True
    assert connected["user_id"] == "ann"
    assert connected["session"] != "secret-p-1", "a secret resumes its session once"
    assert subscribed["channels"] == ["robots"]
    assert subscribed["recovered"] == {"$everyone": True, "robots": True}
    assert offsets(events) == [3, 4]
    assert offsets(events, "$personal") == [1]


def test_without_positions_a_session_resumes_from_what_was_confirmed() -> None:
    """Bytes that were written to a socket may be lost with it, so they are sent again."""
    hub = make_hub()
    peer = Peer(hub, "p")
    session = peer.connect("robots")
    publish(hub, "robots", 2)
    session.on_ping(b"1", hub.heads())
    publish(hub, "robots")
    session.on_pong(b"1")
    publish(hub, "robots")
    peer.disconnect()
    peer.take()
    peer.connect(session=session.secret)

    assert offsets(peer.take()) == [3, 4]


def test_subscribing_again_confirms_nothing() -> None:
    hub = make_hub()
    peer = Peer(hub, "p")
    session = peer.connect("robots")
    publish(hub, "robots", 2)
    peer.send(type="subscribe", channels=["robots"])
    peer.disconnect()
    peer.take()
    peer.connect(session=session.secret)

    assert offsets(peer.take()) == [1, 2]


def test_a_channel_that_is_subscribed_to_again_resumes_from_its_new_start() -> None:
    hub = make_hub()
    peer = Peer(hub, "p")
    session = peer.connect("robots")
    publish(hub, "robots", 2)
    peer.send(type="unsubscribe", channels=["robots"])
    publish(hub, "robots", 2)
    peer.send(type="subscribe", channels=["robots"])
    publish(hub, "robots", 1)
    peer.disconnect()
    peer.take()
    peer.connect(session=session.secret)

    assert offsets(peer.take()) == [5]


def test_an_expired_session_cannot_be_resumed_and_is_not_kept() -> None:
    hub = make_hub(ttl_seconds=300)
    peer = Peer(hub, "p")
    session = peer.connect("robots", user_id="ann")
    peer.disconnect()
    peer.take()
    again = peer.connect(session=session.secret, now_ns=300 * SECOND)

    assert peer.take()[0]["resumed"] is False
    assert again is not session
    assert hub.store.of_client(session.client_id) is None
    assert hub.store.of_user("ann") == []


def test_the_sessions_that_disconnected_last_are_remembered() -> None:
    hub = make_hub()
    lost = []
    for number in range(7):
        peer = Peer(hub, f"p{number}")
        lost.append(peer.connect())
        peer.disconnect()

    assert hub.store.remembered == 5
    assert [hub.store.of_client(s.client_id) is not None for s in lost] == [False] * 2 + [True] * 5


def send_broadcast(hub: Any, **target: Any) -> Any:  # Any: whatever a test wants to try
    return hub.broadcast(Broadcast(event=Raw(b'{"hello":1}'), **target), open_identity(), now_ns=0)


def test_a_message_reaches_one_client_one_user_or_everyone() -> None:
    hub = make_hub()
    ann, ben = Peer(hub, "ann"), Peer(hub, "ben")
    session = ann.connect(user_id="u")
    ben.connect(user_id="u")
    one = send_broadcast(hub, client_id=session.client_id)
    both = send_broadcast(hub, user_id="u")
    everyone = send_broadcast(hub, everyone=True)
    nobody = send_broadcast(hub, user_id="other")

    assert [one.recipients, both.recipients, everyone.recipients, nobody.recipients] == [1, 2, 2, 0]
    assert offsets(ann.received, "$personal") == [1, 2]
    assert offsets(ben.received, "$personal") == [1]
    assert offsets(ann.received, "$everyone") == offsets(ben.received, "$everyone") == [1]
    assert everyone.position == Position("e1", 1)


def test_a_lagging_client_gets_its_personal_messages_when_it_reads_on() -> None:
    hub = make_hub()
    peer = Peer(hub, "p")
    session = peer.connect("robots")
    peer.writing_paused = True
    for _ in range(3):
        send_broadcast(hub, client_id=session.client_id)
        publish(hub, "robots")
    assert offsets(peer.received, "$personal") == []
    peer.read_on()

    assert offsets(peer.received, "$personal") == [1, 2, 3]
    assert offsets(peer.received) == [1, 2, 3]


def test_the_connections_channel_reports_connects_disconnects_and_subscriptions() -> None:
    hub = make_hub()
    watcher = Peer(hub, "watcher")
    watcher.connect("connections")
    watcher.take()
    peer = Peer(hub, "p")
    session = peer.connect(user_id="ann")
    peer.send(type="subscribe", channels=["robots"])
    peer.send(type="unsubscribe", channels=["robots"])
    peer.disconnect()
    events = watcher.take()

    assert [event["event_type"] for event in events] == [
        "client.connected",
        "client.subscribed",
        "client.unsubscribed",
        "client.disconnected",
    ]
    assert all(event["data"]["client_id"] == session.client_id for event in events)
    assert [event["data"]["total_connections"] for event in events] == [2, 2, 2, 1]


def test_a_loss_on_the_bus_is_reported_before_the_event_that_shows_it() -> None:
    """The messages are the same live and from history."""
    hub = make_hub()
    live = Peer(hub, "live")
    live.connect("robots")
    live.take()
    for sequence in (1, 2, 6):
        stamp = Envelope(incarnation=1, sequence=sequence, sent_ns=0).pack()
        hub.tick([[b"robots", b"1", stamp]], now_ns=0)
    later = Peer(hub, "later")
    later.connect()
    history = later.send(type="subscribe", channels=["robots"], last=10)[1:]
    received = live.take()

    assert received == history
    assert [(m["type"], m.get("offset"), m.get("count")) for m in received] == [
        ("event", 1, None),
        ("event", 2, None),
        ("gap", None, 3),
        ("event", 6, None),
    ]
    assert (received[2]["reason"], received[2]["from"], received[2]["to"]) == ("bus_loss", 3, 5)


def test_an_address_with_session_channels_and_positions_delivers_once() -> None:
    """A client that reconnects sends all three, as it does not know whether its session expired."""
    hub = make_hub()
    peer = Peer(hub, "p")
    session = peer.connect("robots")
    publish(hub, "robots", 2)
    positions = session.positions()
    peer.disconnect()
    publish(hub, "robots", 3)
    peer.take()
    peer.connect("robots", "logs.a", session=session.secret, since=positions)

    assert offsets(peer.received) == [3, 4, 5]
    assert [*session.subscriptions] == ["robots", "logs.a"]


def test_a_lagging_client_that_subscribes_with_last_still_gets_all_events() -> None:
    hub = make_hub()
    peer = Peer(hub, "p")
    peer.connect("robots")
    peer.writing_paused = True
    publish(hub, "robots", 20)
    peer.send(type="subscribe", channels=["robots"], last=2)
    peer.read_on()

    assert offsets(peer.received) == list(range(1, 21))


def test_a_channel_that_is_named_many_times_is_one_subscription() -> None:
    hub = make_hub()
    peer = Peer(hub, "p")
    session = peer.connect()
    [subscribed] = peer.send(type="subscribe", channels=["robots"] * 1000)

    assert subscribed["channels"] == ["robots"]
    assert [*session.subscriptions] == ["robots"]


def test_the_secret_that_a_client_brings_stays_valid_until_it_has_the_new_one() -> None:
    hub = make_hub()
    peer = Peer(hub, "p")
    first = peer.connect("robots").secret
    peer.disconnect()
    peer.connect(session=first)
    peer.disconnect()
    session = peer.connect(session=first)
    assert session.client_id == "p-1"
    session.on_ping(b"1", hub.heads())
    hub.on_pong(session, b"1")
    peer.disconnect()

    assert peer.connect(session=first).client_id != "p-1"


def test_a_new_secret_that_is_used_ends_the_earlier_one() -> None:
    hub = make_hub()
    peer = Peer(hub, "p")
    first = peer.connect("robots").secret
    peer.disconnect()
    second = peer.connect(session=first).secret
    peer.disconnect()
    assert peer.connect(session=second).client_id == "p-1"
    peer.disconnect()

    assert peer.connect(session=first).client_id != "p-1"


def test_a_session_that_expires_leaves_no_secret_behind() -> None:
    hub = make_hub(ttl_seconds=10)
    peer = Peer(hub, "p")
    first = peer.connect("robots").secret
    peer.disconnect()
    peer.connect(session=first)
    peer.disconnect()
    hub.store.forget_expired(now_ns=11 * SECOND)

    assert hub.store._by_secret == {}


def test_misspelt_members_of_a_subscription_are_reported() -> None:
    peer = Peer(make_hub(), "p")
    peer.connect()

    wrong = peer.send(type="subscribe", channels=["a", {"channel": "b", "lst": 1}], fliter="true", x=1)[0]
    right = peer.send(type="subscribe", channels=[{"channel": "a", "last": 1}], filter="true", id=1)[0]

    assert wrong["warnings"] == [
        "the message: `fliter` is not known; did you mean `filter`?",
        "the message: `x` is not known",
        "channel 'b': `lst` is not known; did you mean `last`?",
    ]
    assert "warnings" not in right


def test_a_misspelt_channel_is_reported_with_the_open_channel_that_it_resembles() -> None:
    hub = make_hub()
    publish(hub, "robots")
    publish(hub, "hosts.h1")
    peer = Peer(hub, "p")
    peer.connect("robot")
    [_, in_address] = peer.take()
    wrong = peer.send(type="subscribe", channels=["Robots", "hosts.h2"])[0]
    known = peer.send(type="subscribe", channels=[{"channel": "robos", "since": {"epoch": "e", "offset": 0}}])[0]

    assert in_address["warnings"] == ["no such channel yet: `robot`; did you mean `robots`?"]
    assert wrong["warnings"] == ["no such channel yet: `Robots`; did you mean `robots`?"]
    assert "warnings" not in known


def test_a_slow_client_that_loses_each_connection_comes_further_with_each() -> None:
    """It reads 100 KB of what was written to it, answers the pings in that, and is lost."""
    hub = make_hub()
    peer = Peer(hub, "p")
    session = peer.connect("robots")
    peer.disconnect()
    hub.tick([[b"robots", b'{"data":"%b"}' % (b"x" * 9000)]] * 40, now_ns=0)
    lengths = []
    for number in range(10):
        sent: list[tuple[bytes, bool]] = []
        request = ConnectRequest(f"c{number}", f"s{number}", open_identity(), session=session.secret)
        hub.connect(request, partial(slow_reader, sent), now_ns=0)
        lengths.append(sum(len(data) for data, _ in sent))
        read = 0
        for data, is_ping in sent:
            read += len(data)
            if read > 100_000:
                break
            if is_ping:
                hub.on_pong(session, data)
        hub.disconnect(session, code=1006, seconds=1, now_ns=0)

    assert lengths[0] > 360_000
    assert lengths[-1] < 100_000
    assert lengths == sorted(lengths, reverse=True)


def slow_reader(sent: list[tuple[bytes, bool]]) -> Reader:
    """Return a reader that notes what is written, and whether it is a ping."""
    writer = Writer(lambda data: sent.append((data, False)))
    return Reader(writer=writer, on_lag=lambda: None, ping=lambda payload: sent.append((payload, True)))


def test_a_pong_confirms_the_places_of_its_ping_and_of_those_before() -> None:
    hub = make_hub()
    peer = Peer(hub, "p")
    session = peer.connect("robots")
    for payload in (b"1", b"2", b"3", b"4", b"5"):
        publish(hub, "robots")
        session.on_ping(payload, hub.heads())
    session.on_pong(b"2")
    assert session.positions()["robots"].offset == 5
    assert session.known["robots"].position.offset == 2
    session.on_pong(b"5")
    session.on_pong(b"1")

    assert session.known["robots"].position.offset == 5
