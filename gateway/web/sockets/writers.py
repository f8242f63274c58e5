"""Writes to clients' sockets: those that get the same bytes with one system call for many (io_uring).

That bypasses asyncio's transports, and is done only while a transport has no data buffered itself. What a
socket does not accept goes to its transport, which also handles every error.

A file descriptor is used until its client has left its cohort, at the latest when the connection is lost;
transports close theirs only after that."""

from array import array
from asyncio import Transport
from collections.abc import Collection

from gateway.core.fanout.cohorts import CohortWriter, SequentialWriter, Writer
from gateway.core.fanout.fanout import Fanout
from gateway.runtime.logs import logger
from gateway.web.sockets.io_uring import IoUring


log = logger("gateway.http")

_RING_SOCKETS_MIN = 6
"""For fewer sockets, one system call for all costs more than one for each."""


class SocketWriters:
    """Makes the writers of clients and cohorts, with io_uring if it is wanted and available."""

    def __init__(self, fanout: Fanout, *, io_uring: bool) -> None:
        self._wanted = io_uring
        self._ring: IoUring | None = None
        fanout.make_writer = self._cohort_writer

    def writer(self, transport: Transport) -> Writer:
        if self._wanted and self._ring is None:  # a process without clients needs no ring
            try:
                self._ring = IoUring()
            except OSError as error:
                log.info("io_uring_unavailable", reason=str(error))
                self._wanted = False
        if self._ring is None or transport.get_extra_info("sslcontext") is not None:
            return transport
        return SocketWriter(transport)

    def close(self) -> None:
        """Close the ring; transports write from now on."""
        if self._ring is not None:
            self._ring.close()

    def _cohort_writer(self) -> CohortWriter:
        return SequentialWriter() if self._ring is None else RingWriter(self._ring)


class SocketWriter:
    """Writes to one client, whose socket a `RingWriter` may use directly."""

    __slots__ = ("descriptor", "index", "ring_writer", "transport")

    def __init__(self, transport: Transport) -> None:
        self.ring_writer: RingWriter | None = None
        self.index = -1
        """Its index in the ring writer; -1 while its transport is used."""
        self.descriptor: int = transport.get_extra_info("socket").fileno()
        self.transport = transport

    def write(self, data: bytes, /) -> None:
        """Write to this client alone, through its transport."""
        if self.ring_writer is not None and self.index >= 0:
            self.ring_writer.use_transport(self)
        self.transport.write(data)

    @property
    def is_idle(self) -> bool:
        """Whether its transport has no data buffered, and is not closing."""
        return not (self.transport.get_write_buffer_size() or self.transport.is_closing())

    def write_rest(self, rest: memoryview, *, partly_sent: bool) -> bool:
        """Pass what the socket did not accept to the transport; return False if that fails.

        If a part has been sent, the client gets the rest or nothing more: the connection is aborted."""
        try:
            self.transport.write(rest)
        except Exception:
            if partly_sent:
                self.transport.abort()
            return False
        return True


class RingWriter:
    """Writes the same bytes to many clients: with io_uring where possible, else through transports."""

    def __init__(self, ring: IoUring) -> None:
        self._ring = ring
        self._writers: list[SocketWriter] = []
        self._descriptors = array("i")
        """Those of `_writers`, at the same indexes."""
        self._sequential = SequentialWriter()
        """All others, written to one by one."""
        self._on_transport: dict[SocketWriter, None] = {}
        """Those of the others that may use the ring once their transports are idle."""

    def add(self, writer: Writer) -> None:
        self._sequential.add(writer)
        if isinstance(writer, SocketWriter):
            writer.ring_writer = self
            self._on_transport[writer] = None

    def discard(self, writer: Writer) -> None:
        if isinstance(writer, SocketWriter):
            self.use_transport(writer)
            del self._on_transport[writer]
            writer.ring_writer = None
        self._sequential.discard(writer)

    def use_transport(self, writer: SocketWriter) -> None:
        """Write to a client through its transport until that is idle."""
        if writer.index < 0:
            return
        last, descriptor = self._writers.pop(), self._descriptors.pop()
        if last is not writer:
            self._writers[writer.index], self._descriptors[writer.index] = last, descriptor
            last.index = writer.index
        writer.index = -1
        self._on_transport[writer] = None
        self._sequential.add(writer)

    def write_all(self, data: bytes) -> Collection[Writer]:
        """Write to all clients; return the writers that failed."""
        if (
            self._on_transport
            and len(self._on_transport) + len(self._writers) >= _RING_SOCKETS_MIN
            and not self._ring.closed
        ):
            self._use_ring()
        failed = self._sequential.write_all(data)
        if self._descriptors:
            incomplete = self._ring.send(self._descriptors, data)
            for writer, sent in [(self._writers[index], sent) for index, sent in incomplete]:
                self.use_transport(writer)
                rest = memoryview(data)[max(sent, 0) :]
                if not writer.write_rest(rest, partly_sent=sent > 0):
                    failed.append(writer)
        return failed

    def _use_ring(self) -> None:
        """Bypass the transports that are idle."""
        for writer in [writer for writer in self._on_transport if writer.is_idle]:
            del self._on_transport[writer]
            self._sequential.discard(writer)
            writer.index = len(self._writers)
            self._writers.append(writer)
            self._descriptors.append(writer.descriptor)
