"""Bounds how many connections publishers, and subscribers of the outlet, have to the endpoints that are bound.

libzmq accepts in a thread of its own, and has no limit: connections that send nothing would take every file that the
process may open, and clients and health checks would get none."""

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import Iterator

import zmq
from zmq.utils.monitor import parse_monitor_message


_INFO_BYTES = 136
_RECEIVED, _RECEIVED_AT = struct.Struct("@Q"), 128
"""tcpi_bytes_received of struct tcp_info in linux/tcp.h, Linux 4.1 or later."""

_Connection = tuple[object, int]


class ConnectionLimit:
    """The connections of all sockets that share it; each is known by its socket's owner and its descriptor.

    Beyond `most`, the oldest one that has sent nothing is disconnected, or else the newest."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._silent: dict[_Connection, str] = {}
        """Those that had sent nothing when they were last looked at, with their endpoints, the oldest first."""
        self._others: set[_Connection] = set()
        self._ended: set[_Connection] = set()
        """Those that were disconnected, and are not known to be closed yet."""

    def __len__(self) -> int:
        return len(self._silent) + len(self._others)

    @property
    def problem(self) -> str:
        """Why a connection was disconnected."""
        return (
            f"There are more than {self.most} connections to the endpoints that the gateway binds. Look at who "
            "connects without being a publisher; if all of them are publishers, raise bus.connections_max, or the "
            "limit of open files."
        )

    def opened(self, owner: object, endpoint: str, descriptor: int) -> None:
        """Note an accepted connection, and disconnect one if there are too many now."""
        new = owner, descriptor
        self._silent[new] = endpoint
        while self._silent and len(self) > self.most:
            connection = next(iter(self._silent))
            if self._disconnect(connection, only_silent=connection != new):
                self._ended.add(connection)

    def closed(self, owner: object, descriptor: int) -> bool:
        """Note that a connection is closed; return whether it was for the limit."""
        connection = owner, descriptor
        self._silent.pop(connection, None)
        self._others.discard(connection)
        ended = connection in self._ended
        self._ended.discard(connection)
        return ended

    def ends(self, owner: object) -> bool:
        """Return whether a connection of this owner was disconnected and is not known to be closed yet."""
        return any(one is owner for one, _ in self._ended)

    def forget(self, owner: object) -> None:
        """Note that all connections of an owner are closed."""
        for one, descriptor in [*self._silent, *self._others, *self._ended]:
            if one is owner:
                self.closed(owner, descriptor)

    def _disconnect(self, connection: _Connection, *, only_silent: bool) -> bool:
        """Shut a connection down; with `only_silent`, unless it has sent something."""
        endpoint = self._silent.pop(connection)
        with _borrowed(connection[1]) as one:
            if one is not None and endpoint.endswith(_address(one)):
                if only_silent and _has_sent(one):
                    self._others.add(connection)
                    return False
                with contextlib.suppress(OSError):  # its peer was faster
                    one.shutdown(socket.SHUT_RDWR)
                return True
        return False  # libzmq has closed it, and its descriptor is perhaps another file's


class AcceptMonitor:
    """Tells a limit which connections a socket has accepted, and which of them are closed."""

    def __init__(self, bound: "zmq.Socket[bytes]", limit: ConnectionLimit) -> None:
        self._bound = bound
        self._limit = limit
        self._monitor = bound.get_monitor_socket(int(zmq.Event.ACCEPTED | zmq.Event.DISCONNECTED))
        asyncio.get_running_loop().add_reader(self._monitor.FD, self.poll)
        self.poll()  # the FD is edge-triggered

    def poll(self) -> None:
        with contextlib.suppress(zmq.Again):
            while True:
                found = parse_monitor_message(self._monitor.recv_multipart(zmq.NOBLOCK))
                if found["event"] == zmq.Event.ACCEPTED:
                    self._limit.opened(self, found["endpoint"].decode(), found["value"])
                else:
                    self._limit.closed(self, found["value"])

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._monitor.FD)
        self._bound.disable_monitor()
        self._monitor.close(linger=0)
        self._limit.forget(self)


@contextlib.contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket | None]:
    """Use libzmq's socket, which it may close at any moment, without a descriptor of our own: none may be left."""
    try:
        one = socket.socket(fileno=descriptor)
    except OSError:
        yield None
        return
    try:
        yield one
    finally:
        one.detach()


def _address(one: socket.socket) -> str:
    """Return how the endpoint ends that a socket is bound to: with the port, or with the path."""
    try:
        name = one.getsockname()
    except OSError:
        return "?"
    if isinstance(name, bytes):  # abstract
        return name.replace(b"\0", b"//@", 1).decode(errors="replace")
    return f":{name[1]}" if isinstance(name, tuple) else f"//{name}"


def _has_sent(one: socket.socket) -> bool:
    """Tell whether the peer has sent anything; True where the system does not say."""
    if sys.platform != "linux":
        return True
    try:
        info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    except OSError:  # not TCP
        return True
    return len(info) < _INFO_BYTES or _RECEIVED.unpack_from(info, _RECEIVED_AT)[0] > 0
