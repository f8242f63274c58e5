"""Finds connections that are dead or too slow: one timer for all, none per client.

Every connection is pinged in turn; each pong also confirms what the client has received. A client that
sends nothing after a ping is closed, unless bytes still wait for its socket: then the ping waits behind
them, and the limit on stalled sockets decides."""

from typing import Protocol

from gateway.config.model import Clients
from gateway.core.fanout.cohorts import Cursors
from gateway.core.protocol.errors import CloseCode
from gateway.core.protocol.frames import ping_frame
from gateway.core.sessions.hub import Hub


class MonitoredConnection(Protocol):
    """What the heartbeat needs of a connection; `heard` says if it sent anything since the last ping."""

    heard: bool

    @property
    def buffered(self) -> int: ...
    @property
    def lag(self) -> int: ...
    def ping(self, frame: bytes, payload: bytes, heads: Cursors) -> None: ...
    def close(self, code: CloseCode) -> None: ...


class ClientHeartbeat:
    """Pings connections and closes those that do not answer or stall; times are loop seconds."""

    def __init__(self, hub: Hub, limits: Clients) -> None:
        self._hub = hub
        self._limits = limits
        self._round = 0
        self._ping_times: dict[MonitoredConnection, float] = {}
        self._pong_deadlines: dict[MonitoredConnection, float] = {}
        self._stalled: dict[MonitoredConnection, tuple[float, int]] = {}
        """Until when a socket may accept nothing, and how many bytes wait for it."""

    @property
    def interval(self) -> float:
        return min(1.0, self._limits.heartbeat_seconds / 4, self._limits.stall_timeout_seconds / 4)

    def monitor(self, connection: MonitoredConnection, *, now: float) -> None:
        """Ping a connection from now on, and close it if it is dead or too slow."""
        self._ping_times[connection] = now + self._limits.heartbeat_seconds

    def stop_monitoring(self, connection: MonitoredConnection) -> None:
        for table in (self._ping_times, self._pong_deadlines, self._stalled):
            table.pop(connection, None)

    def mark_stalled(self, connection: MonitoredConnection, *, now: float) -> None:
        """Start a stall's deadline anew: the socket accepts nothing, or only a part so far."""
        self._stalled[connection] = (now + self._limits.stall_timeout_seconds, connection.buffered)

    def clear_stalled(self, connection: MonitoredConnection) -> None:
        self._stalled.pop(connection, None)

    def check(self, *, now: float) -> None:
        """Close the connections whose deadlines have passed, and ping those that are due."""
        self._check_pongs(now)
        self._check_stalls(now)
        due = _take_due(self._ping_times, now)
        if not due:
            return
        self._round += 1
        payload = self._round.to_bytes(4)
        frame, heads = ping_frame(payload), self._hub.heads()
        for connection in due:
            self._ping_times[connection] = now + self._limits.heartbeat_seconds
            if connection in self._pong_deadlines and not connection.heard:
                continue  # pinged already; the grace is longer than the interval
            self._pong_deadlines.pop(connection, None)  # to the end: deadlines stay in order
            self._pong_deadlines[connection] = now + self._limits.heartbeat_timeout_seconds
            connection.ping(frame, payload, heads)

    def _check_pongs(self, now: float) -> None:
        for connection in _take_due(self._pong_deadlines, now):
            if connection.heard:
                continue
            if not connection.buffered:
                self._close(connection, CloseCode.HEARTBEAT_TIMEOUT)
            elif connection not in self._stalled:
                self.mark_stalled(connection, now=now)

    def _check_stalls(self, now: float) -> None:
        lag_max = self._limits.lag_events_max
        for connection, (deadline, buffered) in list(self._stalled.items()):
            if not connection.buffered:
                del self._stalled[connection]  # all that waited has been sent
                continue
            if connection.buffered < buffered:
                self.mark_stalled(connection, now=now)  # slow, but it progresses
            elif deadline <= now:
                self._close(connection, CloseCode.SLOW_CONSUMER)
                continue
            if lag_max and connection.lag > lag_max:
                self._close(connection, CloseCode.SLOW_CONSUMER)

    def _close(self, connection: MonitoredConnection, code: CloseCode) -> None:
        self.stop_monitoring(connection)
        connection.close(code)


def _take_due(table: dict[MonitoredConnection, float], now: float) -> list[MonitoredConnection]:
    """Remove and return the connections whose time has come; the table is in order of time."""
    due = []
    for connection, time in table.items():
        if time > now:
            break
        due.append(connection)
    for connection in due:
        del table[connection]
    return due
