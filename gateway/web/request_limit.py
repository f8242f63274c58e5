"""Limits what HTTP requests cost at once, so that events go on however many are sent.

Requests take turns, in the order in which they came. The one whose turn it is works for `SLICE_SECONDS`,
and then leaves the event loop to others for as long. What requests hold in memory is counted, bodies and
answers apart: a body is read, and an answer begun, once there is room. A request that would wait for
longer than `WAIT_SECONDS_MAX`, or with too many others, is refused: 503 with `Retry-After`.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NoReturn

from aiohttp import web

from gateway.config.model import Http
from gateway.core.protocol.errors import ErrorCode, RequestError
from gateway.web.problems import Handler


Waiting = contextlib.AbstractContextManager[object]
"""Is entered while a request waits, and ends that if it is for nobody any more."""


WAIT_SECONDS_MAX = 5.0
SLICE_SECONDS = 0.0005
SENDING_SECONDS_MAX = 2.0
"""An answer that takes longer to send is broken off if others need its room."""
_REST_SECONDS_MAX = 0.02
_SECONDS_PER_BYTE = 1e-9
"""What sending takes in the kernel, about."""


class RequestLimit:
    """One process's limit; `at_once` requests have a turn together.

    `on_refused` is called for each request that is refused. Needs a running event loop once it is used.
    """

    def __init__(self, settings: Http, *, at_once: int, on_refused: Callable[[], object]) -> None:
        self._waiting_max = settings.requests_waiting_max
        self._paced = at_once == 1
        self._on_refused = on_refused
        self._turns = asyncio.Semaphore(at_once)
        self._waiting = 0
        self._worked_since = 0.0
        """CPU time of this thread when the current slice began."""
        self._worked = 0.0
        """What the turns before have worked since the last pause."""
        self._sending: dict[asyncio.Transport, float] = {}
        """When the sending of each answer began, the longest ago first."""
        self._bodies = _Bytes(settings.bodies_bytes_max)
        self._answers = _Bytes(settings.answers_bytes_max)

    async def answer(self, request: web.Request, handler: Handler, waiting: Waiting) -> web.StreamResponse:
        """Return what a handler answers, once it is the request's turn; it has been sent then. `waiting` is entered
        until it is.
        Raises RequestError: too many requests wait."""
        async with self._turn(waiting):
            response = await handler(request)
            size, transport = response.content_length or 0, request.transport
            if transport is None:
                return response  # nobody is there to read it
            self._worked += size * _SECONDS_PER_BYTE
            self._answers.add(size)
            self._sending[transport] = asyncio.get_running_loop().time()
        try:
            await response.prepare(request)
            await response.write_eof()
        finally:
            del self._sending[transport]
            self._answers.remove(size)
        return response

    @asynccontextmanager
    async def body(self, size: int, waiting: Waiting) -> AsyncIterator[None]:
        """Hold so many bytes of a body for a block, once there is room for them; `waiting` is entered until then.
        Raises RequestError: there is none in time."""
        await self._wait(self._bodies.room, waiting)
        self._bodies.add(size)
        try:
            yield
        finally:
            self._bodies.remove(size)

    async def pause(self) -> None:
        """Let events pass if the request whose turn it is has worked for a slice; call it between pieces of work."""
        self._worked += time.thread_time() - self._worked_since
        if self._worked >= SLICE_SECONDS:
            await asyncio.sleep(self._rest_seconds())
        self._worked_since = time.thread_time()

    @asynccontextmanager
    async def _turn(self, waiting: Waiting) -> AsyncIterator[None]:
        await self._wait(self._begin, waiting)
        self._worked_since = time.thread_time()
        try:
            yield
        finally:
            self._worked += time.thread_time() - self._worked_since
            if self._paced and self._worked >= SLICE_SECONDS:
                asyncio.get_running_loop().call_later(self._rest_seconds(), self._turns.release)
            else:
                self._turns.release()

    def _rest_seconds(self) -> float:
        worked, self._worked = self._worked, 0.0
        return min(worked, _REST_SECONDS_MAX)

    async def _begin(self) -> None:
        await self._turns.acquire()
        try:
            while not self._answers.has_room:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SENDING_SECONDS_MAX):
                        await self._answers.room()
                        return
                self._break_off()
        except BaseException:
            self._turns.release()
            raise

    def _break_off(self) -> None:
        """Disconnect the peer that has not read its answer for longest, if that is long."""
        transport, since = next(iter(self._sending.items()), (None, 0.0))
        if transport is not None and asyncio.get_running_loop().time() - since >= SENDING_SECONDS_MAX:
            transport.abort()

    async def _wait(self, condition: Callable[[], Awaitable[None]], waiting: Waiting) -> None:
        if self._waiting >= self._waiting_max:
            self._refuse(f"{self._waiting} requests wait already (`http.requests_waiting_max`)")
        self._waiting += 1
        try:
            with waiting:
                async with asyncio.timeout(WAIT_SECONDS_MAX):
                    await condition()
        except TimeoutError:
            self._refuse(f"it has waited for {WAIT_SECONDS_MAX:g} s behind other requests")
        finally:
            self._waiting -= 1

    def _refuse(self, why: str) -> NoReturn:
        self._on_refused()
        raise RequestError(ErrorCode.UNAVAILABLE, f"the request was not handled: {why}; try again later")


class _Bytes:
    """Bytes that are held at once. More are added only while fewer than `bytes_max` are held."""

    def __init__(self, bytes_max: int) -> None:
        self._held = 0
        self._bytes_max = bytes_max
        self._has_room = asyncio.Event()
        self._has_room.set()

    @property
    def has_room(self) -> bool:
        return self._held < self._bytes_max

    async def room(self) -> None:
        while not self.has_room:
            await self._has_room.wait()

    def add(self, size: int) -> None:
        self._held += size
        if not self.has_room:
            self._has_room.clear()

    def remove(self, size: int) -> None:
        self._held -= size
        if self.has_room:
            self._has_room.set()
