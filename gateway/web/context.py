"""What every handler needs, handed in by the service under one key."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from aiohttp import web

from gateway.auth import Verifier
from gateway.config.model import Config
from gateway.core.ingest.pipeline import Pipeline
from gateway.core.protocol.deflate import Compressor
from gateway.core.sessions.hub import Hub
from gateway.core.sessions.permissions import Identity, Policy
from gateway.core.sessions.requests import ConnectRequest
from gateway.core.sessions.session import Session
from gateway.metrics import Metrics
from gateway.web.access import AddressLimit
from gateway.web.sockets.connection import Connection
from gateway.web.sockets.heartbeat import ClientHeartbeat
from gateway.web.sockets.writers import Sockets


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """How one endpoint of the bus is, for status and readiness."""

    endpoint: str
    mode: str
    """``connect`` or ``bind``."""
    state: str
    """``connecting``, ``connected``, ``listening``, ``refused``."""
    peers: int
    received: int
    reopened: int
    """How often the socket was replaced after the link ended for good."""
    last_event_seconds: float | None
    """How long ago the last message came; None before the first."""
    refused: int = 0
    """Handshakes that failed."""
    problem: str = ""
    """Why the last one did; empty once one succeeded."""


class Present(Protocol):
    """A client that is connected, to whichever process."""

    @property
    def client_id(self) -> str: ...
    @property
    def user_id(self) -> str | None: ...
    @property
    def session(self) -> Session | None: ...
    @property
    def address(self) -> str: ...
    @property
    def connected_ns(self) -> int: ...
    @property
    def lagging(self) -> bool: ...
    @property
    def lag(self) -> int: ...
    @property
    def buffered(self) -> int: ...


class Registry(Protocol):
    """Who knows all clients, where this process does not."""

    async def arrive(self, connection: Connection, connect_request: ConnectRequest) -> None:
        """Let a client in, or send it away."""
        ...

    async def may_become(self, session: Session, identity: Identity) -> bool:
        """Tell whether a user may have this client among its clients, and count it."""
        ...


async def _nothing() -> None:
    """Figures of this process are always those of now."""


@dataclass(slots=True)
class Context:
    """One gateway as its handlers see it; `now_ns` is unix time."""

    config: Config
    hub: Hub
    pipeline: Pipeline | None
    """From the bus to the logs; None where another process has it, and answers REST."""
    metrics: Metrics
    now_ns: Callable[[], int]
    started_ns: int
    heartbeat: ClientHeartbeat
    bus: Callable[[], list[EndpointStatus]]
    unready: Callable[[], list[str]]
    """Why the gateway is not ready; empty when it is."""
    policy: Policy
    verifier: Verifier | None
    """Who looks at tokens; None while the door is open."""
    refilling: Callable[[], bool] = lambda: False
    """Whether the logs are still being filled with what publishers hold."""
    draining: bool = False
    """Whether clients are being sent away."""
    connections: dict[str, Connection] = field(default_factory=dict)
    """Open WebSocket connections by client id."""
    registry: Registry | None = None
    """Who knows all clients, if that is another process."""
    present: Callable[[], Sequence[Present]] = field(init=False)
    """All clients that are connected, to whichever process."""
    refresh: Callable[[], Awaitable[None]] = _nothing
    """Waits for figures of now from other processes."""
    places: AddressLimit = field(init=False)
    """How many of them each address has."""
    sockets: Sockets = field(init=False)
    """How they are written to."""
    compressor: Compressor = field(init=False)
    """Who compresses messages for those who take them so."""

    def __post_init__(self) -> None:
        self.compressor = Compressor(
            self.config.clients.compression_bytes_min, on_compressed=self.metrics.compressed
        )
        self.sockets = Sockets(self.hub.fanout, io_uring=self.config.fanout.io_uring)
        self.places = AddressLimit(self.config.clients.connections_per_address_max)
        self.present = lambda: list(self.connections.values())


CONTEXT: web.AppKey[Context] = web.AppKey("context", Context)
