"""The conformance driver of this client: see clients/conformance/README.md."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from neurograph_client import Backoff, Client, ClosedError, Event, RequestRefusedError, State, Subscription
from neurograph_client.encoding import Encoding


def say(saw: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"saw": saw, **fields}) + "\n")
    sys.stdout.flush()


class Driver:
    """Runs the runner's commands with one client."""

    def __init__(self) -> None:
        self.subscriptions: dict[str, Subscription[Any]] = {}
        self.flows: dict[str, asyncio.Event] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def start(self, doing: Any) -> None:
        task = asyncio.create_task(doing)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def connect(
        self,
        url: str,
        backoff_ms: list[float],
        buffer: int,
        tokens: list[str] | None = None,
        encoding: Encoding = "json",
    ) -> None:
        first, most = (milliseconds / 1000 for milliseconds in backoff_ms)

        def on_state(state: State) -> None:
            say("state", state=state)

        def next_token() -> str:
            assert tokens is not None
            return tokens.pop(0) if len(tokens) > 1 else tokens[0]

        self.client = Client(
            url,
            token=next_token if tokens else None,
            backoff=Backoff(first, most),
            buffer=buffer,
            on_state=on_state,
            timeout=60,
            encoding=encoding,
        )
        self.start(self._run())
        await asyncio.sleep(0)

    async def _run(self) -> None:
        try:
            await self.client.run_forever()
        except ClosedError as closed:
            say("error", code=closed.reason)

    async def subscribe(self, name: str, channels: list[str], **options: Any) -> None:
        subscription = self.client.subscribe(*channels, **options)
        self.subscriptions[name] = subscription
        self.flows[name] = asyncio.Event()
        self.flows[name].set()
        self.start(self._confirmed(name, subscription))
        self.start(self._take(name, subscription))

    async def _confirmed(self, name: str, subscription: Subscription[Any]) -> None:
        try:
            await subscription.confirmed()
        except RequestRefusedError as refused:
            say("error", name=name, code=refused.code)
        else:
            say("subscribed", name=name)

    async def _take(self, name: str, subscription: Subscription[Any]) -> None:
        try:
            async for item in subscription:
                await self.flows[name].wait()
                where = {"name": name, "channel": item.channel, "epoch": item.epoch}
                if isinstance(item, Event):
                    data = json.loads(item.data) if isinstance(item.data, bytes) else item.data
                    number = data.get("n") if isinstance(data, dict) else None
                    say("event", **where, offset=item.offset, number=number)
                else:
                    rest = {"from": item.from_, "to": item.to, "count": item.count}
                    say("gap", **where, **rest, reason=item.reason)
        except RequestRefusedError as refused:
            say("error", name=name, code=refused.code)
        except ClosedError:
            return

    async def pause(self, name: str) -> None:
        self.flows[name].clear()

    async def go_on(self, name: str) -> None:
        self.flows[name].set()

    async def unsubscribe(self, name: str) -> None:
        self.subscriptions.pop(name).close()
        await asyncio.sleep(0)

    async def ping(self) -> None:
        pong = await self.client.ping()
        say("pong", rtt_ms=pong.seconds * 1000)

    async def subscriptions_(self) -> None:
        say("subscriptions", channels=await self.client.subscriptions())

    async def close(self) -> None:
        await self.client.close()
        say("closed")


async def main() -> None:
    driver = Driver()
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    say("ready")
    async for line in reader:
        command = json.loads(line)
        name = command.pop("do")
        await getattr(driver, "subscriptions_" if name == "subscriptions" else name)(**command)
        if name == "close":
            return


if __name__ == "__main__":
    asyncio.run(main())
