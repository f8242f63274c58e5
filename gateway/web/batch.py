"""How clients' sockets are written to: those that get the same bytes with one system call for many.

That goes past their transports, and so only while these hold nothing themselves. What a socket does
not take its transport gets: all that happens then, also to one that is broken, happens there.
"""

from array import array
from asyncio import Transport
from collections.abc import Callable, Collection
from typing import Any

from gateway.core.fanout import Fanout
from gateway.core.readers import Way
from gateway.logs import logger
from gateway.web.ring import Ring


log = logger("gateway.http")

_FEW = 6
"""Below this a system call for all costs more than one for each."""


class Sockets:
    """The ways to all clients of a fan-out: together where io_uring is to be used and there is one."""

    def __init__(self, fanout: Fanout, *, io_uring: bool) -> None:
        self._ring: Ring | None = None
        if io_uring:
            try:
                self._ring = ring = Ring()
            except OSError as error:
                log.info("no io_uring", reason=str(error))
            else:
                fanout.ways = lambda: Batch(ring)

    def way(self, transport: Transport) -> Way:
        """Return the way to one client."""
        if self._ring is None or transport.get_extra_info("sslcontext") is not None:
            return transport
        return Direct(transport)

    def close(self) -> None:
        """Write to each client by itself from now on."""
        if self._ring is not None:
            self._ring.close()


class Direct:
    """The way to one client whose socket may be written to past its transport."""

    __slots__ = ("batch", "place", "socket", "transport")

    def __init__(self, transport: Transport) -> None:
        self.batch: Batch | None = None
        self.place = -1
        """Where in its batch; below zero while its transport is to be asked first."""
        self.socket: int = transport.get_extra_info("socket").fileno()
        self.transport = transport

    def write(self, data: bytes, /) -> None:
        """Write to this client alone."""
        self.set_aside()
        self.transport.write(data)

    def set_aside(self) -> None:
        """Ask its transport first before it is gone past again; once that closes it never is."""
        if self.place >= 0 and self.batch is not None:
            self.batch.set_aside(self)

    @property
    def is_idle(self) -> bool:
        """Whether its transport holds nothing, and will keep its socket for now."""
        transport = self.transport
        return not (transport.get_write_buffer_size() or transport.is_closing())


class Batch:
    """Ways to all that get the same bytes."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._ways: list[Direct] = []
        self._sockets = array("i")
        """Theirs, at the same places."""
        self._aside: dict[Direct, None] = {}
        """Ways whose transports may hold something."""
        self._others: dict[Way, None] = {}

    def add(self, way: Way) -> None:
        """Write to this one too, behind what it has got by itself."""
        if isinstance(way, Direct):
            way.batch = self
            self._aside[way] = None
        else:
            self._others[way] = None

    def discard(self, way: Way) -> None:
        """Write to it no more."""
        if isinstance(way, Direct):
            self.set_aside(way)
            del self._aside[way]
            way.batch = None
        else:
            del self._others[way]

    def set_aside(self, way: Direct) -> None:
        """Let its transport have what comes next, until that holds nothing."""
        if way.place >= 0:
            last, socket = self._ways.pop(), self._sockets.pop()
            if last is not way:
                self._ways[way.place], self._sockets[way.place] = last, socket
                last.place = way.place
            way.place = -1
            self._aside[way] = None

    def write(self, data: bytes) -> Collection[Way]:
        """Write to all, and return those with which that failed."""
        if self._aside:
            self._bring_back()
        failed = [way for way in self._others if not _try(way.write, data)]
        failed += [way for way in self._aside if not _try(way.transport.write, data)]
        if self._sockets:
            short = self._ring.send(self._sockets, data)
            for way, taken in [(self._ways[place], taken) for place, taken in short]:
                self.set_aside(way)
                if not _try(way.transport.write, memoryview(data)[max(taken, 0) :]):
                    failed.append(way)
        return failed

    def _bring_back(self) -> None:
        """Go past the transports that hold nothing any more."""
        idle = [way for way in self._aside if way.is_idle]
        if len(idle) + len(self._ways) >= _FEW:
            for way in idle:
                del self._aside[way]
                way.place = len(self._ways)
                self._ways.append(way)
                self._sockets.append(way.socket)


def _try(write: Callable[[Any], object], data: bytes | memoryview) -> bool:  # Any: either
    """Write, unless that fails: one socket's fault must not cost the others their tick."""
    try:
        write(data)
    except Exception:
        return False
    return True
