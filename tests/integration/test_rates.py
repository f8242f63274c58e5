"""What rates hold back comes when it is due, however soon that is."""

from __future__ import annotations

from tests.conftest import Connect, Launch, NewPublisher
from tests.support.waiting import eventually


async def test_what_is_due_within_the_timers_resolution_comes_and_breaks_nothing(
    launch: Launch, connect: Connect, publisher: NewPublisher
) -> None:
    """At 1,000 per second the next event is due in less than the event loop tells apart."""
    gateway = await launch(settings={"clients.pings_burst": 1_000})
    bus = await publisher(gateway.bus_in)
    clients = [await connect("quick", rate=rate, to=gateway) for rate in (1000, 999, 998)]
    bus.send("quick", {"n": 0})
    for client in clients:
        # It names the epoch; if it were replaced, a gap without a count would do that.
        await client.events("quick", 1)
    for n in range(1, 300):
        bus.send("quick", {"n": n})
        await clients[0].ping()  # so that they come one by one

    records = [client.channel("quick") for client in clients]
    await eventually(lambda: all(record.numbers[-1:] == [299] for record in records))

    def accounted() -> list[int]:
        return [len(one.events) + sum(gap["count"] for gap in one.gaps) for one in records]

    await eventually(lambda: accounted() == [300] * 3, saying="each came, or a newer one for it")
