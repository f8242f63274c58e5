"""What the handlers of all requests share, stored in the application under one key."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from gateway.auth import Verifier
from gateway.config.model import Config
from gateway.core.ingest.pipeline import Pipeline
from gateway.core.protocol import messages
from gateway.core.protocol.deflate import Compressor
from gateway.core.protocol.errors import CloseCode
from gateway.core.protocol.msgpack import MsgpackEncoders
from gateway.core.sessions.broadcast import Broadcaster
from gateway.core.sessions.hub import Hub
from gateway.core.sessions.permissions import Identity, Policy
from gateway.core.sessions.requests import ConnectRequest
from gateway.core.sessions.session import Session
from gateway.metrics.metrics import EndpointStatus, Metrics
from gateway.runtime.system import ProcessUsage
from gateway.runtime.turns import Turns
from gateway.web.access import AccessPolicy, AddressLimit
from gateway.web.request_limit import RequestLimit
from gateway.web.sockets.connection import Connection, ConnectionKind
from gateway.web.sockets.heartbeat import ClientHeartbeat
from gateway.web.sockets.writers import SocketWriters


if TYPE_CHECKING:
    from gateway.cluster.cluster import Cluster


class ConnectedClient(Protocol):
    """A client that is connected to this process or to another one of the gateway."""

    @property
    def session(self) -> Session | None: ...
    @property
    def address(self) -> str: ...
    @property
    def kind(self) -> ConnectionKind: ...
    @property
    def connected_ns(self) -> int: ...
    @property
    def lagging(self) -> bool: ...
    @property
    def lag(self) -> int: ...
    @property
    def buffered(self) -> int: ...


class Admission(Protocol):
    """Decides which clients may connect, as whom, and what they may publish."""

    async def admit(self, context: "Context", connection: Connection, request: ConnectRequest) -> None:
        """Give an open connection its session, or close it."""

    async def allows_identity(self, context: "Context", session: Session, identity: Identity) -> bool:
        """Return whether a client may take an identity on, which then counts as its user's."""

    def publish(self, context: "Context", session: Session, message: messages.Publish) -> None:
        """Publish a connected client's event, and answer it."""


_PROXIED_AT_ONCE = 8
"""Requests that a worker passes on to its parent at once; the parent handles one after the other."""


async def _nothing() -> None:
    """The statistics of this process are always current."""


@dataclass(slots=True)
class Context:
    """One gateway as its handlers see it; `now_ns` returns unix time."""

    config: Config
    hub: Hub
    pipeline: Pipeline | None
    """From the bus to the logs; None where another process has it, and answers REST."""
    metrics: Metrics
    now_ns: Callable[[], int]
    started_ns: int
    bus: Callable[[], list[EndpointStatus]]
    unready: Callable[[], list[str]]
    """Why the gateway is not ready; empty if it is."""
    policy: Policy
    verifier: Verifier | None
    """Verifies tokens; None without authentication."""
    admission: Admission
    cluster: "Cluster | None" = None
    """The other gateways on the same bus; None if this one stands alone, and in workers."""
    refilling: Callable[[], bool] = lambda: False
    """Whether the logs are still being filled with what publishers hold."""
    draining: bool = False
    """Whether all clients are being closed, and none is admitted."""
    process: ProcessUsage = field(default_factory=ProcessUsage)
    connections: dict[str, Connection] = field(default_factory=dict)
    """Connections with a session, by client id."""
    connected_clients: Callable[[], Sequence[ConnectedClient]] = field(init=False)
    """All clients of the gateway, those of other processes too."""
    disconnect: Callable[[str, CloseCode], bool] = field(init=False)
    """Closes the connection of the client with this id, in whatever process; returns whether there is one."""
    let_go: Callable[[Session], Awaitable[None]] = field(init=False)
    """Ends a session that another gateway has taken, with its connection, in whatever process."""
    refresh_statistics: Callable[[], Awaitable[None]] = _nothing
    """Waits for current statistics from other processes."""
    heartbeat: ClientHeartbeat = field(init=False)
    access_policy: AccessPolicy = field(init=False)
    address_limit: AddressLimit = field(init=False)
    request_limit: RequestLimit = field(init=False)
    socket_writers: SocketWriters = field(init=False)
    turns: Turns = field(default_factory=Turns)
    broadcaster: Broadcaster | None = field(init=False)
    """Sends clients' events; None where another process does."""
    compressor: Compressor = field(init=False)
    msgpack: MsgpackEncoders = field(init=False)

    @property
    def in_worker(self) -> bool:
        """Whether another process reads the bus, knows all clients, and counts their connections."""
        return self.pipeline is None

    def __post_init__(self) -> None:
        self.compressor = Compressor(self.config.clients.compression_bytes_min, on_compressed=self.metrics.compressed)
        self.msgpack = MsgpackEncoders(self.compressor.frame)
        self.socket_writers = SocketWriters(self.hub.fanout, io_uring=self.config.fanout.io_uring)
        self.heartbeat = ClientHeartbeat(self.hub, self.config.clients, on_round_trip=self.metrics.round_trip)
        self.access_policy = AccessPolicy(self.config)
        self.address_limit = AddressLimit(self.config.clients.connections_per_address_max)
        self.request_limit = RequestLimit(
            self.config.http,
            at_once=1 if self.pipeline is not None else _PROXIED_AT_ONCE,
            on_refused=lambda: self.metrics.refused("busy"),
        )
        self.broadcaster = None if self.pipeline is None else Broadcaster(self.hub, self.pipeline)
        self.connected_clients = lambda: list(self.connections.values())
        self.disconnect = self._disconnect

    def _disconnect(self, client_id: str, code: CloseCode) -> bool:
        connection = self.connections.get(client_id)
        if connection is not None:
            connection.close(code)
        return connection is not None

    def disconnect_user(self, user_id: str) -> int:
        """Close the connections of a user's clients, in whatever processes; return how many there are."""
        sessions = self.hub.store.of_user(user_id)
        return sum(self.disconnect(one.client_id, CloseCode.DISCONNECTED) for one in sessions)

    def ask_to_move(self, count: int) -> None:
        """Ask so many clients to connect again, to whatever gateway, those first that have been connected for longest."""
        for client in islice(self.connected_clients(), count):
            if client.session is not None:
                self.disconnect(client.session.client_id, CloseCode.REBALANCED)

    def reload(self, config: Config, policy: Policy, verifier: Verifier | None) -> None:
        """Use another configuration for the requests that come from now on."""
        self.config, self.policy, self.verifier = config, policy, verifier
        self.access_policy = AccessPolicy(config)
        self.address_limit.per_address_max = config.clients.connections_per_address_max
        self.heartbeat.limits = config.clients


PREFIX: web.RequestKey[str] = web.RequestKey("prefix", str)
"""The path that a trusted proxy puts in front of the gateway's own."""

BODY: web.RequestKey[bytes] = web.RequestKey("body", bytes)
"""A request's body, where its route has one."""

CONTEXT: web.AppKey[Context] = web.AppKey("context", Context)
