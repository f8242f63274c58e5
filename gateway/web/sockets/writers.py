"""How clients' sockets are written to: those that get the same bytes with one system call for many.

That goes past their transports, and so only while these hold nothing themselves. What a socket does
not take its transport gets: all that happens then, also to one that is broken, happens there.

A descriptor is used until its client has left its cohort, which is when the connection is lost at the
latest; transports close theirs only after that.
"""

from array import array
from asyncio import Transport
from collections.abc import Collection

from gateway.core.fanout.cohorts import CohortWriter, SequentialWriter, Writer
from gateway.core.fanout.fanout import Fanout
from gateway.logs import logger
from gateway.web.sockets.io_uring import Ring


log = logger("gateway.http")

_FEW = 6
"""Below this a system call for all costs more than one for each."""


class Sockets:
    """The ways to the clients of a fan-out: together where io_uring is to be used, and can be."""

    def __init__(self, fanout: Fanout, *, io_uring: bool) -> None:
        self._wanted = io_uring
        self._ring: Ring | None = None
        fanout.make_writer = self._ways

    def way(self, transport: Transport) -> Writer:
        """Return the way to one client."""
        if self._wanted and self._ring is None:
            self._open()
        if self._ring is None or transport.get_extra_info("sslcontext") is not None:
            return transport
        return Direct(transport)

    def close(self) -> None:
        """Write to each client by itself from now on."""
        if self._ring is not None:
            self._ring.close()

    def _open(self) -> None:
        """Open a ring; with the first client, as a process without any needs none."""
        try:
            self._ring = Ring()
        except OSError as error:
            log.info("io_uring_unavailable", reason=str(error))
            self._wanted = False

    def _ways(self) -> CohortWriter:
        return SequentialWriter() if self._ring is None else Batch(self._ring)


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
        if self.batch is not None and self.place >= 0:
            self.batch.set_aside(self)
        self.transport.write(data)

    @property
    def is_idle(self) -> bool:
        """Whether its transport holds nothing, and is not about to close."""
        transport = self.transport
        return not (transport.get_write_buffer_size() or transport.is_closing())

    def finish(self, data: memoryview, *, begun: bool) -> bool:
        """Let its transport have what its socket did not take; False if that fails.

        What was `begun` cannot be taken back: a client that has a part gets the rest, or nothing more.
        """
        try:
            self.transport.write(data)
        except Exception:
            if begun:
                self.transport.abort()
            return False
        return True


class Batch:
    """Ways to all that get the same bytes."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self._ways: list[Direct] = []
        self._sockets = array("i")
        """Theirs, at the same places."""
        self._singly = SequentialWriter()
        """The others, each written to by itself."""
        self._aside: dict[Direct, None] = {}
        """Those of the others that may come back."""

    def add(self, way: Writer) -> None:
        """Write to this one too, behind what it has got by itself."""
        self._singly.add(way)
        if isinstance(way, Direct):
            way.batch = self
            self._aside[way] = None

    def discard(self, way: Writer) -> None:
        """Write to it no more."""
        if isinstance(way, Direct):
            self.set_aside(way)
            del self._aside[way]
            way.batch = None
        self._singly.discard(way)

    def set_aside(self, way: Direct) -> None:
        """Let its transport have what comes next, until that holds nothing."""
        if way.place < 0:
            return
        last, socket = self._ways.pop(), self._sockets.pop()
        if last is not way:
            self._ways[way.place], self._sockets[way.place] = last, socket
            last.place = way.place
        way.place = -1
        self._aside[way] = None
        self._singly.add(way)

    def write_all(self, data: bytes) -> Collection[Writer]:
        """Write to all, and return those with which that failed."""
        if self._aside and len(self._aside) + len(self._ways) >= _FEW:
            self._bring_back()
        failed = self._singly.write_all(data)
        if self._sockets:
            short = self._ring.send(self._sockets, data)
            for way, taken in [(self._ways[place], taken) for place, taken in short]:
                self.set_aside(way)
                rest = memoryview(data)[max(taken, 0) :]
                if not way.finish(rest, begun=taken > 0):
                    failed.append(way)
        return failed

    def _bring_back(self) -> None:
        """Go past the transports that hold nothing any more."""
        if self._ring.closed:
            return
        for way in [way for way in self._aside if way.is_idle]:
            del self._aside[way]
            self._singly.discard(way)
            way.place = len(self._ways)
            self._ways.append(way)
            self._sockets.append(way.socket)
