"""Whatever is published: who reads gets it or a gap, and everything else that is published."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.fanout.cohorts import Reader
from gateway.core.fanout.fanout import Fanout
from gateway.core.fanout.views import Subscription
from gateway.core.log.logs import Logs
from gateway.core.log.retention import Retention
from gateway.core.log.sources import Entry
from gateway.core.protocol.frames import text_payloads
from gateway.web.endpoints.sse import EventStream
from gateway.workers import messages
from tests.support.core import Core, Peer, Socket, Writer, make_hub


RETENTIONS = {"robots": Retention(events_max=3, key=("data", "k"))}
INNOCENT = b'{"event_type":"system_metrics","data":{}}'
SECOND = 1_000_000_000
_decode = messages.to_worker.decode


def read(payload: bytes) -> dict[str, Any]:
    """Decode a message as both clients do, which must find the same in it."""
    found: dict[str, Any] = orjson.loads(payload)
    json.loads(payload.decode(), parse_constant=pytest.fail)  # JSON.parse refuses NaN and Infinity
    return found


class Client(Peer):
    """A client that reads strictly."""

    def _write(self, data: bytes) -> None:
        self.received += map(read, text_payloads(data))


class Events(Client):
    """The same over Server-Sent Events."""

    def __init__(self, hub: Core, name: str) -> None:
        super().__init__(hub, name)
        self._stream = EventStream()

    def _write(self, data: bytes) -> None:
        body = self._stream.encode(data).split(b"\r\n", 1)[1]
        for line in body.splitlines():
            if line.startswith(b"data: "):
                self.received.append(read(line.removeprefix(b"data: ")))


class Worker(Socket):
    """A worker's replica of the logs, with a reader of everything."""

    def __init__(self, hub: Core) -> None:
        self.received: list[dict[str, Any]] = []
        self._replica = Logs(epoch="e1", channels_max=20, retention=Retention(), retentions=RETENTIONS)
        for log in hub.logs.by_name.values():
            self._replica.load_state(log.state)
        fanout = Fanout(self._replica.by_name, epoch="e1")
        self._replica.on_append.append(fanout.deliver)
        hub.logs.on_append.append(self._forward)
        reader = Reader(writer=Writer(self._write), on_lag=pytest.fail, on_failure=pytest.fail)
        fanout.subscribe(reader, frozenset({Subscription(">")}), {})

    def _forward(self, entries: list[Entry]) -> None:
        message = _decode(messages.encode(messages.Entries(entries)))
        assert isinstance(message, messages.Entries)
        self._replica.replicate(message.entries)

    def _write(self, data: bytes) -> None:
        self.received += map(read, text_payloads(data))


numbers = st.from_regex(rb"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,4})?", fullmatch=True)
values = (
    numbers
    | st.recursive(
        st.none() | st.booleans() | st.text() | st.integers() | st.floats(allow_nan=False),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ).map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    | st.integers(1, 300).map(lambda levels: b"[" * levels + b"]" * levels)
    | st.binary()
)
own = ["event_type", "timestamp", "data", "type", "channel", "offset", "epoch", "id", "key", "k"]
known = ["to", "from", "count", "reason", "positions", "recovered", "code", "\\u006fffset", "__proto__"]
members = st.tuples(st.sampled_from([*own, *known]), values | st.sampled_from([b'"x"', b"7", b"null", b"{}"]))
payloads = (
    values
    | values.map(lambda value: b'{"event_type":"x","data":{"k":%b}}' % value)
    | st.lists(members, max_size=5).map(
        lambda given: b'{"event_type":"x","data":1%b}' % b"".join(b',"%b":%b' % (n.encode(), v) for n, v in given)
    )
)


@given(payloads)
@example(b'{"event_type":"x","data":1,"positions":7}')
@example(b'{"event_type":"x","data":1,"to":"x"}')
@example(b'{"x":1e999}')
@example(b"[" * 970 + b"]" * 970)
@example(b'{"event_type":"x","data":1,"\\u006fffset":9}')
def test_every_reader_gets_what_is_accepted_or_a_gap_and_all_else(payload: bytes) -> None:
    hub = make_hub(retentions=RETENTIONS)
    worker = Worker(hub)
    plain, filtered, newest, rated, lagging = (Client(hub, f"c{n}") for n in range(5))
    events = Events(hub, "sse")
    plain.connect("robots", "metrics")
    events.connect("robots", "metrics")
    lagging.connect("robots", "metrics")
    lagging.writing_paused = True
    options: list[tuple[Client, dict[str, Any]]] = [
        (filtered, {"filter": "data.k > 0 || data != 3 || true"}),
        (newest, {"last": 1}),
        (rated, {"rate": 1}),
    ]
    for client, given_ in options:
        client.connect("metrics")
        client.send(type="subscribe", channels=["robots"], **given_)
    tick = hub.tick([[b"metrics", INNOCENT], [b"robots", payload], [b"metrics", INNOCENT]], now_ns=SECOND)
    hub.fanout.flush(now_ns=3 * SECOND)
    lagging.read_on()
    late = Client(hub, "late")
    late.connect("robots", last=3)
    again = Events(hub, "again")
    again.connect("robots", "metrics", last=3)

    accepted = 1 - len(tick.rejections)
    for one in (plain, filtered, newest, rated, lagging, events, again, worker):
        channels = [m["channel"] for m in one.received if m["type"] in {"event", "gap"}]
        assert channels.count("metrics") == 2, type(one)
        assert channels.count("robots") == accepted, type(one)
    assert [m["type"] for m in late.received].count("event") == accepted
    assert hub.fanout.take_tally().failed == 0
