"""Who is still there: one timer for all connections, none per client.

Every connection is pinged in turn, and each answer also confirms what the client has received.
Who stays silent after a ping is closed, unless bytes are still waiting for its socket: then the
ping waits with them, and the limit on stalled sockets decides.
"""

from typing import Protocol

from gateway.config.model import Clients
from gateway.core.fanout.cohorts import Cursors
from gateway.core.protocol.errors import CloseCode
from gateway.core.protocol.frames import ping_frame
from gateway.core.sessions.hub import Hub


class Connection(Protocol):
    """What there is to watch of a connection."""

    heard: bool
    """Whether anything came since the last ping."""

    @property
    def buffered(self) -> int: ...
    @property
    def lag(self) -> int: ...
    def ping(self, frame: bytes, payload: bytes, heads: Cursors) -> None: ...
    def end(self, code: CloseCode) -> None: ...


class ClientHeartbeat:
    """Pings and verdicts in the order they are due; times are loop seconds."""

    def __init__(self, hub: Hub, limits: Clients) -> None:
        self._hub = hub
        self._limits = limits
        self._round = 0
        self._pings: dict[Connection, float] = {}
        self._verdicts: dict[Connection, float] = {}
        self._stalled: dict[Connection, tuple[float, int]] = {}
        """Until when a socket may take nothing, and how many bytes wait for it."""

    @property
    def interval(self) -> float:
        """How often `beat` wants to be called, in seconds."""
        return min(1.0, self._limits.heartbeat_seconds / 4, self._limits.stall_timeout_seconds / 4)

    def add(self, connection: Connection, *, now: float) -> None:
        """Begin to look after a connection."""
        self._pings[connection] = now + self._limits.heartbeat_seconds

    def remove(self, connection: Connection) -> None:
        """Forget a connection."""
        for table in (self._pings, self._verdicts, self._stalled):
            table.pop(connection, None)

    def stalled(self, connection: Connection, *, now: float) -> None:
        """Note that a socket takes nothing, or that it has just taken a part of what it is owed."""
        self._stalled[connection] = (now + self._limits.stall_timeout_seconds, connection.buffered)

    def flows(self, connection: Connection) -> None:
        """Note that a socket has caught up."""
        self._stalled.pop(connection, None)

    def beat(self, *, now: float) -> None:
        """Ping who is due, and close who did not answer or stalled for too long."""
        self._judge(now)
        due = _due(self._pings, now)
        if not due:
            return
        self._round += 1
        payload = self._round.to_bytes(4)
        frame, heads = ping_frame(payload), self._hub.heads()
        for connection in due:
            self._pings[connection] = now + self._limits.heartbeat_seconds
            if connection in self._verdicts and not connection.heard:
                continue  # asked already, and the grace is longer than the interval
            self._verdicts.pop(connection, None)  # to the end: they stay in the order of their time
            self._verdicts[connection] = now + self._limits.heartbeat_timeout_seconds
            connection.ping(frame, payload, heads)

    def _judge(self, now: float) -> None:
        for connection in _due(self._verdicts, now):
            if connection.heard:
                continue
            if not connection.buffered:
                self._end(connection, CloseCode.HEARTBEAT_TIMEOUT)
            elif connection not in self._stalled:
                self.stalled(connection, now=now)
        for connection, (until, buffered) in list(self._stalled.items()):
            if not connection.buffered:
                del self._stalled[connection]  # all that waited has gone out
            elif connection.buffered < buffered:
                self.stalled(connection, now=now)  # slow, but it moves
            elif until <= now:
                self._end(connection, CloseCode.SLOW_CONSUMER)
        lag_max = self._limits.lag_events_max
        if lag_max:
            for connection in list(self._stalled):
                if connection.lag > lag_max:
                    self._end(connection, CloseCode.SLOW_CONSUMER)

    def _end(self, connection: Connection, code: CloseCode) -> None:
        self.remove(connection)
        connection.end(code)


def _due(table: dict[Connection, float], now: float) -> list[Connection]:
    """Take those whose time has come; all wait equally long, so the first are due first."""
    due = []
    for connection, at in table.items():
        if at > now:
            break
        due.append(connection)
    for connection in due:
        del table[connection]
    return due
