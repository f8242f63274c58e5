"""A reader of Server-Sent Events, as the HTML standard (section 9.2) says and no more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import aiohttp

from tests.support.waiting import DEADLINE_SECONDS, scaled


@dataclass(frozen=True)
class Sent:
    """One event as an EventSource hands it out."""

    name: str
    data: Any
    last_id: str


class EventSource:
    """One connection to ``/events``; `last_id` and `retry_ms` are what a browser would keep."""

    def __init__(self, url: str, query: str, *, last_id: str = "", headers: Mapping[str, str] | None = None) -> None:
        self._url = f"{url}/events?{query}"
        self.last_id = last_id
        self._headers = dict(headers or {})
        self.retry_ms: int | None = None
        self.comments = 0
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None), read_bufsize=1 << 20)

    async def __aenter__(self) -> EventSource:
        headers = self._headers | ({"Last-Event-ID": self.last_id} if self.last_id else {})
        self.response = await self._session.get(self._url, headers=headers)
        self._events = self._read()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._events.aclose()
        self.response.close()
        await self._session.close()

    def __aiter__(self) -> AsyncGenerator[Sent, None]:
        """All events, until the stream ends."""
        return self._events

    async def next(self, name: str = "message") -> Sent:
        """The next event of this name."""
        async with asyncio.timeout(scaled(DEADLINE_SECONDS)):
            async for sent in self._events:
                if sent.name == name:
                    return sent
        raise AssertionError(f"the stream ended without {name!r}")

    async def messages(self, count: int) -> list[dict[str, Any]]:
        """The data of the next so many events of channels."""
        return [(await self.next()).data for _ in range(count)]

    async def rest(self) -> list[Sent]:
        """Everything up to the stream's end."""
        async with asyncio.timeout(scaled(DEADLINE_SECONDS)):
            return [sent async for sent in self._events]

    async def _read(self) -> AsyncGenerator[Sent, None]:
        name = "message"
        data: list[str] = []
        async for raw in self.response.content:
            line = raw.decode().rstrip("\n")
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match field:
                case "":
                    if line.startswith(":"):
                        self.comments += 1
                    elif data:
                        yield Sent(name, json.loads("\n".join(data)), self.last_id)
                        name, data = "message", []
                case "event":
                    name = value
                case "data":
                    data.append(value)
                case "id":
                    self.last_id = value
                case "retry":
                    self.retry_ms = int(value)
                case _:
                    raise AssertionError(f"no field of an event stream: {line!r}")
