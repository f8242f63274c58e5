"""A subscriber that pauses between two reads of its socket."""

from __future__ import annotations

import asyncio
from pathlib import Path

import zmq

from gateway.bus.context import make_context
from gateway.bus.curve import Curve
from gateway.bus.framing import Frames
from gateway.bus.subscriber import Subscriber
from gateway.config.model import Bus
from tests.support.addresses import ipc
from tests.support.waiting import eventually


async def test_a_subscriber_that_pauses_reads_everything_in_fewer_batches(tmp_path: Path) -> None:
    context, endpoint = make_context(), ipc(tmp_path, "bus")
    batches: list[list[Frames]] = []
    subscriber = Subscriber(
        context,
        endpoint,
        "bind",
        Bus(),
        Curve(context, Bus()),
        on_messages=lambda batch: batches.append([*batch]),
        on_change=lambda *_: None,
        pause_seconds=lambda read: 0.05 if read else 0.0,
    )
    subscriber.open()
    with zmq.Context() as others, others.socket(zmq.XPUB) as publisher:
        publisher.linger = publisher.sndhwm = 0
        publisher.connect(endpoint)
        await eventually(lambda: publisher.poll(0))  # it has the subscription: nothing it sends is lost
        sent = 0
        while len(batches) < 5:  # one by one, while it reads now and then
            publisher.send_multipart([b"robots", b"%d" % sent])
            sent += 1
            await asyncio.sleep(0)
        for _ in range(3):  # each after a pause, when nothing is left that could wake it
            taken = len(batches)
            publisher.send_multipart([b"robots", b"%d" % sent])
            sent += 1
            await eventually(lambda: len(batches) > taken)  # noqa: B023  # awaited at once
        await eventually(lambda: sum(map(len, batches)) == sent)
    subscriber.close()
    context.destroy(linger=0)

    numbers = [int(payload) for batch in batches for _, payload in batch]
    assert numbers == list(range(sent))
    assert len(batches) < sent, "some were read together"
