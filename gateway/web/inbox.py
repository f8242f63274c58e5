"""Between a WebSocket's client, who sends when it likes, and its connection, which takes its time."""

import asyncio
from collections.abc import Callable
from typing import Literal

from gateway.core.frames import Violation
from gateway.core.inbound import Message, Parser
from gateway.web.transport import Protocol


UNTAKEN_BYTES_MAX = 65_536
"""When messages of this size wait to be taken, no more is read from the socket."""
_MESSAGE_BYTES = 100
"""What a message takes up beside its data."""


class Inbox:
    """What a WebSocket's client has said, until it is taken; meanwhile not much more is read.

    It stands where aiohttp has its own parser.
    """

    __slots__ = (
        "_bytes",
        "_ended",
        "_messages",
        "_parser",
        "_paused",
        "_protocol",
        "_waiter",
        "on_violation",
        "violation",
    )

    def __init__(self, protocol: Protocol, parser: Parser) -> None:
        self.on_violation: Callable[[int], object] | None = None
        self.violation: int | None = None
        """The close code for what the client did wrong; nothing that it sends after that is looked at."""
        self._bytes = 0
        self._ended = False
        self._messages: list[Message] = []
        self._parser = parser
        self._paused = False
        self._protocol = protocol
        self._waiter: asyncio.Future[None] | None = None

    async def take(self) -> list[Message]:
        """Wait for messages; none means that nothing comes any more."""
        if self._paused and not self._messages:
            self._paused = False
            self._flow("resume_reading")
        while not self._messages and not self._ended:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        taken, self._messages, self._bytes = self._messages, [], 0
        return taken

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take what has come (aiohttp's side)."""
        if self.violation is None:
            try:
                for message in self._parser.feed(data):
                    self._messages.append(message)
                    self._bytes += len(message.data) + _MESSAGE_BYTES
            except Violation as violation:
                self.violation = violation.code  # not itself: it holds all that was being read
                if self.on_violation is not None:
                    self.on_violation(violation.code)
            if self._bytes > UNTAKEN_BYTES_MAX and not self._paused:
                self._paused = True
                self._flow("pause_reading")
            self._wake()
        return False, b""

    def feed_eof(self) -> None:
        """Take note that nothing comes any more (aiohttp's side)."""
        self._ended = True
        self.on_violation = None  # it leads to who holds this
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _flow(self, what: Literal["pause_reading", "resume_reading"]) -> None:
        transport = self._protocol.transport
        if transport is not None and not transport.is_closing():
            getattr(transport, what)()
