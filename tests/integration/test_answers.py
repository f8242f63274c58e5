"""A core answers clients through a gateway that is killed and restarted: each request once, or it fails with a reason."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from neurograph_client import Backoff, Client, NotConnectedError, RequestRefusedError

from clients.conformance.proxy import Proxy
from tests.conftest import Launch
from tests.support.gateway import Gateway
from tests.support.waiting import DEADLINE_SECONDS, eventually


PLAIN = """
import json, sys, zmq
with zmq.Context() as context, context.socket(zmq.SUB) as events, context.socket(zmq.XPUB) as answers:
    events.connect(sys.argv[1])
    events.subscribe("core")
    answers.connect(sys.argv[2])
    answers.recv()
    while True:
        channel, payload, envelope = events.recv_multipart()
        event = json.loads(payload)
        print(event["data"], flush=True)
        answer = {"event_type": "reply", "data": event["data"], **event["reply_to"]}
        answers.send_multipart([b"$personal", json.dumps(answer).encode()])
"""
LIBRARY = """
import sys
from neurograph_publisher import Inbox, Message, Publisher
with Inbox(sys.argv[1], "core") as inbox, Publisher(connect=sys.argv[2]) as publisher:
    publisher.wait_for_subscriber(60)
    for item in inbox:
        if isinstance(item, Message):
            print(item.data, flush=True)
            publisher.reply(item, item.data)
"""


class Core:
    """A process that answers requests; `done` has the data of those it got."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.done: list[int] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.done.append(int(line))

    async def end(self) -> None:
        self.process.kill()
        await self.process.wait()
        await self._reading


@pytest.fixture
async def gateway_and_core(request: pytest.FixtureRequest, launch: Launch) -> AsyncIterator[tuple[Gateway, Core]]:
    with tempfile.TemporaryDirectory(prefix="ng-") as folder:
        gateway = await launch(settings={"bus.publish": f"ipc://{Path(folder)}/out"})
        arguments = ["-c", request.param, f"ipc://{folder}/out", gateway.bus_in]
        process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
        core = Core(process)
        yield gateway, core
        await core.end()


async def listening(client: Client) -> None:
    """Wait until the core answers."""

    async def answers() -> bool:
        try:
            await client.request("core", -1, timeout=5)
        except (RequestRefusedError, TimeoutError):
            return False
        return True

    await eventually(answers, every=0.1)


@pytest.mark.parametrize("gateway_and_core", [PLAIN, LIBRARY], ids=["plain", "library"], indirect=True)
async def test_each_request_is_answered_once_or_fails_with_a_reason(gateway_and_core: tuple[Gateway, Core]) -> None:
    gateway, core = gateway_and_core
    outcomes: dict[int, str] = {}

    async def ask(client: Client, number: int) -> None:
        try:
            answer = await client.request("core", number, timeout=DEADLINE_SECONDS)
        except (RequestRefusedError, NotConnectedError) as error:
            outcomes[number] = str(error)
        else:
            outcomes[number] = "answered" if answer.data == number else f"with {answer.data}"

    async with (
        Proxy(gateway.port) as proxy,  # a restarted gateway has another port
        Client(proxy.url, backoff=Backoff(0.001, 0.005), timeout=DEADLINE_SECONDS) as client,
    ):
        await listening(client)
        await asyncio.gather(*[ask(client, number) for number in range(20)])
        asking = [asyncio.create_task(ask(client, number)) for number in range(20, 40)]
        await eventually(lambda: len(core.done) > 22)
        gateway.kill()
        await gateway.exited()
        await gateway.restart()
        proxy.port = gateway.port
        await asyncio.gather(*asking)
        await listening(client)
        await asyncio.gather(*[ask(client, number) for number in range(40, 60)])

    failed = {number: said for number, said in outcomes.items() if said != "answered"}
    assert set(range(60)) == set(outcomes)
    assert set(failed) <= set(range(20, 40))
    assert all("restarted or forgot this client" in said or "no_subscribers" in said for said in failed.values())
    assert 1 == max(count for number, count in Counter(core.done).items() if number >= 0)


async def test_a_request_that_nobody_listens_to_fails_at_once(gateway: Gateway, channel: str) -> None:
    async with Client(gateway.url) as client:
        with pytest.raises(RequestRefusedError, match="no client subscribes to") as refused:
            await client.request(channel, 1)

    assert "no_subscribers" == refused.value.code


async def test_a_client_can_answer_too_and_silence_is_a_timeout(gateway: Gateway, channel: str) -> None:
    async with Client(gateway.url) as asker, Client(gateway.url) as answerer, answerer.subscribe(channel) as requests:
        asking = asyncio.create_task(asker.request(channel, "ping"))
        event = await anext(requests)
        reply_to = event.message["reply_to"]  # type: ignore[union-attr]  # no gap here
        body = {"client_id": reply_to["client_id"], "event": {"event_type": "reply", "data": "pong", **reply_to}}
        for _ in range(2):  # the second one is ignored
            await gateway.broadcast(body)
        answer = await asking
        with pytest.raises(TimeoutError, match=f"{channel}: no answer in 0.05 s"):
            await asker.request(channel, "again", timeout=0.05)

    assert ("reply", "pong") == (answer.event_type, answer.data)
