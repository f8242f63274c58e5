"""Events that are batched before they are written."""

from __future__ import annotations

from tests.conftest import Connect, Launch, NewPublisher


async def test_events_are_batched_while_the_bus_is_read_on(
    launch: Launch, publisher: NewPublisher, connect: Connect
) -> None:
    """Many events take few writes. They are in the log before they are written, and nobody gets one twice."""
    gateway = await launch(settings={"fanout.batching": "fixed", "fanout.batch_delay_seconds_max": 1})
    bus = await publisher(gateway.bus_in)
    live = await connect("robots", to=gateway)
    await live.until("subscribed")
    writes = await gateway.metric("neurograph_gateway_fanout_latency_seconds_count")
    for n in range(1, 501):
        bus.send_numbered("robots", range(n, n + 1))

    await gateway.holds("robots", 500)
    late = await connect("robots", to=gateway, last=100)
    await live.events("robots", 500)
    await late.events("robots", 100)
    bus.send_numbered("robots", range(501, 502))
    await live.events("robots", 501)
    await late.events("robots", 101)

    assert live.channel("robots").numbers == list(range(1, 502))
    assert late.channel("robots").numbers == list(range(401, 502))
    assert await gateway.metric("neurograph_gateway_events_received_total", channel="robots") == 501
    assert await gateway.metric("neurograph_gateway_fanout_latency_seconds_count") - writes < 20


async def test_what_is_pending_is_written_before_a_client_is_sent_away(
    launch: Launch, publisher: NewPublisher, connect: Connect
) -> None:
    gateway = await launch(settings={"fanout.batching": "fixed", "fanout.batch_delay_seconds_max": 1})
    bus = await publisher(gateway.bus_in)
    client = await connect("robots", to=gateway)
    await client.until("subscribed")
    bus.send_numbered("robots", range(1, 11))

    await gateway.holds("robots", 10)
    gateway.kill(15)
    code = await client.closed()

    assert code == 1012
    assert client.channel("robots").numbers == list(range(1, 11))
