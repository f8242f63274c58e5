"""A page in a headless Chromium, spoken to over its DevTools protocol."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
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
    folder = Path(tempfile.mkdtemp(prefix="ng-chromium-"))
    browser = await asyncio.create_subprocess_exec(
        *(CHROMIUM, *_FLAGS, *flags, f"--user-data-dir={folder}"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        devtools = await _devtools(browser)
        async with aiohttp.ClientSession() as http, http.ws_connect(devtools, max_msg_size=0) as socket:
            opened = Page(socket)
            await opened.open(address)
            yield opened
    finally:
        os.killpg(browser.pid, signal.SIGKILL)
        await browser.wait()
        shutil.rmtree(folder, ignore_errors=True)


async def _devtools(browser: asyncio.subprocess.Process) -> str:
    assert browser.stderr is not None
    async with asyncio.timeout(scaled(DEADLINE_SECONDS)):
        async for line in browser.stderr:
            if b"DevTools listening on " in line:
                return line.decode().split("listening on ")[1].strip()
    raise AssertionError("Chromium did not start")
