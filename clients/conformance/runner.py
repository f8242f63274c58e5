"""Run the cases of `cases.json` with a client of any language: see README.md here.

python clients/conformance/runner.py [--case NAME] [--encoding NAME] -- DRIVER [ARGUMENT...]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from base64 import b64encode
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any


sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import aiohttp

from clients.conformance.proxy import Proxy
from clients.conformance.replaying import Replaying
from tests.support.gateway import Gateway
from tests.support.publisher import Publisher
from tests.support.tokens import SETTINGS, token
from tests.support.waiting import DEADLINE_SECONDS, eventually, scaled


Message = dict[str, Any]

BACKOFF_MS = [10, 100]
BUFFER = 100
ENCODINGS = ["json", "msgpack"]
CASES = Path(__file__).parent / "cases.json"

_COMMANDS = {"subscribe", "unsubscribe", "pause", "go_on", "ping", "subscriptions"}
_ITEMS = {"event", "gap"}
_ASKED_FOR = {"conflated", "filtered"}


class Failed(Exception):
    """A step whose expectation was not met."""


class Driver:
    """The driver's process: runs commands with the client under test, and reports observations."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command = command
        self.states: deque[str] = deque()
        self.items: dict[tuple[str, str], deque[Message]] = defaultdict(deque)
        self.others: list[Message] = []
        self._arrived = asyncio.Event()
        self._ready = asyncio.Event()
        self._ended = False

    async def __aenter__(self) -> Driver:
        self._process = await asyncio.create_subprocess_exec(
            *self.command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 24
        )
        self._reading = asyncio.create_task(self._read())
        async with asyncio.timeout(scaled(DEADLINE_SECONDS)):
            await self._ready.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._reading

    async def tell(self, command: Message) -> None:
        """Send a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        await self._process.stdin.drain()

    async def ended(self) -> int:
        """Wait until the driver has exited; return its exit status."""
        async with asyncio.timeout(scaled(DEADLINE_SECONDS)):
            return await self._process.wait()

    async def something_new(self) -> None:
        """Wait for the next observation.

        Raises:
            Failed: The driver reported nothing in time, or has exited.
        """
        if self._ended:
            raise Failed("the driver has exited before it reported what the case expects")
        self._arrived.clear()
        try:
            async with asyncio.timeout(scaled(DEADLINE_SECONDS)):
                await self._arrived.wait()
        except TimeoutError:
            raise Failed(f"the driver reported nothing for {scaled(DEADLINE_SECONDS):g} s") from None

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            seen = json.loads(line)
            kind = seen["saw"]
            if kind == "ready":
                self._ready.set()
            elif kind == "state":
                self.states.append(seen["state"])
            elif kind in _ITEMS:
                self.items[seen["name"], seen["channel"]].append(seen)
            else:
                self.others.append(seen)
            self._arrived.set()
        self._ended = True
        self._ready.set()
        self._arrived.set()


class Stage:
    """One case's gateway, publisher, proxy and driver."""

    def __init__(self, case: Message, command: Sequence[str], encoding: str) -> None:
        self.encoding = encoding
        self.tokens: list[Message] = case.get("tokens", [])
        secured = SETTINGS if self.tokens else {}
        self.gateway = Gateway(
            settings={"shutdown.reconnect_spread_seconds": 0.2, **secured, **case.get("settings", {})}
        )
        if self.tokens:
            self.gateway.token = token("admin", user="the runner")
        self.replays: bool = case.get("replays", False)
        self.publishers: list[Publisher | Replaying] = []
        self.publishers_count: int = case.get("publishers", 1)
        self.driver = Driver(command)
        self.published: dict[str, int] = defaultdict(int)

    async def play(self, steps: Iterable[Message]) -> None:
        """Run all steps.

        Raises:
            Failed: An expectation was not met; the text names the step.
        """
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.gateway)
            self.proxy = await stack.enter_async_context(Proxy(self.gateway.port))
            stack.callback(lambda: [one.close() for one in self.publishers])
            for number in range(self.publishers_count):
                self.publishers.append(await self._publisher(number))
            await stack.enter_async_context(self.driver)
            connect: Message = {"url": self.proxy.url, "backoff_ms": BACKOFF_MS, "buffer": BUFFER}
            if self.encoding != ENCODINGS[0]:
                connect["encoding"] = self.encoding
            if self.tokens:
                connect["tokens"] = [
                    token(*one.get("roles", []), seconds=one.get("seconds", 600)) for one in self.tokens
                ]
            await self.driver.tell({"do": "connect", **connect})
            for number, step in enumerate(steps, 1):
                try:
                    await self._step(dict(step))
                except Failed as failed:
                    raise Failed(f"step {number}, {json.dumps(step)}: {failed}") from None
            await self._close()

    async def _step(self, step: Message) -> None:
        if "expect" in step:
            await Expectations(self.driver).meet(step.pop("expect"), step)
        elif step["do"] in _COMMANDS:
            await self.driver.tell(step)
        else:
            await getattr(self, "_do_" + step.pop("do"))(**step)

    async def _close(self) -> None:
        await self.driver.tell({"do": "close"})
        status = await self.driver.ended()
        left = [item for items in self.driver.items.values() for item in items if item.get("reason") not in _ASKED_FOR]
        if left:
            raise Failed(f"{len(left)} items arrived that the case does not expect, the first is {left[0]}")
        if status != 0:
            raise Failed(f"the driver's exit status is {status}, not 0")

    # -- the commands of a case ----------------------------------------------------------------

    async def _do_publish(
        self, channel: str, count: int, bytes: int = 0, binary: bool = False, publisher: int = 1
    ) -> None:
        by = self.publishers[publisher - 1]
        first = self.published[channel] + 1
        self.published[channel] += count
        for number in range(first, first + count):
            data: Message = {"n": number, "pad": "x" * bytes} if bytes else {"n": number}
            if binary:
                event = {"data_base64": b64encode(json.dumps(data).encode()).decode()}
                by.send_payload(channel, json.dumps(event).encode(), enveloped=True)
            else:
                by.send(channel, data, enveloped=True)
        await self._held(channel, by)

    async def _do_publish_payloads(self, channel: str, payloads: list[str]) -> None:
        """Publish these texts, in which `%n` stands for the event's number. The gateway may reject them."""
        by = self.publishers[0]
        for payload in payloads:
            self.published[channel] += 1
            text = payload.replace("%n", str(self.published[channel]))
            by.send_payload(channel, text.encode(), enveloped=True)

    async def _do_wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def _do_post(self, channel: str) -> None:
        self.published[channel] += 1
        event = {"event_type": "test.event", "data": {"n": self.published[channel]}}
        await self.gateway.broadcast({"channel": channel, "event": event})

    async def _held(self, channel: str, by: Publisher | Replaying) -> None:
        """Wait until the gateway has everything that was published."""
        await self.gateway.holds(channel, by.sequences[channel], epoch=f"{by.incarnation:016x}")

    async def _do_lose(self, channel: str, count: int) -> None:
        self.published[channel] += count
        self.publishers[0].sequences[channel] += count

    async def _do_restart_publisher(self, publisher: int = 1) -> None:
        self.publishers[publisher - 1].close()
        self.publishers[publisher - 1] = await self._publisher(publisher - 1)

    async def _publisher(self, number: int) -> Publisher | Replaying:
        """Start a publisher: the first one binds, the others connect to the gateway."""
        endpoint, binds = (self.gateway.bus_in, False) if number else (self.gateway.bus_out, True)
        made = Replaying(endpoint, bind=binds) if self.replays else Publisher(endpoint, bind=binds)
        await self._known(made)
        return made

    async def _known(self, publisher: Publisher | Replaying) -> None:
        """Wait until the gateway has subscribed, and has a heartbeat of a publisher that sends them."""
        await publisher.subscribed()
        if isinstance(publisher, Replaying):
            heard = partial(self.gateway.has_heard, publisher.incarnation)
            await eventually(heard, saying="a heartbeat of the publisher")

    async def _do_cut(self) -> None:
        self.proxy.cut()

    async def _do_cut_after_bytes(self, bytes: int) -> None:
        self.proxy.cut_after_bytes(bytes)

    async def _do_stall(self) -> None:
        self.proxy.stall()

    async def _do_refuse(self) -> None:
        self.proxy.refusing = True

    async def _do_accept(self) -> None:
        self.proxy.refusing = False

    async def _do_restart_gateway(self) -> None:
        self.gateway.kill(15)
        await self._anew()

    async def _do_kill_gateway(self) -> None:
        self.gateway.kill(9)
        await self._anew()
        self.gateway.expected_exit = 0

    async def _anew(self) -> None:
        await self.gateway.exited()
        for publisher in self.publishers:
            await publisher.unsubscribed()
        await self.gateway.restart()
        self.proxy.port = self.gateway.port
        for publisher in self.publishers:
            await self._known(publisher)

    async def _do_take_over(self) -> None:
        async with aiohttp.ClientSession() as http:
            address = f"{self.gateway.url}/ws"
            ws = await http.ws_connect(address, params={"session": self.proxy.session})
            await ws.receive()
            await ws.close()


class Expectations:
    """What a case expects of a driver's observations."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    async def meet(self, kind: str, wanted: Message) -> None:
        """Wait for the expected observation.

        Raises:
            Failed: Another observation arrived, or none.
        """
        match kind:
            case "events":
                await self._events(wanted)
            case "gap":
                item = await self._item(wanted)
                _compare(item, {"saw": "gap", **wanted})
            case "all":
                await self._all(wanted)
            case "complete":
                await self._complete(wanted)
            case "newest":
                await self._newest(wanted)
            case "state":
                while await self._state() != wanted["state"]:
                    pass
            case "calm":
                if self._driver.states:
                    raise Failed(f"expected no change of state, and it became {self._driver.states[0]}")
            case "states":
                for state in wanted["states"]:
                    found = await self._state()
                    if found != state:
                        raise Failed(f"expected the state {state}, got {found}")
            case _:
                await self._other(kind, wanted)

    async def _events(self, wanted: Message) -> None:
        first, last = wanted["numbers"]
        for number in range(first, last + 1):
            _compare(await self._item(wanted), {"saw": "event", "number": number})

    async def _all(self, wanted: Message) -> None:
        first, last = wanted["numbers"]
        due = set(range(first, last + 1))
        while due:
            item = await self._item(wanted)
            if item["saw"] != "event" or item["number"] not in due:
                raise Failed(f"expected one of {sorted(due)}, got {item}")
            due.remove(item["number"])

    async def _complete(self, wanted: Message) -> None:
        first, last = wanted["numbers"]
        expected, gaps = first, 0
        while expected <= last:
            item = await self._item(wanted)
            if item["saw"] == "event":
                _compare(item, {"number": expected})
                expected += 1
            else:
                _compare(item, {"from": expected})
                expected, gaps = item["to"] + 1, gaps + 1
        if wanted.get("gaps") is not None and bool(gaps) != wanted["gaps"]:
            raise Failed(f"expected {'some gaps' if wanted['gaps'] else 'no gap'}, got {gaps}")

    async def _newest(self, wanted: Message) -> None:
        number = 0
        while number < wanted["number"]:
            item = await self._item(wanted)
            _compare(item, {"saw": "event"})
            if item["number"] <= number:
                raise Failed(f"expected growing numbers, got {item['number']} after {number}")
            number = item["number"]

    async def _item(self, wanted: Message) -> Message:
        items = self._driver.items[wanted["name"], wanted["channel"]]
        while True:
            while not items:
                await self._driver.something_new()
            item = items.popleft()
            if item.get("reason") not in _ASKED_FOR:
                return item

    async def _state(self) -> str:
        while not self._driver.states:
            await self._driver.something_new()
        return self._driver.states.popleft()

    async def _other(self, kind: str, wanted: Message) -> None:
        while True:
            for seen in self._driver.others:
                if seen["saw"] == kind and wanted.items() <= seen.items():
                    self._driver.others.remove(seen)
                    return
            await self._driver.something_new()


def _compare(item: Message, wanted: Message) -> None:
    if not wanted.items() <= item.items():
        raise Failed(f"expected {wanted}, got {item}")


async def play(case: Message, command: Sequence[str], *, encoding: str) -> str | None:
    """Run one case; return what failed, or None."""
    try:
        await Stage(case, command, encoding).play(case["steps"])
    except (Failed, AssertionError, TimeoutError, OSError) as error:
        return str(error) or type(error).__name__
    return None


def cases() -> list[Message]:
    """Return all cases."""
    found: list[Message] = json.loads(CASES.read_text())
    return found


def main() -> int:
    """Run the cases of the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [case["name"] for case in cases()]
    parser.add_argument("--case", action="append", choices=names, help="run only this case; may be given several times")
    parser.add_argument("--encoding", action="append", choices=ENCODINGS, help="run the cases only in this encoding")
    parser.add_argument("driver", nargs="+", help="the command that starts a driver, after --")
    arguments = parser.parse_args()
    failures = 0
    for case in cases():
        if arguments.case and case["name"] not in arguments.case:
            continue
        for encoding in arguments.encoding or ENCODINGS:
            failed = asyncio.run(play(case, arguments.driver, encoding=encoding))
            failures += failed is not None
            print(f"{'FAILED' if failed else 'ok':7}{case['name']}, {encoding}{': ' + failed if failed else ''}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
