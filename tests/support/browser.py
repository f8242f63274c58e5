"""A page in a headless Chromium, spoken to over its DevTools protocol."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.support.waiting import DEADLINE_SECONDS, eventually, scaled


CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
"""The browser's program; empty if there is none."""
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0"),
)


class Page:
    """An open page. Use `page` to open one."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._session: dict[str, str] = {}
        self.printed: list[str] = []
        """What the page has written to its console, as text."""

    async def open(self, address: str) -> None:
        target = (await self._call("Target.createTarget", url="about:blank"))["targetId"]
        attached = await self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        await self._call("Runtime.enable")
        await self._call("Page.enable")
        await self._call("Page.navigate", url=address)

        async def is_loaded() -> bool:
            return bool(
                await self.evaluate(f"location.href.startsWith({address!r}) && document.readyState == 'complete'")
            )

        await eventually(is_loaded)

    async def evaluate(self, code: str) -> Any:  # Any: whatever the page says
        """Run code as the console of the page does, and return what it gives."""
        options = {"awaitPromise": True, "returnByValue": True, "replMode": True}
        found = await self._call("Runtime.evaluate", expression=code, **options)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def _call(self, method: str, **params: object) -> dict[str, Any]:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": params, **self._session})
        async with asyncio.timeout(scaled(DEADLINE_SECONDS)):
            while True:
                message = await self._socket.receive_json()
                if message.get("method") == "Runtime.consoleAPICalled":
                    self.printed += [str(one.get("value")) for one in message["params"]["args"]]
                if message.get("id") == number:
                    assert "error" not in message, message
                    found: dict[str, Any] = message["result"]
                    return found


@asynccontextmanager
async def page(address: str, *flags: str) -> AsyncIterator[Page]:
    """Open a page in a browser of its own, which is started with further flags."""
    with tempfile.TemporaryDirectory(prefix="ng-chromium-", ignore_cleanup_errors=True) as folder:
        command = [CHROMIUM, *_FLAGS, *flags, f"--user-data-dir={folder}"]
        async with (
            running(command, announcing="DevTools") as devtools,
            aiohttp.ClientSession() as http,
            http.ws_connect(devtools, max_msg_size=0) as socket,
        ):
            opened = Page(socket)
            await opened.open(address)
            yield opened


@asynccontextmanager
async def running(
    command: Sequence[str], *, announcing: str, environment: Mapping[str, str] | None = None
) -> AsyncIterator[str]:
    """Run a browser, and yield the address that it announces for a protocol; it is killed with the block."""
    browser = await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield await _announced(browser, f"{announcing} listening on ")
    finally:
        os.killpg(browser.pid, signal.SIGKILL)
        await browser.wait()


async def _announced(browser: asyncio.subprocess.Process, words: str) -> str:
    assert browser.stderr is not None
    async with asyncio.timeout(scaled(DEADLINE_SECONDS)):
        async for line in browser.stderr:
            if words.encode() in line:
                return line.decode().split(words)[1].strip()
    raise AssertionError(f"the browser ended without saying: {words}")
