"""Which connections of a socket are peers, from the events of its monitor.

libzmq reports opened and closed connections by their file descriptors, but successful handshakes without
one, and it reports nothing at all of a handshake that fails because the other socket is of a wrong kind."""

from typing import Literal


Closed = Literal["down", "refused", "wrong_kind", "unknown"]


class Connections:
    """Counts the peers of one socket; every method takes one event of its monitor."""

    def __init__(self) -> None:
        self._up: set[int] = set()
        self._shaking: set[int] = set()
        """Connections of which no handshake is known to have succeeded or failed."""
        self._succeeded = 0
        """Handshakes among them that succeeded; whose is not known while others go on."""
        self._failed = 0
        """Handshakes among them that failed and whose connection is not closed yet."""

    @property
    def peers(self) -> int:
        return len(self._up) + self._succeeded

    def opened(self, descriptor: int) -> None:
        self._up.discard(descriptor)
        self._shaking.add(descriptor)

    def succeeded(self) -> None:
        self._succeeded += 1
        self._settle()

    def failed(self) -> None:
        self._failed += 1

    def closed(self, descriptor: int) -> Closed:
        """Note that a connection was closed, and return what it was.

        It was a peer (``down``), a handshake that was reported as failed (``refused``), or one that ended
        without a report, as libzmq does it with sockets that do not match (``wrong_kind``)."""
        if descriptor in self._up:
            self._up.discard(descriptor)
            return "down"
        if descriptor not in self._shaking:
            return "unknown"
        self._shaking.discard(descriptor)
        if self._failed:
            self._failed -= 1
            self._settle()
            return "refused"
        self._settle()
        return "wrong_kind"

    def _settle(self) -> None:
        """If as many handshakes succeeded as there are connections, each of them is a peer."""
        if self._succeeded and self._succeeded >= len(self._shaking):
            self._up |= self._shaking
            self._shaking.clear()
            self._succeeded = 0
