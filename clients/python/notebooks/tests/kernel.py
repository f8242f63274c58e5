"""A kernel as a notebook uses it, and the messages that a page would receive and send."""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass, field
from typing import Any, Self

from jupyter_client.manager import AsyncKernelManager

from tests.support.waiting import DEADLINE_SECONDS, eventually, scaled


Json = dict[str, Any]


@dataclass
class Outcome:
    """The output of a cell so far."""

    is_over: bool = False
    text: str = ""
    data: list[Json] = field(default_factory=list)
    """The displayed and returned values, by MIME type."""
    error: str = ""

    @property
    def html(self) -> str:
        return "".join(one.get("text/html", "") for one in self.data)


class Kernel:
    """One kernel process; as an ``async with`` block it has the extension loaded."""

    def __init__(self) -> None:
        self._manager = AsyncKernelManager(kernel_name="python3")
        self._cells: dict[str, Outcome] = {}
        self.sent: dict[str, list[Json]] = {}
        """The messages of each widget to pages, by comm id."""

    async def __aenter__(self) -> Self:
        await self._manager.start_kernel()
        self._client = self._manager.client()
        self._client.start_channels()
        await self._client.wait_for_ready(timeout=scaled(DEADLINE_SECONDS))
        self._reader = asyncio.create_task(self._read())
        await self.run("%load_ext neurograph")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader
        self._client.stop_channels()
        await self._manager.shutdown_kernel(now=True)

    async def _read(self) -> None:
        while True:
            message = await self._client.get_iopub_msg()
            content = message["content"]
            cell = self._cells.get(message["parent_header"].get("msg_id", ""), Outcome())
            match message["msg_type"]:
                case "stream":
                    cell.text += content["text"]
                case "execute_result" | "display_data":
                    cell.data.append(content["data"])
                case "error":
                    cell.error += re.sub(r"\x1b\[[\d;]*m", "", "\n".join(content["traceback"]))
                case "status" if content["execution_state"] == "idle":
                    cell.is_over = True
                case "comm_open" | "comm_msg":
                    self.sent.setdefault(content["comm_id"], []).append(content["data"])

    def start(self, code: str) -> Outcome:
        """Start a cell without waiting for its end."""
        number = self._client.execute(code)
        return self._cells.setdefault(number, Outcome())

    async def run(self, code: str) -> Outcome:
        """Run a cell, and wait for its end."""
        cell = self.start(code)
        await eventually(lambda: cell.is_over, saying=lambda: f"{code}: {cell}")
        return cell

    async def interrupt(self) -> None:
        """Interrupt the running cell, as the button does."""
        await self._manager.interrupt_kernel()

    async def restart(self) -> None:
        """Restart the kernel, as the button does: the kernel first gets the chance to end itself."""
        await self._manager.restart_kernel()

    async def shut_down(self) -> None:
        """End the kernel, as a page does when it shuts down the notebook."""
        await self._manager.shutdown_kernel()

    # -- the page ---------------------------------------------------------------------------------

    def widget(self) -> str:
        """Return the comm id of the newest widget."""
        return next(comm for comm, sent in reversed(self.sent.items()) if "kind" in sent[0].get("state", {}))

    def say(self, comm: str, kind: str, **more: Any) -> None:
        """Send a widget the message that a page sends when it shows the widget, or when a button is clicked."""
        content = {"type": kind, "page": "p", **more}
        data = {"method": "custom", "content": content}
        message = self._client.session.msg("comm_msg", {"comm_id": comm, "data": data})
        self._client.shell_channel.send(message)

    def heard(self, comm: str, kind: str = "update") -> list[Json]:
        """Return the messages of one kind that pages got from a widget."""
        found = (one["content"] for one in self.sent[comm] if one.get("method") == "custom")
        return [one for one in found if one["type"] == kind]
