"""What an event and a delivery cost, counted in function calls: a number that no machine changes.

Calls of Python and of C functions are counted alike. The bounds are what the code needs today with
little to spare: who has to raise one should know why.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from gateway.core.fanout.cohorts import Reader
from gateway.core.protocol.envelope import Envelope
from gateway.core.sessions.requests import ConnectRequest
from tests.support.core import Core, Writer, make_hub, open_identity
from tests.support.counting import calls, steps


PAYLOAD = (
    b'{"event_type":"system_metrics","timestamp":"2026-01-01T00:00:00Z","data":{"cpu_percent":12.5,"memory_mb":2048.0}}'
)


Message = Mapping[str, object]
PLAIN: Message = {"channels": ["metrics"]}


def plain(other: str) -> Message:
    """Return a different view that selects the same."""
    return {"channels": ["metrics", other]}


def filtered(number: int) -> Message:
    """Return a different view with a filter that matches every event."""
    return {**PLAIN, "filter": f"data.cpu_percent > {number / 1000}"}


class Sink:
    """A socket that is never full, and keeps what is written to it."""

    def __init__(self, hub: Core, number: int, subscribe: Message) -> None:
        self.writes: list[bytes] = []
        connect_request = ConnectRequest(client_id=f"c{number}", secret=f"c{number}", identity=open_identity())
        self.hub, self.session = hub, hub.connect(connect_request, self._reader, now_ns=0)
        self.send({"type": "subscribe", **subscribe})
        self.writes.clear()

    def send(self, message: Message) -> None:
        self.hub.receive(self.session, json.dumps(message), now_ns=0)

    def _reader(self) -> Reader:
        return Reader(writer=Writer(self.writes.append), on_lag=lambda: None)


class Bus:
    """Ticks of numbered, typed events."""

    def __init__(self, hub: Core) -> None:
        self.hub = hub
        self.sent = 0

    def tick(self, events: int) -> int:
        """Publish events in one tick; return how many calls that takes."""
        numbers = range(self.sent + 1, self.sent + events + 1)
        self.sent += events
        batch = [[b"metrics", PAYLOAD, Envelope(7, number, number).pack()] for number in numbers]
        return calls(lambda: self.hub.tick(batch, now_ns=1))


def cost(*, readers: int, events: int, views: Sequence[Message] = (PLAIN,)) -> int:
    """Return the calls of a tick; readers have one of the views each, in turn."""
    hub = make_hub()
    sinks = [Sink(hub, number, views[number % len(views)]) for number in range(readers)]
    bus = Bus(hub)
    bus.tick(1)
    count = bus.tick(events)
    assert {len(sink.writes) for sink in sinks} == {2}
    return count


def test_a_further_reader_costs_one_write_a_tick_and_nothing_else() -> None:
    for events in (1, 50):
        few, many = (cost(readers=readers, events=events) for readers in (100, 200))
        assert 100 == many - few


def test_a_further_event_costs_the_same_however_many_readers_there_are() -> None:
    alone, many = (cost(readers=readers, events=200) - cost(readers=readers, events=100) for readers in (1, 200))
    assert alone == many
    assert alone / 100 <= 37


def test_a_further_view_costs_a_few_calls_a_tick_and_none_for_an_event() -> None:
    def further(events: int) -> float:
        few, many = (
            cost(readers=100, events=events, views=[plain(f"o{n}") for n in range(count)]) for count in (10, 100)
        )
        return (many - few) / 90

    assert further(events=10) == further(events=100) <= 10


def test_a_reader_with_a_filter_costs_one_write_and_the_filter_is_evaluated_once() -> None:
    few, many = (cost(readers=count, events=50, views=[filtered(0)]) for count in (100, 200))
    assert 100 == many - few


def test_a_further_filter_costs_a_few_calls_an_event() -> None:
    def with_filters(count: int, events: int) -> int:
        return cost(readers=20, events=events, views=[filtered(n) for n in range(count)])

    each = with_filters(20, events=100) - with_filters(10, events=100)
    assert each / 10 / 100 <= 7


def test_a_position_costs_the_same_however_many_a_message_names() -> None:
    def with_positions(count: int) -> int:
        hub = make_hub()
        hub.set_limits(replace(hub.limits, subscriptions_max=80), hub.welcome)
        connect_request = ConnectRequest(client_id="c", secret="c", identity=open_identity())
        session = hub.connect(
            connect_request, lambda: Reader(writer=Writer(lambda data: None), on_lag=lambda: None), now_ns=0
        )
        names = [f"invented.{number}" for number in range(count)]
        since = {name: {"epoch": "0" * 16, "offset": 1} for name in names}
        text = json.dumps({"type": "subscribe", "channels": names, "since": since})
        return calls(lambda: hub.receive(session, text, now_ns=0))

    with_positions(1)  # what is made once, by whichever test comes first
    assert with_positions(80) - with_positions(60) <= 1.05 * (with_positions(40) - with_positions(20)) <= 1.05 * 20 * 91


def test_a_channel_costs_a_few_calls_when_a_client_subscribes_to_all() -> None:
    """A subscription to `>` held up everybody's events for 30 ms if 10,000 channels were open."""
    subscribing(">", channels=1)  # what is made once, by whichever test comes first
    assert (subscribing(">", channels=400) - subscribing(">", channels=200)) / 200 <= 10


def test_a_channels_own_name_costs_the_same_however_many_channels_a_client_gets_already() -> None:
    """A client of all 10,000 channels held up everybody's events for 30 ms with 128 names."""

    def naming(count: int, *, channels: int) -> int:
        hub = make_hub(channels_max=1_000)
        hub.tick([[b"channel%d" % number, b"1"] for number in range(channels)], now_ns=1)
        sink = Sink(hub, 1, {"channels": [">"]})
        return steps(lambda: sink.send({"type": "subscribe", "channels": [f"channel{one}" for one in range(count)]}))

    few, many = (naming(6, channels=channels) - naming(2, channels=channels) for channels in (100, 400))
    assert many <= 1.05 * few


def test_a_misspelt_name_costs_the_same_however_many_channels_are_open() -> None:
    names = [f"chan{letter}{letter}l1" for letter in "qrstuvwx"]
    subscribing(*names, channels=1)  # what is made once, by whichever test comes first
    assert subscribing(*names, channels=800) <= 1.05 * subscribing(*names, channels=400)


def subscribing(*names: str, channels: int) -> int:
    """Return the calls of a client's subscription while so many channels are open."""
    hub = make_hub(channels_max=1_000)
    hub.tick([[b"channel%d" % number, b"1"] for number in range(channels)], now_ns=1)
    connect_request = ConnectRequest(client_id="c", secret="c", identity=open_identity())
    session = hub.connect(
        connect_request, lambda: Reader(writer=Writer(lambda data: None), on_lag=lambda: None), now_ns=0
    )
    text = json.dumps({"type": "subscribe", "channels": names})
    return calls(lambda: hub.receive(session, text, now_ns=0))
