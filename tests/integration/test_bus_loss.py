"""What is lost between publisher and gateway is noticed, counted and reported; what comes twice is dropped."""

from __future__ import annotations

from tests.conftest import Connect, Launch, NewPublisher
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher, envelope
from tests.support.waiting import eventually


async def _topic(gateway: Gateway, topic: str) -> dict[str, int]:
    answer = await gateway.get_json("/api/v1/websocket/publishers?limit=1000")
    [found] = [one for one in answer["topics"] if one["topic"] == topic]
    return {name: found[name] for name in ("newest_sequence", "lost", "duplicates", "late")}


async def test_a_hole_in_the_numbers_is_reported_to_subscribers_and_counted(
    gateway: Gateway, bus: Publisher, connect: Connect, channel: str
) -> None:
    client = await connect(channel)
    for sequence in (1, 2, 5, 5, 4, 6):
        bus.send_frames(channel.encode(), b"1", envelope(7, sequence))
    await client.events(channel, 4)
    told = [(gap["reason"], gap["count"], gap["from"]) for gap in client.channel(channel).gaps]

    assert client.channel(channel).offsets == [1, 2, 5, 6], "the publisher's own numbers"
    assert told == [("bus_loss", 2, 3)]
    assert await _topic(gateway, channel) == {"newest_sequence": 6, "lost": 2, "duplicates": 1, "late": 1}


async def test_a_restarted_publisher_begins_anew_and_what_it_lost_before_is_named(
    gateway: Gateway, bus: Publisher, connect: Connect, channel: str
) -> None:
    """Its first messages are lost while the gateway reconnects, which their numbers show."""
    client = await connect(channel)
    for incarnation, sequence in ((1, 1), (1, 2), (2, 44), (2, 45)):
        bus.send_frames(channel.encode(), b"1", envelope(incarnation, sequence))
    await client.events(channel, 4)

    gaps = [(gap["reason"], gap["epoch"], gap["count"]) for gap in client.channel(channel).gaps]
    assert gaps == [("epoch", "0" * 15 + "2", None), ("bus_loss", "0" * 15 + "2", 43)]
    assert client.channel(channel).offsets == [1, 2, 44, 45]


async def test_losses_named_are_losses_made(launch: Launch, publisher: NewPublisher, connect: Connect) -> None:
    """Two publishers lose different numbers on one channel; sent = delivered + named, as integers."""
    gateway = await launch()
    buses = [await publisher(gateway.bus_in) for _ in range(2)]
    client = await connect("lossy", to=gateway)
    sent = delivered = 0
    for number in range(1, 501):
        for incarnation, bus in enumerate(buses):
            sent += 1
            if number % (3 + incarnation) and number not in {1, 500}:
                continue  # it never reaches the bus
            bus.send_frames(b"lossy", b"1", envelope(incarnation, number))
            delivered += 1
    await client.events("lossy", delivered)
    record = client.channel("lossy")
    named = sum(gap["count"] for gap in record.gaps if gap["reason"] == "bus_loss")

    assert named + delivered == sent
    assert record.faults() == []

    async def counted() -> bool:
        return bool(await gateway.metric("neurograph_gateway_bus_messages_lost_total") == named)

    await eventually(counted)
