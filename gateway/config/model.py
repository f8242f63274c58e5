"""The model: every setting with its default, limits, unit and one sentence of documentation."""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field


_INT_MAX = 2**31 - 1  # what ZeroMQ and the kernel's socket options can hold
_SECONDS_MAX = 1_000_000.0  # in milliseconds, still below _INT_MAX


def _number(unit: str, doc: str, *, least: int = 0, most: int = _INT_MAX) -> Meta:
    return Meta(ge=least, le=most, description=doc, extra={"unit": unit})


def _duration(doc: str, *, least: float = 0.0, most: float = _SECONDS_MAX) -> Meta:
    return Meta(ge=least, le=most, description=doc, extra={"unit": "seconds"})


def _rate(doc: str) -> Meta:
    return Meta(ge=0.01, le=_SECONDS_MAX, description=doc, extra={"unit": "per second"})


class Bus(Struct, frozen=True, kw_only=True):
    """The ZeroMQ side."""

    receive_hwm: Annotated[
        int,
        _number(
            "messages",
            "High-water mark of the receiving socket (ZMQ_RCVHWM), per publisher.",
            least=1,
        ),
    ] = 100_000
    message_bytes_max: Annotated[
        int,
        _number(
            "bytes",
            "Largest message. ZeroMQ closes the connection of a publisher that sends a larger one.",
            least=64,
        ),
    ] = 16_777_216
    heartbeat_seconds: Annotated[
        float, _duration("Interval of ZeroMQ's pings on a connection without traffic.", least=0.01)
    ] = 5.0
    heartbeat_timeout_seconds: Annotated[
        float,
        _duration("A connection without traffic for this long is closed and reopened.", least=0.02),
    ] = 15.0
    reconnect_seconds: Annotated[
        float, _duration("Delay before the first attempt to reconnect.", least=0.001)
    ] = 0.1
    reconnect_seconds_max: Annotated[
        float, _duration("The delay doubles with each attempt up to this.", least=0.001)
    ] = 5.0
    discovery_seconds: Annotated[
        float, _duration("At start, the time to hear from publishers before the gateway is ready.")
    ] = 0.5
    on_demand_idle_seconds: Annotated[
        float,
        _duration("An on-demand channel is unsubscribed this long after its last subscriber left."),
    ] = 30.0
    batch_messages_max: Annotated[
        int, _number("messages", "Messages read from one endpoint in one batch.", least=1)
    ] = 2_000
    curve_key_file: Annotated[
        str,
        Meta(
            description="The gateway's CURVE secret key, a .key_secret file of `gateway keys`; "
            '"" = no encryption and no authentication on the bus.'
        ),
    ] = ""
    curve_server_key_file: Annotated[
        str, Meta(description="Public CURVE key of the publishers in `connect`.")
    ] = ""
    curve_client_keys_dir: Annotated[
        str,
        Meta(
            description="Folder with the public CURVE keys of publishers that may connect to `bind`."
        ),
    ] = ""


class Ingest(Struct, frozen=True, kw_only=True):
    """What is accepted from publishers."""

    payload_bytes_max: Annotated[
        int, _number("bytes", "Events with a larger payload are rejected.", least=2)
    ] = 1_048_576
    nesting_max: Annotated[
        int,
        _number("levels", "Events with more deeply nested values are rejected.", least=2, most=512),
    ] = 128
    channels_max: Annotated[
        int, _number("channels", "Open channels. Events of further topics are rejected.", least=1)
    ] = 1_000
    streams_max: Annotated[
        int,
        _number(
            "streams",
            "Streams (one topic of one publisher) whose sequence numbers are tracked; "
            "the longest silent are forgotten first.",
            least=1,
        ),
    ] = 10_000
    rejections_max: Annotated[
        int, _number("rejections", "The newest rejections, kept for inspection over HTTP.")
    ] = 100


class History(Struct, frozen=True, kw_only=True):
    """The events that each channel keeps; [channels.<name>] overrides this for one channel."""

    events_max: Annotated[
        int, _number("events", "Events kept per channel; the oldest are dropped first.", least=1)
    ] = 1_000
    bytes_max: Annotated[
        int,
        _number(
            "bytes", "Encoded bytes kept per channel; the newest event is always kept.", least=1
        ),
    ] = 16_777_216
    age_seconds_max: Annotated[float, _duration("Older events are dropped; 0 = no limit.")] = 0.0
    key: Annotated[
        str,
        Meta(
            description='Path of the field that identifies the subject of an event, as in "data.host": '
            "current values and rates then apply per subject; "
            '"" = each channel has one subject.'
        ),
    ] = ""
    keys_max: Annotated[
        int,
        _number(
            "keys",
            "Subjects with a current value per channel; the least recently changed are dropped first.",
            least=1,
        ),
    ] = 1_000
    on_demand: Annotated[
        bool,
        Meta(
            description="Subscribe on the bus only while a client is subscribed; "
            "the channel then has no history from before."
        ),
    ] = False


class Clients(Struct, frozen=True, kw_only=True):
    """WebSocket and SSE clients, and their limits."""

    connections_max: Annotated[
        int,
        _number(
            "clients", "Connected clients. Further ones are closed with 1013 (try later).", least=1
        ),
    ] = 10_000
    connections_per_address_max: Annotated[
        int,
        _number(
            "clients",
            "Connected clients from one address. Clients on this machine are exempt, "
            "unless a trusted proxy names their address.",
            least=1,
        ),
    ] = 1_000
    connections_per_user_max: Annotated[
        int,
        _number(
            "clients", "Connected clients of one user. Further ones are closed with 4503.", least=1
        ),
    ] = 100
    subscriptions_max: Annotated[
        int, _number("subscriptions", "Channels and patterns per client.", least=1)
    ] = 128
    wildcards_max: Annotated[
        int, _number("subscriptions", "Patterns with wildcards among them, per client.", least=0)
    ] = 32
    message_bytes_max: Annotated[
        int,
        _number(
            "bytes",
            "Largest message from a client. A larger one closes its connection (1009).",
            least=128,
        ),
    ] = 65_536
    compression_bytes_min: Annotated[
        int,
        _number(
            "bytes",
            "Messages of this size and more are compressed for clients that offer "
            "permessage-deflate; 0 = never.",
        ),
    ] = 0
    heartbeat_seconds: Annotated[
        float, _duration("Interval of pings on a connection without traffic.", least=0.01)
    ] = 30.0
    heartbeat_timeout_seconds: Annotated[
        float,
        _duration(
            "A client that does not answer a ping within this time is closed (4001).", least=0.01
        ),
    ] = 10.0
    handshake_timeout_seconds: Annotated[
        float,
        _duration(
            "Time to send the head of an HTTP request, TLS handshake included, and again its body.",
            least=0.01,
        ),
    ] = 10.0
    write_buffer_bytes_max: Annotated[
        int,
        _number(
            "bytes",
            "A client with more unsent bytes lags: it reads on from the channels' logs.",
            least=1,
        ),
    ] = 65_536
    send_buffer_bytes: Annotated[
        int,
        _number("bytes", "The kernel's send buffer per client (SO_SNDBUF); 0 = kernel default."),
    ] = 262_144
    stall_timeout_seconds: Annotated[
        float,
        _duration(
            "A lagging client that reads nothing for this long is closed (4000).", least=0.01
        ),
    ] = 120.0
    lag_events_max: Annotated[
        int,
        _number(
            "events", "A lagging client further behind than this is closed (4000); 0 = no limit."
        ),
    ] = 0
    messages_burst: Annotated[
        int, _number("messages", "Messages that a client may send at once.", least=1)
    ] = 60
    messages_per_second: Annotated[
        float, _rate("Sustained rate of a client's messages; above it they get an error.")
    ] = 10.0
    subscribes_burst: Annotated[
        int, _number("messages", "The same for subscribe and unsubscribe messages.", least=1)
    ] = 30
    subscribes_per_second: Annotated[
        float, _rate("Sustained rate of subscribe and unsubscribe messages.")
    ] = 1.0
    pings_burst: Annotated[
        int,
        _number("messages", "The same for pings, as messages and as WebSocket frames.", least=1),
    ] = 120
    pings_per_second: Annotated[float, _rate("Sustained rate of pings.")] = 2.0


class Fanout(Struct, frozen=True, kw_only=True):
    """How events are written to clients."""

    batching: Annotated[
        Literal["adaptive", "fixed"],
        Meta(
            description="adaptive = delay writes only under load, to batch events; "
            "fixed = always delay them."
        ),
    ] = "adaptive"
    batch_delay_seconds_max: Annotated[
        float, _duration("Longest delay of a write, to batch events; 0 = no batching.", most=1)
    ] = 0.01
    io_uring: Annotated[
        bool,
        Meta(description="Write to many clients with one system call, where Linux supports it."),
    ] = True


class Sessions(Struct, frozen=True, kw_only=True):
    """Sessions of disconnected clients, which may resume."""

    ttl_seconds: Annotated[
        float, _duration("How long a disconnected client can resume its session; 0 = never.")
    ] = 300.0
    messages_max: Annotated[
        int,
        _number("messages", "Personal messages kept per session; the oldest are dropped first."),
    ] = 1_000
    disconnected_max: Annotated[
        int, _number("sessions", "Sessions of disconnected clients; the oldest are dropped first.")
    ] = 10_000


class Auth(Struct, frozen=True, kw_only=True):
    """Authentication. One of `secret`, `secret_file`, `public_key_file` and `jwks_url` enables it."""

    secret: Annotated[
        str,
        Meta(
            description="Secret that tokens are signed with (HS256), at least 32 bytes.",
            extra={"secret": True},
        ),
    ] = ""
    secret_file: Annotated[str, Meta(description="File that holds the secret.")] = ""
    public_key_file: Annotated[
        str,
        Meta(
            description="Public key in PEM that verifies tokens; its type sets the algorithm: "
            "RSA RS256, P-256 ES256, Ed25519 EdDSA."
        ),
    ] = ""
    jwks_url: Annotated[
        str, Meta(description="https URL of a JWK set with the public keys that verify tokens.")
    ] = ""
    jwks_refresh_seconds: Annotated[
        float, _duration("The JWK set is fetched again within this time.", least=10)
    ] = 300.0
    insecure_jwks: Annotated[
        bool,
        Meta(
            description="Allow http:// in jwks_url. Anyone on the network path can then replace the keys."
        ),
    ] = False
    audience: Annotated[
        str, Meta(description='Required `aud` of tokens; "" = tokens with an `aud` are refused.')
    ] = ""
    issuer: Annotated[str, Meta(description='Required `iss` of tokens; "" = any.')] = ""
    leeway_seconds: Annotated[
        float, _duration("Tolerated difference between the clocks of the issuer and the gateway.")
    ] = 5.0
    query_token: Annotated[
        bool,
        Meta(
            description="Accept tokens in ?token= too, although proxies and browsers store addresses."
        ),
    ] = False
    unauthenticated_role: Annotated[
        str, Meta(description="Role of every client while authentication is disabled.")
    ] = "admin"
    timeout_seconds: Annotated[
        float,
        _duration(
            "A client that neither authenticates nor subscribes within this time is closed (4502).",
            least=0.01,
        ),
    ] = 10.0
    anonymous_seconds_max: Annotated[
        float, _duration("A client without a token is closed (4502) after this time; 0 = never.")
    ] = 0.0
    expiry_warning_seconds: Annotated[
        float, _duration("How long before its token expires a client gets `token_expiring`.")
    ] = 30.0

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        return f"Auth({shown | {'secret': '***' if self.secret else ''}})"

    @property
    def required(self) -> bool:
        """Whether authentication is enabled."""
        return any((self.secret, self.secret_file, self.public_key_file, self.jwks_url))


class Role(Struct, frozen=True, kw_only=True):
    """The permissions of a role, as patterns of channels; all clients also have those of `anonymous`."""

    subscribe: Annotated[
        tuple[str, ...], Meta(description="Channels to subscribe to and read the history of.")
    ] = ()
    publish: Annotated[
        tuple[str, ...],
        Meta(
            description="Channels to broadcast to; $everyone and $personal must be listed by name."
        ),
    ] = ()
    presence: Annotated[
        tuple[str, ...], Meta(description="Channels to list the subscribers of.")
    ] = ()
    admin: Annotated[
        bool, Meta(description="Read the gateway's own state: status, clients, metrics.")
    ] = False


ROLES = {
    "anonymous": Role(subscribe=("metrics", "status")),
    "bot": Role(subscribe=("signals",)),
    "developer": Role(subscribe=("signals", "actions", "logs", "logs.>")),
    "monitor": Role(admin=True),
    "admin": Role(
        subscribe=(">",), publish=(">", "$everyone", "$personal"), presence=(">",), admin=True
    ),
}
"""The built-in roles: those of the first NeuroGraph server, and one for a Prometheus scraper."""


class Tls(Struct, frozen=True, kw_only=True):
    """https and wss. Changed files are loaded without a restart."""

    cert_file: Annotated[
        str, Meta(description='Certificate and its chain in PEM; "" = http and ws without TLS.')
    ] = ""
    key_file: Annotated[str, Meta(description="Its private key in PEM, without a password.")] = ""


class Shutdown(Struct, frozen=True, kw_only=True):
    """How the gateway stops on SIGTERM or SIGINT."""

    timeout_seconds: Annotated[
        float, _duration("Clients still connected after this time are disconnected.", least=0.01)
    ] = 10.0
    reconnect_spread_seconds: Annotated[
        float, _duration("Each client is asked to reconnect after a random part of this time.")
    ] = 5.0


class Logging(Struct, frozen=True, kw_only=True):
    """The gateway's own log, on standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The least severe level that is logged."),
    ] = "info"
    format: Annotated[
        Literal["auto", "console", "json"],
        Meta(description="auto = console on a terminal, otherwise JSON lines."),
    ] = "auto"


class Config(Struct, frozen=True, kw_only=True):
    """Every setting. `gateway.config.load` makes a checked one."""

    host: Annotated[str, Meta(description="Address to serve HTTP and WebSocket on.")] = "127.0.0.1"
    port: Annotated[
        int, Meta(ge=0, le=65535, description="Port to serve on; 0 = any free port.")
    ] = 8000
    workers: Annotated[
        int,
        _number(
            "processes",
            "Processes that serve the clients; 1 = one process does everything.",
            least=1,
            most=64,
        ),
    ] = 1
    connect: Annotated[
        tuple[str, ...],
        Meta(
            description="tcp:// or ipc:// endpoints of publishers, to which the gateway connects."
        ),
    ] = ("tcp://127.0.0.1:5555",)
    bind: Annotated[
        str, Meta(description='Endpoint that the gateway binds, for publishers; "" = none.')
    ] = "tcp://127.0.0.1:5556"
    insecure_allow_remote: Annotated[
        bool,
        Meta(
            description="Allow addresses that other machines can reach although clients or publishers "
            "are not authenticated."
        ),
    ] = False
    allowed_origins: Annotated[
        tuple[str, ...],
        Meta(
            description='Origins of web pages that may use the gateway, as in "https://dash.example"; '
            'the gateway\'s own origin always may; "*" = all.'
        ),
    ] = ()
    allowed_hosts: Annotated[
        tuple[str, ...],
        Meta(
            description="Host names that requests may use, besides the gateway's address and localhost. "
            "Empty = no others on a loopback address, any name elsewhere."
        ),
    ] = ()
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses or networks of proxies whose X-Forwarded-For and X-Forwarded-Proto "
            "are used."
        ),
    ] = ()
    auth: Auth = Auth()
    roles: dict[str, Role] = field(default_factory=ROLES.copy)
    tls: Tls = Tls()
    bus: Bus = Bus()
    ingest: Ingest = Ingest()
    history: History = History()
    channels: dict[str, History] = {}
    fanout: Fanout = Fanout()
    clients: Clients = Clients()
    sessions: Sessions = Sessions()
    shutdown: Shutdown = Shutdown()
    logging: Logging = Logging()

    def history_of(self, channel: str) -> History:
        """Return the history settings of a channel: its own, or those of all channels."""
        return self.channels.get(channel, self.history)
