"""A client that sends its position gets what follows it; what is not held any more is reported by gaps, exactly."""

from __future__ import annotations

import asyncio

import pytest

from tests.conftest import Connect, Launch, NewPublisher
from tests.support.publisher import Publisher
from tests.support.record import Message
from tests.support.ws import Client


async def _fill(bus: Publisher, client: Client, channel: str, count: int) -> Message:
    """Publish `count` numbered events, see them arrive, and return the position of the last."""
    if not client.everything[1:]:
        await client.expect("subscribed")
    bus.send_numbered(channel, range(1, count + 1))
    await client.events(channel, count)
    position: Message = (await client.ping())["positions"][channel]
    assert count == position["offset"]
    return position


@pytest.mark.parametrize("missed", [0, 1, 100])
async def test_delivery_goes_on_after_the_position(bus: Publisher, connect: Connect, channel: str, missed: int) -> None:
    """`since` brings all that followed, then what is new, each event once."""
    first = await connect(channel)
    position = await _fill(bus, first, channel, 150)
    start = {**position, "offset": 150 - missed}
    client = await connect()
    answer = await client.subscribe(channel, since=start)
    bus.send(channel, {"n": 151})
    await client.events(channel, missed + 1)
    await client.ping()

    record = client.channel(channel)
    assert {channel: True} == answer["recovered"]
    assert {channel: start} == answer["positions"]
    assert list(range(151 - missed, 152)) == record.numbers == record.offsets
    assert record.gaps == []


async def test_since_may_be_given_per_channel(bus: Publisher, connect: Connect, channel: str) -> None:
    """A channel object's own `since` stands beside channels that start at the head."""
    first = await connect(channel, channel + "b")
    position = await _fill(bus, first, channel, 10)
    bus.send_numbered(channel + "b", range(5))
    await first.events(channel + "b", 5)
    client = await connect()
    answer = await client.subscribe({"channel": channel, "since": {**position, "offset": 7}}, channel + "b")
    await client.events(channel, 3)
    await client.ping()

    assert {channel: True} == answer["recovered"]
    assert client.channel(channel).offsets == [8, 9, 10]
    assert client.channel(channel + "b").events == []
    assert answer["positions"][channel + "b"]["offset"] == 5


async def test_the_query_takes_positions(bus: Publisher, connect: Connect, channel: str) -> None:
    """?since= is a JSON map from channel to position."""
    first = await connect(channel)
    position = await _fill(bus, first, channel, 10)
    client = await connect(channel, since={channel: {**position, "offset": 8}})
    answer = await client.expect("subscribed")
    await client.events(channel, 2)

    assert {channel: True} == answer["recovered"]
    assert client.channel(channel).offsets == [9, 10]


async def test_the_beginning_is_a_position(bus: Publisher, connect: Connect, channel: str) -> None:
    """Offset 0 of the epoch is before the first event."""
    first = await connect(channel)
    position = await _fill(bus, first, channel, 10)
    client = await connect()
    answer = await client.subscribe(channel, since={**position, "offset": 0})
    await client.events(channel, 10)

    assert {channel: True} == answer["recovered"]
    assert client.channel(channel).faults(after=0, until=10) == []


async def test_evicted_events_are_named_by_a_gap(launch: Launch, publisher: NewPublisher, connect: Connect) -> None:
    """What the log no longer holds is named exactly, before what it holds comes whole."""
    gateway = await launch(settings={"history.events_max": 50})
    bus = await publisher(gateway.bus_in)
    first = await connect("evicted", to=gateway)
    position = await _fill(bus, first, "evicted", 200)
    client = await connect(to=gateway)
    answer = await client.subscribe("evicted", since={**position, "offset": 100})
    await client.events("evicted", 50)

    record = client.channel("evicted")
    assert answer["recovered"] == {"evicted": False}
    assert [
        {
            "type": "gap",
            "channel": "evicted",
            "epoch": position["epoch"],
            "from": 101,
            "to": 150,
            "count": 50,
            "reason": "evicted",
        }
    ] == record.gaps
    assert record.faults(after=100, until=200) == []
    kinds = [m["type"] for m in client.everything if m["type"] in {"subscribed", "gap", "event"}]
    assert kinds[:3] == ["subscribed", "gap", "event"]


async def test_the_oldest_event_held_is_still_recovered(
    launch: Launch, publisher: NewPublisher, connect: Connect
) -> None:
    """One offset decides: right before the oldest event held nothing was missed, one before it was."""
    gateway = await launch(settings={"history.events_max": 50})
    bus = await publisher(gateway.bus_in)
    first = await connect("edge", to=gateway)
    position = await _fill(bus, first, "edge", 100)
    found = {}
    for offset in (49, 50, 51):
        client = await connect(to=gateway)
        answer = await client.subscribe("edge", since={**position, "offset": offset})
        await client.events("edge", min(50, 100 - offset))
        assert client.channel("edge").faults(after=offset, until=100) == []
        found[offset] = (answer["recovered"]["edge"], len(client.channel("edge").gaps))

    assert found == {49: (False, 1), 50: (True, 0), 51: (True, 0)}


@pytest.mark.parametrize("change", [{"epoch": "another life"}, {"offset": 11}, {"epoch": "x", "offset": 10**15}])
async def test_a_position_of_another_epoch_is_not_recovered(
    bus: Publisher, connect: Connect, channel: str, change: Message
) -> None:
    """A wrong epoch, or a position in the future: the client is told, and gets all that is held."""
    first = await connect(channel)
    position = await _fill(bus, first, channel, 10)
    client = await connect()
    answer = await client.subscribe(channel, since={**position, **change})
    await client.events(channel, 10)

    record = client.channel(channel)
    assert {channel: False} == answer["recovered"]
    assert [("epoch", None, 0, position["epoch"])] == [
        (gap["reason"], gap["from"], gap["to"], gap["epoch"]) for gap in record.gaps
    ]
    assert list(range(1, 11)) == record.offsets


async def test_a_channel_that_does_not_exist_cannot_be_recovered_in_silence(
    bus: Publisher, connect: Connect, channel: str
) -> None:
    """A position in a channel that has no events yet, as after a restart, is answered by `recovered` false."""
    client = await connect()
    answer = await client.subscribe(channel, since={"epoch": "before the restart", "offset": 70})
    bus.send(channel, {"n": 1})
    await client.events(channel, 1)

    assert {channel: False} == answer["recovered"]
    assert [gap["reason"] for gap in client.channel(channel).gaps] == ["epoch"]


async def test_a_wildcard_resumes_by_a_map(bus: Publisher, connect: Connect, channel: str) -> None:
    """Named channels go on from their positions; one that is not named is read from its beginning."""
    names = [f"{channel}.{x}" for x in "abc"]
    first = await connect(f"{channel}.*")
    await first.expect("subscribed")
    for name in names:
        bus.send_numbered(name, range(1, 11))
        await first.events(name, 10)
    positions = (await first.ping())["positions"]
    since = {name: {**positions[name], "offset": 6} for name in names[:2]}
    client = await connect()
    answer = await client.subscribe(f"{channel}.*", since=since)
    await client.events(names[0], 4)
    await client.events(names[1], 4)
    await client.events(names[2], 10)

    assert {names[0]: True, names[1]: True} == {n: answer["recovered"][n] for n in names[:2]}
    assert list(range(7, 11)) == client.channel(names[0]).offsets
    assert list(range(1, 11)) == client.channel(names[2]).offsets
    assert [gap for name in names for gap in client.channel(name).gaps] == []


@pytest.mark.long
async def test_between_history_and_live_nothing_is_missing_and_nothing_comes_twice(
    launch: Launch, publisher: NewPublisher, connect: Connect
) -> None:
    """During many events, clients subscribe from past positions: nothing is missing, nothing comes twice."""
    gateway = await launch(settings={"history.events_max": 100_000, "history.bytes_max": 1 << 28})
    bus = await publisher(gateway.bus_in)
    first = await connect("seam", to=gateway)
    await first.expect("subscribed")
    total, sent, stop = 0, 0, False

    async def pour() -> int:
        nonlocal sent
        while not stop:
            bus.send_numbered("seam", range(sent + 1, sent + 51))
            sent += 50
            await asyncio.sleep(0.002)
        return sent

    pouring = asyncio.create_task(pour())
    await first.events("seam", 200)
    joined: list[tuple[int, Client]] = []
    for _ in range(15):
        position = (await first.ping())["positions"]["seam"]
        for back in (0, 7, 150):
            client = await connect(to=gateway)
            start = position["offset"] - back
            answer = await client.subscribe("seam", since={**position, "offset": start})
            assert answer["recovered"] == {"seam": True}
            joined.append((start, client))
    stop = True
    total = await pouring
    for start, client in joined:
        await client.events("seam", total - start)

    assert total > 500
    for start, client in joined:
        record = client.channel("seam")
        assert record.faults(after=start, until=total) == []
        assert record.offsets == record.numbers
        assert record.gaps == []


async def test_between_history_and_live_nothing_is_missing_while_the_log_evicts(
    launch: Launch, publisher: NewPublisher, connect: Connect
) -> None:
    """The same with a log that holds little: what is not delivered is in a gap, to the offset."""
    gateway = await launch(settings={"history.events_max": 100})
    bus = await publisher(gateway.bus_in)
    first = await connect("evicting", to=gateway)
    await first.expect("subscribed")
    bus.send("evicting", {"n": 1})
    await first.events("evicting", 1)
    epoch = (await first.ping())["positions"]["evicting"]["epoch"]
    sent, stop = 1, False

    async def pour() -> None:
        nonlocal sent
        while not stop:
            bus.send_numbered("evicting", range(sent + 1, sent + 31))
            sent += 30
            await asyncio.sleep(0.002)

    pouring = asyncio.create_task(pour())
    joined = []
    for _ in range(20):
        client = await connect(to=gateway)
        await client.subscribe("evicting", since={"epoch": epoch, "offset": 1})
        joined.append(client)
    stop = True
    await pouring
    bus.send("evicting", {"n": sent + 1})
    for client in joined:
        await client.until("event", offset=sent + 1)

    assert [fault for c in joined for fault in c.channel("evicting").faults(after=1, until=sent + 1)] == []


async def test_resubscribing_with_a_position_starts_again_from_there(
    bus: Publisher, connect: Connect, channel: str
) -> None:
    """On one connection too: unsubscribe, subscribe with the last position, nothing is missed."""
    client = await connect(channel)
    position = await _fill(bus, client, channel, 5)
    await client.ask({"type": "unsubscribe", "channels": [channel]}, "unsubscribed")
    other = await connect(channel)
    await other.expect("subscribed")
    bus.send_numbered(channel, range(6, 9))
    await other.events(channel, 3)
    await client.subscribe(channel, since=position)
    bus.send(channel, {"n": 9})
    await client.events(channel, 9)

    assert list(range(1, 10)) == client.channel(channel).offsets


@pytest.mark.parametrize("option", [{"last": 3}, {"since": 7}])
async def test_a_wildcard_beside_a_channel_leaves_its_options_alone(
    bus: Publisher, connect: Connect, channel: str, option: dict[str, int]
) -> None:
    """A channel that brings its own start keeps it, though a pattern of the same message selects it too."""
    first = await connect(channel)
    position = await _fill(bus, first, channel, 10)
    own: Message = {"channel": channel}
    own |= {"since": {**position, "offset": 7}} if "since" in option else option
    for channels in ([own, "test.*"], ["test.*", own]):
        client = await connect()
        await client.subscribe(*channels)
        await client.events(channel, 3)

        assert client.channel(channel).offsets == [8, 9, 10]
