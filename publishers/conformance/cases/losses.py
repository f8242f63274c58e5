"""Cases about heartbeats, replay and restarts: losses that can be noticed and repaired are repaired."""

import json
import time
from functools import partial

import zmq

from publishers.conformance.cases.support import PAYLOAD_BYTES_MAX, bound, connected, restarted, seen, u64, vectors
from publishers.conformance.processes import Gateway, Setting, until
from tests.support.addresses import free_tcp


def heartbeats(setting: Setting) -> None:
    """Heartbeats: at once to each new subscriber, then every interval, and a farewell after the last event."""
    subscriber, driver = seen(setting, heartbeat_seconds=0.2, name="core", replay=10)
    first = subscriber.heartbeat()
    assert first == {
        "incarnation": driver.opened["incarnation"],
        "name": "core",
        "interval": 0.2,
        "replay": driver.opened["replay"],
        "sequences": {},
    }, first
    driver.ask("burst", topic="b", count=3, bytes=30)
    driver.ask("raw", topic="a", json="1")
    expected = {"b": 3, "a": 1}
    until(lambda: subscriber.heartbeat()["sequences"] == expected, "the numbers in a heartbeat")
    began = time.monotonic()
    for _ in range(10):
        assert subscriber.heartbeat()["interval"] == 0.2
    assert time.monotonic() - began < 30, "ten heartbeats with an interval of 0.2 s took more than 30 s"

    slow, greeter = seen(setting, heartbeat_seconds=3600, name="slow")
    assert slow.heartbeat()["sequences"] == {}
    greeter.ask("raw", topic="a", json="1")
    second = setting.subscriber(connect=greeter.opened["endpoint"])
    assert second.heartbeat()["sequences"] == {"a": 1}, "the second subscriber got no heartbeat with the numbers"
    greeter.ask("raw", topic="a", json="2")
    greeter.ask("close")
    assert slow.event()[1] == b"1"
    while slow.frames()[0] != b"a":
        pass
    farewell = slow.heartbeat()
    assert (farewell["interval"], farewell["sequences"]) == (0, {"a": 2}), farewell


def topics_in_heartbeats(setting: Setting) -> None:
    """1,001 topics take two heartbeat messages."""
    subscriber, driver = seen(setting, heartbeat_seconds=3600)
    subscriber.heartbeat()
    names = [f"t.{n}" for n in range(1001)]
    for name in names:
        driver.ask("raw", topic=name, json="1")
    driver.ask("close")
    for name in names:
        assert subscriber.event()[0] == name.encode()
    first, last = subscriber.heartbeat(), subscriber.heartbeat()
    assert len(first["sequences"]) == 1000
    assert first["more"] is True
    assert not last.get("more")
    assert {**first["sequences"], **last["sequences"]} == dict.fromkeys(names, 1)


def welcome(setting: Setting) -> None:
    """Waiting for a subscriber returns false while there is none, and true once there is one; then no event is lost."""
    endpoint = free_tcp()
    driver = setting.driver(connect=endpoint)
    assert driver.ask("wait", seconds=0.2) is False
    gateway = setting.gateway("connect = []", f'bind = "{endpoint}"')
    assert driver.ask("wait", seconds=30) is True
    for n in range(100):
        driver.ask("publish", topic="w", data=n)
    assert [one["data"] for one in gateway.events("w", 100)] == list(range(100))


def _asker(setting: Setting, endpoint: str) -> "zmq.Socket[bytes]":
    socket = setting.context.socket(zmq.DEALER)
    socket.linger = 0
    socket.connect(endpoint)
    return socket


def _ask(socket: "zmq.Socket[bytes]", topic: bytes, first: int, last: int, *, number: int = 7) -> list[bytes]:
    socket.send_multipart([b"NGR1", u64(number), topic, u64(first) + u64(last)])
    assert socket.poll(30_000), "no reply"
    reply = socket.recv_multipart()
    assert reply[:2] == [b"NGR1", u64(number)], reply[:2]
    return reply[2:]


def replay(setting: Setting) -> None:
    """Replies have the bytes that were sent: ranges, limits of a reply, invalid requests."""
    subscriber, driver = seen(setting, replay=1000)
    socket = _asker(setting, driver.opened["replay"])
    incarnation = bytes.fromhex(driver.opened["incarnation"])
    driver.ask("burst", topic="many", count=600, bytes=100)
    driver.ask("burst", topic="large", count=4, bytes=400_000)
    driver.ask("burst", topic="single", count=2, bytes=PAYLOAD_BYTES_MAX)
    sent: dict[bytes, list[bytes]] = {}
    for _ in range(606):
        topic, *pair = subscriber.event()
        sent.setdefault(topic, []).extend(pair)
    top = 2**64 - 1
    for topic, first, last, begin, end in (
        (b"many", 1, top, 0, 256),
        (b"many", 257, top, 256, 512),
        (b"many", 513, 600, 512, 600),
        (b"many", 10, 10, 9, 10),
        (b"many", 0, 3, 0, 3),
        (b"many", 601, top, 0, 0),
        (b"many", 5, 4, 0, 0),
        (b"nothing", 1, top, 0, 0),
        (b"large", 1, top, 0, 2),
        (b"single", 1, top, 0, 1),
    ):
        expected = [incarnation, *sent.get(topic, [])[2 * begin : 2 * end]]
        assert _ask(socket, topic, first, last, number=top) == expected, (topic, first, last)
    for invalid in vectors("replay")["invalid"]:
        if invalid["request"]:
            socket.send_multipart([bytes.fromhex(frame) for frame in invalid["request"]])
    assert _ask(socket, b"many", 1, 1) == [incarnation, *sent[b"many"][:2]]
    others = [_asker(setting, driver.opened["replay"]) for _ in range(3)]
    for n, other in enumerate(others):
        assert _ask(other, b"many", n + 1, n + 1, number=n)[1:] == sent[b"many"][2 * n : 2 * n + 2]
    socket.close()


def replay_is_bounded(setting: Setting) -> None:
    """The newest messages of each topic are kept, up to the number of the option and to 16 MiB."""
    driver = setting.driver(bind="tcp://127.0.0.1:*", replay=20)
    socket = _asker(setting, driver.opened["replay"])
    driver.ask("burst", topic="a", count=50, bytes=20)
    numbers = [int.from_bytes(one[16:24]) for one in _ask(socket, b"a", 1, 100)[2::2]]
    assert numbers == list(range(31, 51)), numbers
    driver.ask("burst", topic="b", count=20, bytes=PAYLOAD_BYTES_MAX)
    oldest = int.from_bytes(_ask(socket, b"b", 1, 100)[2][16:24])
    assert 5 <= oldest <= 6, f"of messages 1 to 20 of 1 MiB each, the oldest kept is {oldest}, not 5 or 6"
    socket.close()


def gateway_restarts(setting: Setting) -> None:
    """The gateway is killed and restarted: a publisher that connects loses nothing."""
    restarted(setting, *connected(setting, replay=1000))


def gateway_restarts_bind(setting: Setting) -> None:
    """The gateway is killed and restarted: a publisher that binds loses nothing."""
    restarted(setting, *bound(setting, replay=1000))


def _has_events(gateway: Gateway, channel: str, count: int) -> bool:
    return len([one for one in gateway.history(channel) if one["type"] == "event"]) == count


def publisher_restarts(setting: Setting) -> None:
    """A killed publisher restarts as a new incarnation that numbers from 1."""
    endpoint = free_tcp()
    gateway = setting.gateway(f'connect = ["{endpoint}"]', 'bind = ""')
    seen = []
    for n in range(2):
        driver = setting.driver(bind=endpoint, replay=100)
        assert driver.ask("wait", seconds=30)
        driver.ask("burst", topic="r", count=5, bytes=30)
        seen.append(driver.opened["incarnation"])
        until(partial(_has_events, gateway, "r", 5 * (n + 1)), f"the events of start {n + 1}")
        driver.kill()
    events = [one for one in gateway.history("r") if one["type"] == "event"]
    assert [(one["offset"], one["data"]["n"]) for one in events] == [(n + 1, n) for n in (*range(5), *range(5))]
    assert seen[0] != seen[1]
    assert {one["epoch"] for one in events if "epoch" in one} == set(seen)


def high_water_mark(setting: Setting) -> None:
    """With a subscriber that does not read, dropped messages are counted, use numbers, and can be replayed."""
    driver = setting.driver(bind="tcp://127.0.0.1:*", high_water_mark=20, replay=5000, heartbeat_seconds=3600)
    subscriber = setting.subscriber(connect=driver.opened["endpoint"], queue_max=1, buffer_bytes=4096)
    subscriber.await_publisher(driver)
    report = driver.ask("burst", topic="h", count=2000, bytes=5_000)
    assert report["published"] + report["dropped"] == 2000, report
    assert report["dropped"] > 0, report
    counts = driver.ask("counts")
    assert (counts["published"], counts["dropped"]) == (report["published"], report["dropped"])
    got = [int.from_bytes(subscriber.event()[2][16:24]) for _ in range(report["published"])]
    assert got == sorted(set(got)), "messages arrived out of order or twice"
    # There is room again: the next message arrives, with the next number.
    until(lambda: driver.ask("raw", topic="h", json="1"), "room again")
    *_, envelope = subscriber.event()
    assert int.from_bytes(envelope[16:24]) > 2000
    socket = _asker(setting, driver.opened["replay"])
    missing = min(set(range(1, 2001)) - set(got))
    [_, payload, _] = _ask(socket, b"h", missing, missing)
    assert json.loads(payload)["n"] == missing - 1
    socket.close()
