"""A page in a headless Firefox, spoken to over WebDriver BiDi."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.support.browser import running
from tests.support.waiting import DEADLINE_SECONDS, scaled


FIREFOX = next((path for name in ("firefox-esr", "firefox") if (path := shutil.which(name))), "")
"""The browser's program; empty if there is none."""
_PREFERENCES = {
    "devtools.jsonview.enabled": False,  # its page is not that of the address
    "datareporting.policy.dataSubmissionEnabled": False,
    "app.update.disabledForTesting": True,
    "browser.startup.homepage_override.mstone": "ignore",
}


class FirefoxPage:
    """An open page. Use `page` to open one."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._context = ""

    async def open(self, address: str) -> None:
        """Open an address, whatever its certificate, as those of all others in this browser."""
        await self._call("session.new", capabilities={"alwaysMatch": {"acceptInsecureCerts": True}})
        [context, *_] = (await self._call("browsingContext.getTree"))["contexts"]
        self._context = context["context"]
        await self._call("browsingContext.navigate", context=self._context, url=address, wait="complete")

    async def evaluate(self, code: str) -> Any:  # Any: whatever the page says
        """Evaluate an expression, and return what JSON can say of it."""
        found = await self._call(
            "script.evaluate",
            expression=f"(async () => JSON.stringify(await ({code})))()",
            target={"context": self._context},
            awaitPromise=True,
        )
        assert found["type"] == "success", found
        return json.loads(found["result"].get("value", "null"))

    async def _call(self, method: str, **params: object) -> dict[str, Any]:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        async with asyncio.timeout(scaled(DEADLINE_SECONDS)):
            while True:
                message = await self._socket.receive_json()
                if message.get("id") == number:
                    assert message["type"] == "success", message
                    found: dict[str, Any] = message["result"]
                    return found


@asynccontextmanager
async def page(address: str) -> AsyncIterator[FirefoxPage]:
    """Open a page in a browser of its own."""
    with tempfile.TemporaryDirectory(prefix="ng-firefox-", ignore_cleanup_errors=True) as folder:
        lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in _PREFERENCES.items()]
        (Path(folder) / "user.js").write_text("".join(lines))
        command = [FIREFOX, "--headless", "--no-remote", "--profile", folder, "--remote-debugging-port", "0"]
        environment = {**os.environ, "HOME": folder}
        async with (
            running(command, announcing="BiDi", environment=environment) as bidi,
            aiohttp.ClientSession() as http,
            http.ws_connect(f"{bidi}/session", max_msg_size=0) as socket,
        ):
            opened = FirefoxPage(socket)
            await opened.open(address)
            yield opened
