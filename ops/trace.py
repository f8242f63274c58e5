"""Print which files of gateway/ an event, a subscribe and a resume run through, in order.

Usage: make trace

A gateway runs in this process, with a publisher on its bus and a WebSocket client. Each act is repeated,
and a profile function records the code that runs meanwhile. Only code that ran each time counts, so timers
that fired in between are left out. Files are in the order in which they were reached first.
"""

import asyncio
import dis
import json
import secrets
import struct
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import aiohttp
import zmq

import gateway
from gateway.config.model import Config, Fanout
from gateway.process.service import Service, running
from gateway.runtime import logs


REPEATS = 5
TIMEOUT_SECONDS = 60.0
QUIET_SECONDS = 0.1
"""After this time, everything that the previous act caused is done."""
CHANNEL = "logs"

Files = dict[str, list[str]]
"""The functions that ran, by file, both in the order in which they were reached."""
Act = Callable[[], Awaitable[object]]

_PACKAGE = Path(gateway.__file__).parent


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that this process does meanwhile."""
    while not condition():  # noqa: ASYNC110  # nothing in the gateway announces it
        await asyncio.sleep(0.01)


class Publisher:
    """Publishes on the bus in this process's thread, with envelopes."""

    def __init__(self, endpoint: str) -> None:
        self._incarnation = secrets.randbits(63)
        self._sequence = 0
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.linger = 0
        self._socket.connect(endpoint)

    async def subscribed(self) -> None:
        """Wait until the gateway has subscribed."""
        await until(lambda: self._socket.poll(0))
        self._socket.recv()

    def send(self) -> None:
        """Publish one event."""
        self._sequence += 1
        payload = {
            "event_type": "log.info",
            "timestamp": datetime.now(UTC).isoformat(),
            "data": {"level": "info", "message": "traced"},
        }
        envelope = struct.pack(">4sIQQQ", b"NGE1", 0, self._incarnation, self._sequence, time.time_ns())
        self._socket.send_multipart([CHANNEL.encode(), json.dumps(payload).encode(), envelope])

    def close(self) -> None:
        self._context.destroy(linger=0)


class Client:
    """A WebSocket client that waits for one kind of message at a time."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url
        self.session = ""
        self.positions: dict[str, object] = {}

    async def connect(self, query: dict[str, str]) -> None:
        """Open a connection."""
        self._socket = await self._http.ws_connect(f"{self._url}/ws", params=query)
        self.session = (await self.expect("connected"))["session"]

    async def ask(self, **message: object) -> None:
        """Send a message."""
        await self._socket.send_json(message)

    async def expect(self, kind: str) -> dict[str, str]:
        """Wait for a message of a kind."""
        while True:
            message: dict[str, str] = await self._socket.receive_json()
            if message["type"] == kind:
                return message

    async def close(self) -> None:
        """Close the connection."""
        await self._socket.close()


async def traced(act: Act) -> Files:
    """Run an act, and return the functions of the gateway that ran meanwhile."""
    found: Files = {}

    def note(frame: FrameType, event: str, _: object) -> None:
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(str(_PACKAGE)) and not _resumes(frame):
            names = found.setdefault(str(Path(path).relative_to(_PACKAGE)), [])
            name = frame.f_code.co_qualname.split(".<")[0]
            if name not in names and not name.startswith("<"):
                names.append(name)

    sys.setprofile(note)
    try:
        await act()
    finally:
        sys.setprofile(None)
    return found


def _resumes(frame: FrameType) -> bool:
    """Whether a coroutine only continues after an `await`, as coroutines that wait for an inner one do."""
    code = frame.f_code.co_code
    return dis.opname[code[frame.f_lasti]] == "RESUME" and code[frame.f_lasti + 1] != 0


async def always(act: Act, before: Act) -> Files:
    """Run an act several times; return the functions that ran each time."""
    runs = []
    for _ in range(REPEATS):
        await before()
        await asyncio.sleep(QUIET_SECONDS)
        runs.append(await traced(act))
    return {
        file: [name for name in names if all(name in run[file] for run in runs)]
        for file, names in runs[0].items()
        if all(file in run for run in runs)
    }


async def trace() -> dict[str, Files]:
    """Run a gateway; return the functions of each act."""
    with tempfile.TemporaryDirectory() as folder:
        # Without io_uring, which is not on every machine, and without delays, which depend on the load.
        plain = Fanout(io_uring=False, batch_delay_seconds_max=0.0)
        config = Config(port=0, connect=(), bind=f"ipc://{folder}/bus", fanout=plain)
        async with running(config) as service, aiohttp.ClientSession() as http:
            publisher, client = Publisher(config.bind), Client(http, service.urls[0])
            await publisher.subscribed()
            await until(lambda: not service.unready())
            found = await _acts(service, publisher, client)
            await client.close()
            publisher.close()
    return found


async def _acts(service: Service, publisher: Publisher, client: Client) -> dict[str, Files]:
    async def event() -> None:
        publisher.send()
        await client.expect("event")

    async def subscribe() -> None:
        await client.ask(type="subscribe", channels=[CHANNEL])
        await client.expect("subscribed")

    async def unsubscribe() -> None:
        await client.ask(type="unsubscribe", channels=[CHANNEL])
        await client.expect("unsubscribed")

    async def resume() -> None:
        await client.connect({"session": client.session})
        await client.expect("subscribed")
        await client.expect("event")

    async def lose() -> None:
        """Lose the connection, and miss an event."""
        await client.close()
        log = service.hub.logs.by_name[CHANNEL]
        newest = log.newest
        publisher.send()
        await until(lambda: not service.hub.sessions and log.newest != newest)

    async def nothing() -> None:
        """Do nothing."""

    await client.connect({"channels": CHANNEL})
    await client.expect("subscribed")
    await event()  # the first one begins an epoch
    return {
        "an event": await always(event, before=nothing),
        "a subscribe": await always(subscribe, before=unsubscribe),
        "a resume": await always(resume, before=lose),
    }


async def main() -> None:
    logs.set_up("warning", "auto")
    async with asyncio.timeout(TIMEOUT_SECONDS):
        found = await trace()
    for act, files in found.items():
        print(f"{act}: {len(files)} files")
        for file, names in files.items():
            print(f"  {file:32}{', '.join(names)}")
        print()


if __name__ == "__main__":
    asyncio.run(main())
