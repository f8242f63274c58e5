"""A hub without sockets, and a peer that reads what is written to it, or stops reading."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.core.fanout.cohorts import Reader
from gateway.core.fanout.fanout import Fanout
from gateway.core.ingest.ingest import Ingest
from gateway.core.ingest.pipeline import Pipeline, Tick
from gateway.core.ingest.recovery import Recovery
from gateway.core.ingest.starts import STARTUP_NS
from gateway.core.ingest.streams import Streams
from gateway.core.log.logs import Logs
from gateway.core.log.retention import Retention
from gateway.core.protocol import messages
from gateway.core.protocol.channels import EVERYONE, PERSONAL
from gateway.core.protocol.messages import Broadcast, BroadcastResult, Position
from gateway.core.sessions.broadcast import Broadcaster, Sender
from gateway.core.sessions.hub import Hub, Welcome
from gateway.core.sessions.observer import LocalObserver
from gateway.core.sessions.permissions import Grants, Identity, Policy
from gateway.core.sessions.rate_limit import ClientLimits, RateLimit
from gateway.core.sessions.requests import ConnectRequest
from gateway.core.sessions.session import Session
from gateway.core.sessions.store import SessionStore


SECOND = 1_000_000_000


_BINARY = 0x82


class Core(Hub):
    """A hub, and the pipeline that fills its logs."""

    pipeline: Pipeline

    def tick(self, batch: Sequence[Sequence[bytes]], *, now_ns: int) -> Tick:
        return self.pipeline.receive(batch, now_ns=now_ns)

    def broadcast(self, message: Broadcast, by: Identity, *, now_ns: int) -> BroadcastResult:
        return Broadcaster(self, self.pipeline).send(message, Sender(by), now_ns=now_ns)


def make_hub(
    *,
    events_max: int = 1000,
    ttl_seconds: int = 300,
    channels_max: int = 20,
    epoch: str = "e1",
    disconnected_max: int = 5,
    retentions: Mapping[str, Retention] | None = None,
    started_ns: int = -STARTUP_NS,
    streams_max: int = 10,
) -> Core:
    logs = Logs(
        epoch=epoch, channels_max=channels_max, retention=Retention(events_max=events_max), retentions=retentions
    )
    ingest = Ingest(
        payload_bytes_max=10_000,
        rejections_max=10,
        admit=logs.admit,
        recovery=Recovery(
            streams=Streams(streams_max=streams_max),
            started_ns=started_ns,
            history=logs.history,
            admit=logs.admit,
            reached=logs.reached,
            is_numbered=logs.is_numbered,
        ),
    )
    pipeline = Pipeline(ingest=ingest, logs=logs)
    fanout = Fanout(logs.by_name, epoch=epoch)
    logs.on_append.append(fanout.deliver)
    hub = Core(
        logs=logs,
        fanout=fanout,
        store=SessionStore(
            epoch=epoch, ttl_ns=ttl_seconds * SECOND, messages_max=events_max, disconnected_max=disconnected_max
        ),
        welcome=Welcome(
            server=messages.Server("test", "0"),
            heartbeat_seconds=30,
            session_ttl_seconds=ttl_seconds,
            message_bytes_max=65536,
        ),
        limits=ClientLimits(
            subscriptions_max=8,
            wildcards_max=4,
            rates=dict.fromkeys(("messages", "subscribes", "publishes", "pings", "frames"), RateLimit(10**9, 1)),
        ),
        observer=LocalObserver(logs, fanout),
        bus_state=lambda: pipeline.bus_state,
    )
    hub.pipeline = pipeline
    return hub


_ALL = Grants((">",), (">", EVERYONE, PERSONAL), (">",), True)


def open_identity(user_id: str | None = None) -> Identity:
    """Return the identity of clients without authentication; it may do everything."""
    return replace(Policy({"all": _ALL}, "all").anonymous, user_id=user_id)


@dataclass(frozen=True, eq=False)
class Writer:
    write: Callable[[bytes], object]


class Socket:
    """The socket of a client's readers, one after the other; it is full while `writing_paused`."""

    _full = False
    _made: tuple[Fanout, Reader] | None = None

    @property
    def writing_paused(self) -> bool:
        return self._full

    @writing_paused.setter
    def writing_paused(self, full: bool) -> None:
        self._full = full
        if self._made is not None:
            fanout, reader = self._made
            (fanout.on_full if full else fanout.on_drained)(reader)

    def make_reader(self, fanout: Fanout, write: Callable[[bytes], object]) -> Reader:
        """Return the reader of the next connection; `writing_paused` stays as it is."""
        reader = Reader(writer=Writer(write), on_lag=lambda: None)
        self._made = fanout, reader
        self.writing_paused = self._full
        return reader


class Peer(Socket):
    """A client: decodes the frames that are written to it."""

    def __init__(self, hub: Hub, name: str) -> None:
        self.hub = hub
        self.name = name
        self.received: list[dict[str, Any]] = []
        self.session: Session | None = None
        self._ids = itertools.count(1)

    def connect(
        self,
        *channels: str,
        session: str | None = None,
        since: dict[str, Position] | None = None,
        last: int | None = None,
        user_id: str | None = None,
        identity: Identity | None = None,
        now_ns: int = 0,
    ) -> Session:
        number = next(self._ids)
        connect_request = ConnectRequest(
            client_id=f"{self.name}-{number}",
            secret=f"secret-{self.name}-{number}",
            identity=identity or open_identity(user_id),
            session=session,
            channels=channels,
            last=last,
            since=since,
        )
        self.session = self.hub.connect(connect_request, self._reader, now_ns=now_ns)
        return self.session

    def disconnect(self, *, now_ns: int = 0) -> None:
        assert self.session is not None
        self.hub.disconnect(self.session, code=1006, seconds=1, now_ns=now_ns)
        self.writing_paused = False

    def send(self, now_ns: int = 0, **message: Any) -> list[dict[str, Any]]:
        """Send a message; return what was received since."""
        assert self.session is not None
        at = len(self.received)
        self.hub.receive(self.session, json.dumps(message), now_ns=now_ns)
        return self.received[at:]

    def read_on(self) -> None:
        """Read again after `writing_paused`."""
        self.writing_paused = False
        assert self.session is not None
        reader = self.session.reader
        assert reader is not None
        if reader in self.hub.fanout.lagging:
            self.hub.fanout.catch_up(reader)

    def take(self) -> list[dict[str, Any]]:
        """Return what was received since the last call."""
        taken, self.received = self.received, []
        return taken

    def _reader(self) -> Reader:
        return self.make_reader(self.hub.fanout, self._write)

    def _write(self, data: bytes) -> None:
        while data:
            size, at = data[1], 2
            if size == 126:
                size, at = int.from_bytes(data[2:4]), 4
            elif size == 127:
                size, at = int.from_bytes(data[2:10]), 10
            payload = data[at : at + size]
            if data[0] == _BINARY:
                header = int.from_bytes(payload[:4])
                self.received.append({**json.loads(payload[4 : 4 + header]), "bytes": payload[4 + header :]})
            else:
                self.received.append(json.loads(payload))
            data = data[at + size :]


def publish(hub: Core, channel: str, count: int = 1, *, now_ns: int = 0) -> None:
    """Publish events, all in one tick."""
    payload = b'{"event_type":"x","data":{"client_id":"c","status":"s"}}'
    tick = hub.tick([[channel.encode(), payload]] * count, now_ns=now_ns)
    assert not tick.rejections
