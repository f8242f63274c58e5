"""The model: every setting with its limits, unit and default; below it, its documentation.

`gateway.config.settings` reads the documentation, too: it is in the help, the example file and docs."""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, Struct, field

from gateway.core.sources.spec import Spec


_INT_MAX = 2**31 - 1  # what ZeroMQ and the kernel's socket options can hold
_SECONDS_MAX = 1_000_000.0  # in milliseconds, still below _INT_MAX


def _number(unit: str, *, least: int = 0, most: int = _INT_MAX) -> Meta:
    return Meta(ge=least, le=most, extra={"unit": unit})


def _seconds(*, least: float = 0.0, most: float = _SECONDS_MAX) -> Meta:
    return Meta(ge=least, le=most, extra={"unit": "seconds"})


Seconds = Annotated[float, _seconds()]
Rate = Annotated[float, Meta(ge=0.01, le=_SECONDS_MAX, extra={"unit": "per second"})]


class Source(Spec, frozen=True, kw_only=True):
    """How one endpoint is read, if its publishers do not send what docs/protocol.md says (docs/decoders.md)."""

    endpoint: str
    """tcp:// or ipc:// endpoint; it need not be in `connect` or `bind`."""
    mode: Literal["connect", "bind"] = "connect"
    """Whether the gateway connects to the endpoint or binds it."""
    socket: Literal["sub", "pull"] = "sub"
    """The gateway's socket: sub for PUB and XPUB, pull for PUSH."""
    subscribe: tuple[str, ...] = ()
    """Prefixes of the topics to subscribe to; empty = all topics."""
    curve: bool = True
    """Whether the endpoint uses CURVE, if `bus.curve_key_file` is set."""
    preset: str = ""
    """Settings for known publishers; those given here override them."""


class Bus(Struct, frozen=True, kw_only=True):
    """The ZeroMQ side."""

    receive_hwm: Annotated[int, _number("messages", least=1)] = 100_000
    """High-water mark of the receiving socket (ZMQ_RCVHWM), per publisher."""
    message_bytes_max: Annotated[int, _number("bytes", least=64)] = 16_777_216
    """Largest message. ZeroMQ closes the connection of a publisher that sends a larger one."""
    connections_max: Annotated[int, _number("connections", least=1)] = 1_000
    """Connections to the endpoints that the gateway binds, all together. Beyond it the oldest that has sent
    nothing is closed, or else the newest."""
    heartbeat_seconds: Seconds = 5.0
    """Interval of ZeroMQ's pings on a connection; 0 = none, for publishers that cannot answer them."""
    heartbeat_timeout_seconds: Annotated[float, _seconds(least=0.02)] = 15.0
    """A connection without traffic for this long is closed and reopened."""
    reconnect_seconds: Annotated[float, _seconds(least=0.001)] = 0.1
    """Delay before the first attempt to reconnect."""
    reconnect_seconds_max: Annotated[float, _seconds(least=0.001)] = 1.0
    """The delay doubles with each attempt up to this. Both are shortened at random, by up to 40 %."""
    resolve_seconds: Annotated[float, _seconds(least=0.1)] = 5.0
    """Interval at which names in endpoints are looked up again; the gateway connects to each of their addresses."""
    discovery_seconds: Seconds = 0.5
    """At start, the time to hear from publishers before the gateway is ready."""
    on_demand_idle_seconds: Seconds = 30.0
    """An on-demand channel is unsubscribed this long after its last subscriber left."""
    batch_messages_max: Annotated[int, _number("messages", least=1)] = 2_000
    """Messages read from one endpoint in one batch."""
    publish: str = ""
    """tcp:// or ipc:// endpoint to bind, at which processes on the bus get the events that clients publish; "" = none."""
    publish_channels: tuple[str, ...] = (">",)
    """Channels and patterns of the events that are published there."""
    publish_replay: str = ""
    """Endpoint to bind, at which those processes ask for what they missed; "" = a free port of the same address."""
    curve_key_file: str = ""
    """The gateway's CURVE secret key, a .key_secret file of `gateway keys`; "" = no encryption and
    no authentication on the bus."""
    curve_server_key_file: str = ""
    """Public CURVE key of the publishers in `connect`."""
    curve_client_keys_dir: str = ""
    """Folder with the public CURVE keys of publishers that may connect to `bind`."""
    sources: tuple[Source, ...] = ()

    LIVE: ClassVar = ("curve_key_file", "curve_server_key_file", "curve_client_keys_dir", "sources")
    """The settings that a reload changes; the others need a restart."""


class Proxy(Struct, frozen=True, kw_only=True):
    """`gateway proxy`, which takes events from `connect` and `bind` to gateways elsewhere (docs/bus.md)."""

    publish: str = "tcp://127.0.0.1:5557"
    """tcp:// or ipc:// endpoint to bind, to which gateways connect."""
    replay: str = ""
    """Endpoint to bind, at which gateways ask for what they missed; "" = a free port of the same address."""
    send_hwm: Annotated[int, _number("messages", least=1)] = 100_000
    """High-water mark of the sending socket (ZMQ_SNDHWM), per gateway; one that is further behind loses messages, and
    asks for them."""


class Ingest(Struct, frozen=True, kw_only=True):
    """What is accepted from publishers."""

    payload_bytes_max: Annotated[int, _number("bytes", least=2)] = 1_048_576
    """Events with a larger payload are rejected."""
    nesting_max: Annotated[int, _number("levels", least=2, most=512)] = 128
    """Events with more deeply nested values are rejected."""
    channels_max: Annotated[int, _number("channels", least=1)] = 1_000
    """Open channels. Beyond that the longest silent one is closed that nobody subscribes to; if there is
    none, events of further topics are rejected."""
    streams_max: Annotated[int, _number("streams", least=1)] = 10_000
    """Streams (one topic of one publisher) whose sequence numbers are tracked; the longest silent
    are forgotten first."""
    rejections_max: Annotated[int, _number("rejections")] = 100
    """The newest rejections of each endpoint, kept for inspection over HTTP."""


class ChannelHistory(Struct, frozen=True, kw_only=True):
    """The events that a channel keeps."""

    events_max: Annotated[int, _number("events", least=1)] = 1_000
    """Events kept per channel; the oldest are dropped first."""
    bytes_max: Annotated[int, _number("bytes", least=1)] = 16_777_216
    """Memory for the events of a channel, with 250 bytes for each event beside its text; the newest event is always kept."""
    age_seconds_max: Seconds = 0.0
    """Older events are dropped; 0 = no limit."""
    key: str = ""
    """Path of the field that identifies the subject of an event, as in "data.host": current values
    and rates then apply per subject; "" = each channel has one subject."""
    keys_max: Annotated[int, _number("keys", least=1)] = 1_000
    """Subjects with a current value per channel; the least recently changed are dropped first, also if those that
    the history does not hold any more exceed bytes_max."""
    typed: bool = True
    """Check the data of events on the six standard channels; false = any JSON, as on other channels."""
    on_demand: bool = False
    """Subscribe on the bus only while a client is subscribed; the channel then has no history from
    before."""

    LIVE: ClassVar = ("events_max", "bytes_max", "age_seconds_max", "keys_max")
    """The settings that a reload changes; the others need a restart."""


class History(ChannelHistory, frozen=True, kw_only=True):
    """The events that each channel keeps, and all together; [channels.<name>] overrides the former for one channel."""

    total_bytes_max: Annotated[int, _number("bytes", most=2**53)] = 0
    """Memory for the events of all channels; beyond it the largest logs are cut to one size. 0 = a quarter
    of the memory of this machine or cgroup."""


class Clients(Struct, frozen=True, kw_only=True):
    """WebSocket and SSE clients, and their limits."""

    connections_max: Annotated[int, _number("clients", least=1)] = 10_000
    """Connected clients. Further ones are closed with 1013 (try later)."""
    connections_per_address_max: Annotated[int, _number("clients", least=1)] = 1_000
    """Connected clients from one address. Clients on this machine are exempt, unless a trusted
    proxy names their address."""
    connections_per_user_max: Annotated[int, _number("clients", least=1)] = 100
    """Connected clients of one user. Further ones are closed with 4503."""
    subscriptions_max: Annotated[int, _number("subscriptions", least=1)] = 128
    """Channels and patterns per client."""
    wildcards_max: Annotated[int, _number("subscriptions", least=0)] = 32
    """Patterns with wildcards among them, per client."""
    message_bytes_max: Annotated[int, _number("bytes", least=128)] = 65_536
    """Largest message from a client. A larger one closes its connection (1009)."""
    compression_bytes_min: Annotated[int, _number("bytes")] = 0
    """Messages of this size and more are compressed for clients that offer permessage-deflate; 0 =
    never."""
    heartbeat_seconds: Annotated[float, _seconds(least=0.01)] = 30.0
    """Interval of pings on a connection without traffic."""
    heartbeat_timeout_seconds: Annotated[float, _seconds(least=0.01)] = 10.0
    """A client that does not answer a ping within this time is closed (4001). Time in which the gateway did not run, as in a
    pause of its machine, does not count."""
    handshake_timeout_seconds: Annotated[float, _seconds(least=0.01)] = 10.0
    """Time to send the head of an HTTP request, TLS handshake included, and again its body."""
    header_bytes_max: Annotated[int, _number("bytes", least=1024, most=16_384)] = 8_190
    """Largest single header, and largest request line, such as those with cookies or tokens."""
    keepalive_timeout_seconds: Annotated[float, _seconds(least=0.01)] = 75.0
    """An HTTP connection without a further request is closed after this time; a proxy in front must
    close its own earlier."""
    write_buffer_bytes_max: Annotated[int, _number("bytes", least=1)] = 65_536
    """A client with more unsent bytes lags: it reads on from the channels' logs."""
    send_buffer_bytes: Annotated[int, _number("bytes")] = 262_144
    """The kernel's send buffer per client (SO_SNDBUF); 0 = kernel default."""
    stall_timeout_seconds: Annotated[float, _seconds(least=0.01)] = 120.0
    """A lagging client that reads nothing for this long is closed (4000)."""
    lag_events_max: Annotated[int, _number("events")] = 0
    """A lagging client further behind than this is closed (4000); 0 = no limit."""
    messages_burst: Annotated[int, _number("messages", least=1)] = 60
    """Messages that a client may send at once."""
    messages_per_second: Rate = 10.0
    """Sustained rate of a client's messages; above it they get an error."""
    subscribes_burst: Annotated[int, _number("messages", least=1)] = 30
    """The same for subscribe and unsubscribe messages."""
    subscribes_per_second: Rate = 1.0
    """Sustained rate of subscribe and unsubscribe messages."""
    publishes_burst: Annotated[int, _number("messages", least=1)] = 100
    """The same for events that a client publishes over its WebSocket."""
    publishes_per_second: Rate = 20.0
    """Sustained rate of events that a client publishes over its WebSocket."""
    pings_burst: Annotated[int, _number("messages", least=1)] = 120
    """The same for pings, as messages and as WebSocket frames."""
    pings_per_second: Rate = 2.0
    """Sustained rate of pings."""

    LIVE: ClassVar = (
        "connections_max",
        "connections_per_address_max",
        "connections_per_user_max",
        "subscriptions_max",
        "wildcards_max",
        "message_bytes_max",
        "write_buffer_bytes_max",
        "lag_events_max",
        "messages_burst",
        "messages_per_second",
        "subscribes_burst",
        "subscribes_per_second",
        "publishes_burst",
        "publishes_per_second",
        "pings_burst",
        "pings_per_second",
    )
    """The settings that a reload changes; the others need a restart."""


class Http(Struct, frozen=True, kw_only=True):
    """Requests other than those of clients, and their limits."""

    requests_waiting_max: Annotated[int, _number("requests", least=1)] = 256
    """Requests that wait for their turn. Further ones get 503, and so does one that waits for 5 s."""
    bodies_bytes_max: Annotated[int, _number("bytes", least=1)] = 33_554_432
    """No further body is read while the bodies of requests hold so much."""
    answers_bytes_max: Annotated[int, _number("bytes", least=1)] = 8_388_608
    """No further answer is begun while those that are being sent hold so much; if one waits, the answer
    that has been sent for longest is broken off after 2 s."""


class Fanout(Struct, frozen=True, kw_only=True):
    """How events are written to clients."""

    batching: Literal["adaptive", "fixed"] = "adaptive"
    """adaptive = delay writes only under load, to batch events; fixed = always delay them."""
    batch_delay_seconds_max: Annotated[float, _seconds(most=1)] = 0.01
    """Longest delay of a write, to batch events; 0 = no batching."""
    io_uring: bool = True
    """Write to many clients with one system call, where Linux supports it. The event loop's own ring stays."""


class Sessions(Struct, frozen=True, kw_only=True):
    """Sessions of disconnected clients, which may resume."""

    ttl_seconds: Seconds = 300.0
    """How long a disconnected client can resume its session; 0 = never."""
    messages_max: Annotated[int, _number("messages")] = 1_000
    """Personal messages kept per session; the oldest are dropped first."""
    disconnected_max: Annotated[int, _number("sessions")] = 10_000
    """Sessions of disconnected clients; the oldest are dropped first."""

    LIVE: ClassVar = ("ttl_seconds", "messages_max", "disconnected_max")
    """The settings that a reload changes; the others need a restart."""


class Auth(Struct, frozen=True, kw_only=True):
    """Authentication. One of `secret`, `secret_file`, `public_key_file` and `jwks_url` enables it."""

    secret: Annotated[str, Meta(extra={"secret": True})] = ""
    """Secret that tokens are signed with (HS256), at least 32 bytes."""
    secret_file: str = ""
    """File that holds the secret, or folder of such files: tokens signed with any of them are valid."""
    public_key_file: str = ""
    """Public key in PEM that verifies tokens; its type sets the algorithm: RSA RS256, P-256 ES256,
    Ed25519 EdDSA."""
    jwks_url: str = ""
    """https URL of a JWK set with the public keys that verify tokens."""
    jwks_refresh_seconds: Annotated[float, _seconds(least=10)] = 300.0
    """The JWK set is fetched again within this time."""
    insecure_jwks: bool = False
    """Allow http:// in jwks_url. Anyone on the network path can then replace the keys."""
    audience: str = ""
    """Required `aud` of tokens; "" = tokens with an `aud` are refused."""
    issuer: str = ""
    """Required `iss` of tokens; "" = any."""
    leeway_seconds: Seconds = 5.0
    """Tolerated difference between the clocks of the issuer and the gateway."""
    query_token: bool = False
    """Accept tokens in ?token= too, although proxies and browsers store addresses."""
    unauthenticated_role: str = "admin"
    """Role of every client while authentication is disabled."""
    timeout_seconds: Annotated[float, _seconds(least=0.01)] = 10.0
    """A client that neither authenticates nor subscribes within this time is closed (4502)."""
    anonymous_seconds_max: Seconds = 0.0
    """A client without a token is closed (4502) after this time; 0 = never."""
    expiry_warning_seconds: Seconds = 30.0
    """How long before its token expires a client gets `token_expiring`."""

    SOURCES: ClassVar = ("secret", "secret_file", "public_key_file", "jwks_url")
    LIVE: ClassVar = (
        *SOURCES,
        "jwks_refresh_seconds",
        "insecure_jwks",
        "audience",
        "issuer",
        "leeway_seconds",
        "query_token",
        "unauthenticated_role",
        "timeout_seconds",
        "anonymous_seconds_max",
        "expiry_warning_seconds",
    )
    """The settings that a reload changes; but it neither enables nor disables authentication."""

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        return f"Auth({shown | {'secret': '***' if self.secret else ''}})"

    @property
    def required(self) -> bool:
        """Whether authentication is enabled."""
        return any(getattr(self, name) for name in self.SOURCES)


class Role(Struct, frozen=True, kw_only=True):
    """The permissions of a role, as patterns of channels; all clients also have those of `anonymous`."""

    subscribe: tuple[str, ...] = ()
    """Channels to subscribe to and read the history of."""
    publish: tuple[str, ...] = ()
    """Channels to broadcast to; $everyone and $personal must be listed by name."""
    presence: tuple[str, ...] = ()
    """Channels to list the subscribers of."""
    admin: bool = False
    """Read the gateway's own state: status, clients, metrics."""

    LIVE: ClassVar = ("subscribe", "publish", "presence", "admin")
    """The settings that a reload changes; the others need a restart."""


ROLES = {
    "anonymous": Role(subscribe=("metrics", "status")),
    "bot": Role(subscribe=("signals",)),
    "developer": Role(subscribe=("signals", "actions", "logs", "logs.>")),
    "monitor": Role(admin=True),
    "admin": Role(subscribe=(">",), publish=(">", "$everyone", "$personal"), presence=(">",), admin=True),
}
"""The built-in roles: those of the first NeuroGraph server, and one for a Prometheus scraper."""


class Tls(Struct, frozen=True, kw_only=True):
    """https and wss. Changed files are loaded without a restart."""

    cert_file: str = ""
    """Certificate and its chain in PEM; "" = http and ws without TLS."""
    key_file: str = ""
    """Its private key in PEM, without a password."""

    LIVE: ClassVar = ("cert_file", "key_file")
    """The settings that a reload changes; the others need a restart."""


class Cluster(Struct, frozen=True, kw_only=True):
    """Several gateways on one bus that act as one, by means of Redis or Valkey (docs/cluster.md)."""

    url: Annotated[str, Meta(extra={"secret": True})] = ""
    """redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], rediss:// for TLS, or with Sentinel
    redis+sentinel://HOST[:PORT],HOST[:PORT]/SERVICE[/DATABASE]; "" = this gateway stands alone."""
    password_file: str = ""
    """File that holds the password, instead of one in `url`."""
    ca_file: str = ""
    """Certificates in PEM that verify a server with TLS; "" = those of the system."""
    prefix: str = "neurograph"
    """Begin of all keys; gateways with the same one are a cluster."""
    name: str = ""
    """This gateway's name in the cluster; "" = its host name and port."""
    timeout_seconds: Annotated[float, _seconds(least=0.05, most=60)] = 4.0
    """How long Redis may take to connect and to answer. Then what needs it is refused, until it answers again. On a busy
    machine, or while it begins to save its data, Redis may not answer for a second or two; one whose process has ended is
    noticed at once. While it hangs, what needs it waits for so long."""
    ttl_seconds: Annotated[float, _seconds(least=0.5, most=3600)] = 10.0
    """A gateway that has not reported for so long is gone, and so are its clients."""
    balance: bool = False
    """Ask some clients to connect again if this gateway has noticeably more than the others, for which the balancer
    must know them all."""
    numbering: Literal["each", "one"] = "each"
    """Who numbers messages of the bus without envelopes: each gateway for itself, or one for all (docs/cluster.md)."""

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        return f"Cluster({shown | {'url': '***' if self.url else ''}})"


class Shutdown(Struct, frozen=True, kw_only=True):
    """How the gateway stops on SIGTERM or SIGINT."""

    timeout_seconds: Annotated[float, _seconds(least=0.01)] = 10.0
    """Clients still connected after this time are disconnected."""
    reconnect_spread_seconds: Seconds = 5.0
    """Each client is asked to reconnect after a random part of this time."""

    LIVE: ClassVar = ("timeout_seconds", "reconnect_spread_seconds")
    """The settings that a reload changes; the others need a restart."""


class Logging(Struct, frozen=True, kw_only=True):
    """The gateway's own log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe level that is logged."""
    format: Literal["auto", "console", "json"] = "auto"
    """auto = console on a terminal, otherwise JSON lines."""

    LIVE: ClassVar = ("level", "format")
    """The settings that a reload changes; the others need a restart."""


class Config(Struct, frozen=True, kw_only=True):
    """Every setting. `gateway.config.load` makes a checked one."""

    host: str | tuple[str, ...] = "127.0.0.1"
    """Address to serve HTTP and WebSocket on, or a list of them, all at the same port; "::" = all
    addresses, of IPv4 and IPv6."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    """Port to serve on; 0 = any free port."""
    workers: Annotated[int, _number("processes", least=1, most=64)] = 1
    """Processes that serve the clients; 1 = one process does everything."""
    control_file: str = ""
    """Unix socket at which `gateway reload` and `gateway upgrade` reach the gateway; "" = none. Only
    its user may use it."""
    connect: tuple[str, ...] = ("tcp://127.0.0.1:5555",)
    """tcp:// or ipc:// endpoints of publishers, to which the gateway connects."""
    bind: str = "tcp://127.0.0.1:5556"
    """Endpoint that the gateway binds, for publishers; "" = none."""
    insecure_allow_remote: bool = False
    """Allow addresses that other machines can reach although clients or publishers are not
    authenticated."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of web pages that may use the gateway, as in "https://dash.example"; the gateway's
    own origin always may; "*" = all."""
    allowed_hosts: tuple[str, ...] = ()
    """Host names that requests may use, besides the gateway's addresses and localhost. Empty = no
    others if only this machine is served, else any name."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of proxies whose X-Forwarded-For, -Proto and -Prefix are used."""
    figures_seconds: Seconds = 5.0
    """Interval of the gateway's own figures, which are events on the channel `metrics.gateway`; 0 = none."""
    auth: Auth = Auth()
    roles: dict[str, Role] = field(default_factory=ROLES.copy)
    tls: Tls = Tls()
    bus: Bus = Bus()
    proxy: Proxy = Proxy()
    ingest: Ingest = Ingest()
    history: History = History()
    channels: dict[str, ChannelHistory] = {}
    fanout: Fanout = Fanout()
    clients: Clients = Clients()
    http: Http = Http()
    sessions: Sessions = Sessions()
    cluster: Cluster = Cluster()
    shutdown: Shutdown = Shutdown()
    logging: Logging = Logging()
    secret_files: dict[str, str] = {}  # no setting: the settings whose secrets a configuration file has, and that file

    @property
    def hosts(self) -> tuple[str, ...]:
        """The addresses to serve on."""
        return (self.host,) if isinstance(self.host, str) else self.host

    LIVE: ClassVar = ("connect", "bind", "insecure_allow_remote", "allowed_origins", "allowed_hosts", "trusted_proxies")
    """The settings that a reload changes; the others need a restart."""
