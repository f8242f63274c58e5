"""Finds connections that are dead or too slow: one timer for all, none per client.

Every connection is pinged in turn; each pong also confirms what the client has received. A client that
sends nothing after a ping is closed, unless the ping may still wait behind other bytes, here or in the kernel's
buffers: while the client reads them, it stays; if it does not, the limit on stalled sockets decides. If the
gateway itself does not read from a client, because that exceeds its limits, its pong may be unread, too.
Time in which the gateway did not run (a pause of the machine, a busy event loop) counts for no deadline."""

import math
from collections.abc import Callable
from typing import Protocol

from gateway.config.model import Clients
from gateway.core.fanout.cohorts import Cursors
from gateway.core.protocol.errors import CloseCode
from gateway.core.protocol.frames import ping_frame
from gateway.core.sessions.hub import Hub
from gateway.web.sockets.kernel import Sending


class MonitoredConnection(Protocol):
    """What the heartbeat needs of a connection; `heard` says if it sent anything since the last ping."""

    @property
    def heard(self) -> bool: ...
    @property
    def sending(self) -> Sending: ...
    @property
    def reading_paused(self) -> bool: ...
    @property
    def lag(self) -> int: ...
    def ping(self, frame: bytes, payload: bytes, heads: Cursors) -> None: ...
    def close(self, code: CloseCode) -> None: ...


class ClientHeartbeat:
    """Pings connections and closes those that do not answer or stall; times are loop seconds."""

    def __init__(
        self, hub: Hub, limits: Clients, *, on_round_trip: Callable[[float], object] = lambda seconds: None
    ) -> None:
        self._hub = hub
        self.limits = limits
        self._on_round_trip = on_round_trip
        self._round = 0
        self._checked = math.inf
        self._pings: dict[MonitoredConnection, tuple[bytes, float]] = {}
        """The payload of the newest ping that is not answered, and when it was sent."""
        self._ping_times: dict[MonitoredConnection, float] = {}
        self._pong_deadlines: dict[MonitoredConnection, float] = {}
        self._accepted: dict[MonitoredConnection, int] = {}
        """How far the peer had read when it was pinged, or looked at since."""
        self._stalled: dict[MonitoredConnection, tuple[float, Sending]] = {}
        """Until when a socket may accept nothing, and how far it has come."""

    @property
    def interval(self) -> float:
        return min(1.0, self.limits.heartbeat_seconds / 4, self.limits.stall_timeout_seconds / 4)

    def monitor(self, connection: MonitoredConnection, *, now: float) -> None:
        """Ping a connection from now on, and close it if it is dead or too slow."""
        self._ping_times[connection] = now + self.limits.heartbeat_seconds

    def stop_monitoring(self, connection: MonitoredConnection) -> None:
        for table in (self._ping_times, self._pong_deadlines, self._accepted, self._stalled, self._pings):
            table.pop(connection, None)

    def mark_stalled(self, connection: MonitoredConnection, *, now: float) -> None:
        """Start a stall's deadline anew: the socket accepts nothing, or only a part so far."""
        self._stalled[connection] = (now + self.limits.stall_timeout_seconds, connection.sending)

    def clear_stalled(self, connection: MonitoredConnection) -> None:
        self._stalled.pop(connection, None)

    def on_pong(self, connection: MonitoredConnection, payload: bytes, *, now: float) -> None:
        """Measure the round trip, once for each ping."""
        sent = self._pings.get(connection)
        if sent is not None and sent[0] == payload:
            del self._pings[connection]
            self._on_round_trip(now - sent[1])

    def check(self, *, now: float) -> None:
        """Close the connections whose deadlines have passed, and ping those that are due."""
        self._excuse(now)
        self._check_pongs(now)
        self._check_stalls(now)
        due = _take_due(self._ping_times, now)
        if not due:
            return
        self._round += 1
        payload = self._round.to_bytes(4)
        frame, heads = ping_frame(payload), self._hub.heads()
        sent = payload, now
        for connection in due:
            self._ping_times[connection] = now + self.limits.heartbeat_seconds
            if connection in self._pong_deadlines and not connection.heard:
                continue  # pinged already; the grace is longer than the interval
            self._expect_pong(connection, connection.sending.accepted, now)
            self._pings[connection] = sent
            connection.ping(frame, payload, heads)

    def _excuse(self, now: float) -> None:
        """Put all deadlines off by how late this check is: so long, clients were not read from, or stopped with the gateway."""
        late = now - self._checked - self.interval
        self._checked = now
        if late > self.interval:
            self._pong_deadlines = {one: deadline + late for one, deadline in self._pong_deadlines.items()}
            self._stalled = {one: (deadline + late, before) for one, (deadline, before) in self._stalled.items()}

    def _expect_pong(self, connection: MonitoredConnection, accepted: int, now: float) -> None:
        self._pong_deadlines.pop(connection, None)  # to the end: deadlines stay in order
        self._pong_deadlines[connection] = now + self.limits.heartbeat_timeout_seconds
        self._accepted[connection] = accepted

    def _check_pongs(self, now: float) -> None:
        for connection in _take_due(self._pong_deadlines, now):
            accepted = self._accepted.pop(connection)
            if connection.heard:
                continue
            sending = connection.sending
            if sending.reset:  # not noticed, as the socket is not read from
                self._close(connection, CloseCode.HEARTBEAT_TIMEOUT)
            elif sending.accepted > accepted:
                self._expect_pong(connection, sending.accepted, now)  # it reads: the pong comes behind that
            elif sending.unsent:
                if connection not in self._stalled:
                    self.mark_stalled(connection, now=now)
            elif connection.reading_paused:
                self._expect_pong(connection, accepted, now)
            else:
                self._close(connection, CloseCode.HEARTBEAT_TIMEOUT)

    def _check_stalls(self, now: float) -> None:
        lag_max = self.limits.lag_events_max
        for connection, (deadline, before) in list(self._stalled.items()):
            sending = connection.sending
            if not sending.unsent:
                del self._stalled[connection]  # all that waited has been sent
                continue
            if sending.unsent < before.unsent or sending.accepted > before.accepted:
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
