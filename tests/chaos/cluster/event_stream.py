"""Clients of Server-Sent Events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from urllib.parse import quote

from tests.chaos.cluster.client import CHANNELS, CHATS, EVERYONE, ConnectedClient
from tests.chaos.follower import Message, decode


_STARTING = 503


class EventStreamClient(ConnectedClient):
    """Resumes with the last id that it received, as a browser's EventSource does.

    It ignores what it received after that id: the gateway sends it again."""

    engine_channels = (*CHATS, EVERYONE)
    last_id = ""

    def _make_connection(self, port: int) -> Callable[[], Connection]:
        self._note(f"connect to port {port} with last id {self.last_id}")
        return partial(Connection, self)


class Connection(asyncio.Protocol):
    """One connection of a client: HTTP/1.1 with chunked encoding, and event-stream lines as the HTML standard says."""

    def __init__(self, client: EventStreamClient) -> None:
        self.client = client
        self.answered = asyncio.Event()
        """Set when the client is subscribed, or the connection is lost."""
        self.gone = asyncio.Event()
        self.subscribed = False
        self._has_head = False
        self._raw = self._text = b""
        self._since_id: list[Message] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        resume = f"Last-Event-ID: {self.client.last_id}\r\n" if self.client.last_id else ""
        path = f"/events?channels={quote(','.join(CHANNELS))}"
        transport.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{resume}\r\n".encode())

    def connection_lost(self, error: Exception | None) -> None:
        self.answered.set()
        self.gone.set()

    def data_received(self, data: bytes) -> None:
        self._raw += data
        if not self._has_head and not self._read_head():
            return
        while (end := self._raw.find(b"\r\n")) >= 0:
            size = int(self._raw[:end], 16)
            if len(self._raw) < end + 2 + size + 2:
                break
            self._text += self._raw[end + 2 : end + 2 + size]
            self._raw = self._raw[end + 2 + size + 2 :]
        *events, self._text = self._text.split(b"\n\n")
        for event in events:
            self._read(event)

    def _read_head(self) -> bool:
        head, found, rest = self._raw.partition(b"\r\n\r\n")
        if not found:
            return False
        status = int(head.split()[1])
        if status == _STARTING:
            self.transport.abort()
            return False
        if status != 200:
            self.client.faults.append(head.decode())
        self._has_head, self._raw = True, rest
        return True

    def _read(self, event: bytes) -> None:
        last_id = ""
        for line in event.split(b"\n"):
            name, _, value = line.partition(b": ")
            if name == b"data":
                self._since_id.append(decode(value))
            elif name == b"id":
                last_id = value.decode()
        if last_id:
            self._take_all(last_id)

    def _take_all(self, last_id: str) -> None:
        taken, self._since_id = self._since_id, []
        self.client.last_id = last_id
        for message in taken:
            try:
                self.client.take(message)
            except AssertionError as fault:
                self.client.faults.append(str(fault))
            if message.type == "subscribed":
                self.subscribed = True
                self.answered.set()
